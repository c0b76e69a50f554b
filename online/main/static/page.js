// The page's only script: asks the same addresses that anyone may ask, and shows what they say.
"use strict";

const at = (id) => document.getElementById(id);
const NOBODY = "0"; // ids start at 1, so nobody is a user that no store knows
let shown = new Set(); // the items of the list on the page
let asked = 0; // a slow answer to an earlier question must not replace a later one's

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(`${content.error.field}: ${content.error.rule}`);
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

async function show(userid, said, mark = false) {
  const question = ++asked;
  try {
    const [answer, history] = await Promise.all([
      ask(`/recommend?userid=${encodeURIComponent(userid)}&explain=1`),
      ask(`/history?userid=${encodeURIComponent(userid)}`).catch(() => ({ items: [] })),
    ]);
    if (question !== asked) return;
    at("userid").value = userid === NOBODY ? "" : userid;
    showTiming(answer.explain.milliseconds);
    showHistory(history.items);
    showItems(userid, answer.items, mark);
    const notes = [said || (userid === NOBODY ? "Nobody in particular" : `User ${userid}`)];
    if (answer.fallback) notes.push("not known: popular items");
    if (answer.degraded) notes.push(`without ${answer.degraded.join(", ")}`);
    if (answer.explain.terms.length) notes.push(`likes ${answer.explain.terms.join(", ")}`);
    if (answer.model_version) notes.push(`model version ${answer.model_version}`);
    at("status").textContent = notes.join(" · ");
    history_state(userid);
  } catch (error) {
    if (question === asked) at("status").textContent = `No list: ${error.message}`;
  }
}

function history_state(userid) {
  window.history.replaceState(null, "", `?user=${encodeURIComponent(userid)}`);
}

async function rate(userid, item, stars) {
  if (!stars) return;
  const event = { userid: Number(userid), itemid: item.itemid, rating: stars, ts: Math.floor(Date.now() / 1000) };
  try {
    await ask("/events", {
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
  const users = (await ask("/users").catch(() => ({ users: [] }))).users.map(String);
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
