// The page's only script: it requests the same addresses that anyone may request, and shows what they respond.
"use strict";

const at = (id) => document.getElementById(id);
const { nobody: NOBODY, useridsAreText, stars: STARS } = document.body.dataset; // nobody: a user that no store knows
const RATINGS = document.body.dataset.ratings.split(" ").map(Number);
// What a list had to do without, by the service that could not be used.
const MISSING = {
  redis: "popular items: what you liked is not at hand now",
  elasticsearch: "popular items: the search for what suits you is not at hand now",
  feast: "ranked without your profile, which is not at hand now",
  triton: "in the order in which it was found: the ranking is not at hand now",
};
const MOST_SIMILAR = 10;
let shown = new Set(); // the items of the list on the page
let listId = ""; // the request of that list, which a rating names: the log then knows what it answers
let told = ""; // what is said of the list, for when the page shows lists again
let pending = []; // the ratings that wait for a token, where the server asks for one
let present = NOBODY; // the user on the page
let has = { similar: false, because: false }; // what this server can tell, by its own /openapi.json
let latest = 0; // number of the latest request: a slow response to an earlier one must not replace its list

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function request(path, options, look) {
  const response = await fetch(path, options);
  const content = await response.json();
  if (!response.ok) {
    throw Object.assign(new Error(`${content.error.field}: ${content.error.rule}`), { status: response.status });
  }
  look?.(response.headers);
  return content;
}

function shownRating(rating) {
  return STARS === undefined ? String(rating) : `${"★".repeat(Math.max(rating, 0))}${rating % 1 ? "½" : ""}` || "0";
}

function titleOf(item) {
  return item.title || String(item.itemid);
}

function showTiming(milliseconds) {
  const most = Math.max(...Object.values(milliseconds), 0.001);
  at("timing").replaceChildren(...Object.entries(milliseconds).map(([name, time]) => {
    const row = element("div");
    const bar = element("i");
    bar.style.width = `${(100 * time) / most}%`;
    row.append(element("span", name), bar, element("span", `${time.toFixed(1)} ms`));
    return row;
  }));
}

function showHistory(items) {
  const lines = items.map((item) => {
    const line = element("li", titleOf(item));
    line.append(element("small", `${shownRating(item.rating)} ${item.genres.join(", ")}`));
    return line;
  });
  at("history").replaceChildren(...(lines.length ? lines : [element("li", "None known.")]));
}

function rating(userid, item) {
  const select = element("select");
  select.setAttribute("aria-label", `Rate ${titleOf(item)}`);
  select.append(new Option("–", ""));
  for (const offered of RATINGS) select.append(new Option(shownRating(offered), offered));
  select.disabled = userid === NOBODY;
  select.addEventListener("change", () => select.value && rate(userid, item, Number(select.value)));
  return select;
}

// The title, as a button where the server can tell what is similar.
function titled(item) {
  if (!has.similar) return element("span", titleOf(item));
  const button = element("button", titleOf(item), "title");
  button.type = "button";
  button.setAttribute("aria-label", `${titleOf(item)}: similar items`);
  button.addEventListener("click", () => showSimilar(item));
  return button;
}

async function showSimilar(item) {
  try {
    const { items } = await request(`/similar?itemid=${encodeURIComponent(item.itemid)}&size=${MOST_SIMILAR}`);
    const lines = items.map((similar) => {
      const line = element("li");
      line.append(titled(similar), element("small", similar.genres.join(", ")));
      return line;
    });
    at("similar-title").textContent = `Similar to ${titleOf(item)}`;
    at("similar").replaceChildren(...(lines.length ? lines : [element("li", "None known.")]));
    at("similar").parentElement.hidden = false;
    at("similar-title").focus();
  } catch (error) {
    at("status").textContent = `Nothing similar: ${error.message}`;
  }
}

