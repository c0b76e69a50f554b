// The page's only script: it requests the same addresses that anyone may request, and shows what they respond.
"use strict";

const at = (id) => document.getElementById(id);
const NOBODY = "0"; // ids start at 1, so nobody is a user that no store knows
// What a list had to do without, by the service that could not be used.
const MISSING = {
  redis: "popular items: what you liked is not at hand now",
  elasticsearch: "popular items: the search for what suits you is not at hand now",
  feast: "ranked without your profile, which is not at hand now",
  triton: "in the order in which it was found: the ranking is not at hand now",
};
let shown = new Set(); // the items of the list on the page
let latest = 0; // number of the latest request: a slow response to an earlier one must not replace its list

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function request(path, options) {
  const response = await fetch(path, options);
  const content = await response.json();
  if (!response.ok) throw new Error(`${content.error.field}: ${content.error.rule}`);
  return content;
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
    const line = element("li", item.title);
    line.append(element("small", `${"★".repeat(Math.floor(item.rating))}${item.rating % 1 ? "½" : ""} ${item.genres.join(", ")}`));
    return line;
  });
  at("history").replaceChildren(...(lines.length ? lines : [element("li", "None known.")]));
}

function rating(userid, item) {
  const select = element("select");
  select.setAttribute("aria-label", `Rate ${item.title}`);
  select.append(new Option("–", ""));
  for (const stars of [5, 4, 3, 2, 1]) select.append(new Option("★".repeat(stars), stars));
  select.disabled = userid === NOBODY;
  select.addEventListener("change", () => rate(userid, item, Number(select.value)));
  return select;
}

function showItems(userid, items, mark) {
  at("count").textContent = items.length;
  at("items").replaceChildren(...items.map((item, place) => {
    const row = element("tr", undefined, mark && !shown.has(item.itemid) ? "new" : "");
    row.dataset.itemid = item.itemid;
    const title = element("td", item.title);
    title.append(element("small", item.genres.join(", ")));
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
  try {
    const [response, history] = await Promise.all([
      request(`/recommend?userid=${encodeURIComponent(userid)}&explain=1`),
      request(`/history?userid=${encodeURIComponent(userid)}`).catch(() => ({ items: [] })),
    ]);
    if (number !== latest) return;
    at("userid").value = userid === NOBODY ? "" : userid;
    showTiming(response.explain.milliseconds);
    showHistory(history.items);
    showItems(userid, response.items, mark);
    const notes = [message || (userid === NOBODY ? "Nobody in particular" : `User ${userid}`)];
    if (response.fallback) notes.push("not known: popular items");
    if (response.degraded) notes.push(response.degraded.map((service) => MISSING[service]).join(", "));
    if (response.explain.terms.length) notes.push(`likes ${response.explain.terms.join(", ")}`);
    if (response.model_version) notes.push(`model version ${response.model_version}`);
    at("status").textContent = notes.join(" · ");
    history_state(userid);
  } catch (error) {
    if (number === latest) at("status").textContent = `No list: ${error.message}`;
  }
}

function history_state(userid) {
  window.history.replaceState(null, "", `?user=${encodeURIComponent(userid)}`);
}

async function rate(userid, item, stars) {
  if (!stars) return;
  const event = { userid: Number(userid), itemid: item.itemid, rating: stars, ts: Math.floor(Date.now() / 1000) };
  try {
    await request("/events", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(event),
    });
    await show(userid, `Rated ${item.title} ${stars}`, true);
    at("items").querySelector("select")?.focus();
  } catch (error) {
    at("status").textContent = `Not rated: ${error.message}`;
  }
}

async function start() {
  const users = (await request("/users").catch(() => ({ users: [] }))).users.map(String);
  at("users").replaceChildren(...users.map((userid) => new Option(userid, userid)));
  at("choose").addEventListener("submit", (event) => {
    event.preventDefault();
    show(at("userid").value.trim() || NOBODY);
  });
  at("another").addEventListener("click", () => show(users[Math.floor(Math.random() * users.length)] || NOBODY));
  at("nobody").addEventListener("click", () => show(NOBODY));
  await show(new URLSearchParams(location.search).get("user") || users[0] || NOBODY);
}

start();