function showItems(userid, items, mark) {
  at("count").textContent = items.length;
  at("items").replaceChildren(...items.map((item, place) => {
    const row = element("tr", undefined, mark && !shown.has(item.itemid) ? "new" : "");
    row.dataset.itemid = item.itemid;
    const title = element("td");
    title.append(titled(item), element("small", item.genres.join(", ")));
    if (item.because?.length) title.append(element("small", `because of ${item.because.map(titleOf).join(", ")}`, "because"));
    const found = element("td");
    item.recalled_by.forEach((name, n) => found.append(n ? " + " : "", element("span", name, name)));
    const rate = element("td");
    rate.append(rating(userid, item));
    row.append(element("td", place + 1), title, element("td", item.score.toFixed(3), "number"), found, rate);
    return row;
  }));
  shown = new Set(items.map((item) => item.itemid));
}

async function show(userid, message, mark = false) {
  const number = ++latest;
  let asked = "";
  present = userid;
  try {
    const [response, history] = await Promise.all([
      request(`/recommend?userid=${encodeURIComponent(userid)}&explain=1${has.because ? "&because=true" : ""}`, {}, (headers) => {
        asked = headers.get("X-Request-ID");
      }),
      request(`/history?userid=${encodeURIComponent(userid)}`).catch(() => ({ items: [] })),
    ]);
    if (number !== latest) return;
    listId = asked;
    at("userid").value = userid === NOBODY ? "" : userid;
    showTiming(response.explain.milliseconds);
    showHistory(history.items);
    showItems(userid, response.items, mark);
    const notes = [message || (userid === NOBODY ? "Nobody in particular" : `User ${userid}`)];
    if (response.fallback) notes.push("not known: popular items");
    if (response.degraded) notes.push(response.degraded.map((service) => MISSING[service]).join(", "));
    if (response.explain.terms.length) notes.push(`likes ${response.explain.terms.join(", ")}`);
    if (response.model_version) notes.push(`model version ${response.model_version}`);
    told = notes.join(" · ");
    if (!at("lists-view").hidden) at("status").textContent = told;
    history_state(userid);
  } catch (error) {
    if (number === latest) at("status").textContent = `No list: ${error.message}`;
  }
}

function history_state(userid) {
  window.history.replaceState(null, "", `?user=${encodeURIComponent(userid)}${location.hash}`);
}

let token = ""; // kept here alone: it is asked for again when the page is loaded again

function authorization() {
  // A header holds bytes, each as one character: those of the token in UTF-8.
  return token && { Authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(token))}` };
}

async function rate(userid, item, stars) {
  const ts = Math.floor(Date.now() / 1000);
  const id = useridsAreText === undefined ? Number(userid) : userid;
  await post({ userid: id, itemid: item.itemid, rating: stars, ts, ...(listId && { request_id: listId }) }, userid, item);
}

async function post(event, userid, item) {
  try {
    await request("/events", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...authorization() },
      body: JSON.stringify(event),
    });
    if (userid === present) await show(userid, `Rated ${titleOf(item)} ${event.rating}`, true);
    at("items").querySelector("select")?.focus();
  } catch (error) {
    if (error.status === 401) askForToken("rate", () => post(event, userid, item));
    else at("status").textContent = `Not rated: ${error.message}`;
  }
}

function askForToken(purpose, again) {
  at("status").textContent = token ? "No: the token is wrong." : `To ${purpose}, give the token that this server asks for.`;
  token = "";
  pending.push(again);
  at("ask").hidden = false;
  at("token").value = "";
  at("token").focus();
}

async function abilities() {
  const { paths } = await request("/openapi.json");
  const parameters = paths["/recommend"].get.parameters ?? [];
  return { similar: "/similar" in paths, because: parameters.some((parameter) => parameter.name === "because") };
}

async function start() {
  const [{ users: known }, able] = await Promise.all([
    request("/users").catch(() => ({ users: [] })),
    abilities().catch(() => has),
  ]);
  const users = known.map(String);
  has = able;
  at("users").replaceChildren(...users.map((userid) => new Option(userid, userid)));
  at("choose").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = at("userid").value;
    show((useridsAreText === undefined ? given.trim() : given) || NOBODY);
  });
  at("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    token = at("token").value;
    at("token").value = "";
    at("ask").hidden = true;
    for (const again of pending.splice(0)) await again();
  });
  at("another").addEventListener("click", () => show(users[Math.floor(Math.random() * users.length)] || NOBODY));
  at("nobody").addEventListener("click", () => show(NOBODY));
  await show(new URLSearchParams(location.search).get("user") || users[0] || NOBODY);
}

start();
