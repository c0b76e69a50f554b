// The page's second view: what /operations.json counts, as rates and percentiles of the last minute.
"use strict";

const EVERY = 2000; // milliseconds between two questions
const WINDOW = 60; // seconds that rates and percentiles are of, once so many have passed
let samples = []; // the counts of the last WINDOW seconds, oldest first
let asking = 0; // number of the present round of questions: an earlier one ends

// What came between two samples; of a server that was started again meanwhile, all since its start.
function between(first, last) {
  return last === undefined ? 0 : first !== undefined && first <= last ? last - first : last;
}

function perSecond(first, last, seconds) {
  return seconds ? (between(first, last) / seconds).toFixed(1) : "–";
}

// As Prometheus does: within a bucket the times are taken to be spread evenly.
function percentile(share, first, last) {
  const counts = last.buckets.map(([most, count], place) => [most, between(first?.buckets[place]?.[1], count)]);
  const sought = share * (counts.at(-1)?.[1] ?? 0);
  if (!sought) return "–";
  const place = counts.findIndex(([, count]) => count >= sought);
  const [below, before] = place ? counts[place - 1] : [0, 0];
  const [most, count] = counts[place];
  if (most === null) return `over ${(below * 1000).toFixed(0)} ms`;
  return `${((below + ((most - below) * (sought - before)) / (count - before)) * 1000).toFixed(1)} ms`;
}

function tableOf(heads, rows) {
  const table = element("table"), head = element("tr"), body = element("tbody");
  heads.forEach((name, place) => head.append(element("th", name, place ? "number" : "")));
  for (const row of rows) {
    const line = element("tr");
    row.forEach((value, place) => line.append(element("td", value, place ? "number" : "")));
    body.append(line);
  }
  table.append(element("thead"), body);
  table.tHead.append(head);
  return table;
}

function listOf(pairs) {
  const list = element("dl");
  for (const [name, value, className] of pairs) list.append(element("dt", name), element("dd", value, className));
  return list;
}

function shareOf(part, all) {
  return all ? `${((100 * part) / all).toFixed(1)} %` : "–";
}

function when(moment) {
  return new Date(moment).toLocaleString();
}

function showRequests(first, last, seconds) {
  const paths = Object.entries(last.requests).sort(([, one], [, other]) => other.count - one.count);
  const rows = paths.map(([path, times]) => {
    const before = first?.requests[path];
    return [
      path.replace(/<.*>/, "…"), perSecond(before?.count ?? 0, times.count, seconds), percentile(0.5, before, times), percentile(0.99, before, times),
      between(before?.errors, times.errors), times.count,
    ];
  });
  const about = seconds ? `The last ${Math.round(seconds)} seconds.` : "Since the start of the server.";
  at("requests").replaceChildren(
    element("p", about), tableOf(["path", "a second", "p50", "p99", "errors", "in all"], rows));
}

function showStages(first, last, seconds) {
  const rows = Object.entries(last.stages).map(([stage, times]) => {
    const before = first?.stages[stage];
    const breaker = last.breakers[stage] ?? "–";
    return [stage, perSecond(before?.count ?? 0, times.count, seconds), percentile(0.5, before, times), percentile(0.99, before, times), breaker];
  });
  at("stages").replaceChildren(tableOf(["service", "a second", "p50", "p99", "breaker"], rows));
}

function showLists(first, last) {
  const before = first?.lists, lists = last.lists;
  const now = between(before?.count, lists.count), degraded = between(before?.degraded, lists.degraded);
  at("degraded").replaceChildren(listOf([
    ["degraded now", shareOf(degraded, now), degraded ? "alarm" : ""],
    ["degraded since the start", `${shareOf(lists.degraded, lists.count)} of ${lists.count}`],
    ...Object.entries(lists.fallbacks).map(([reason, count]) => [reason === "cold_start" ? "of cold-start users" : `without ${reason}`, count]),
    ...Object.entries(last.events).map(([outcome, count]) => [`events ${outcome}`, count]),
  ]));
}

function showVersions(last) {
  const of = Object.entries(last.lists.by_model_version);
  at("versions").replaceChildren(listOf([
    ...Object.entries(last.versions).map(([name, value]) => [name, String(value)]),
    ...of.map(([version, count]) => [version === "none" ? "no ranking model" : `model ${version}`, `${shareOf(count, last.lists.count)} of the lists since the start`]),
  ]));
}

function showDrift({ drift }) {
  if (!drift) return at("drift").replaceChildren(element("p", "No report yet: make drift."));
  const rows = Object.entries(drift.farthest).map(([name, column]) =>
    [name, column.psi.toFixed(3), column.threshold.toFixed(3), column.reference_mean.toFixed(3), column.live_mean.toFixed(3)]);
  const moved = drift.alarms.length;
  const summary = moved ? `ALARM: ${moved} of ${drift.columns} columns have drifted.` : `No alarm in ${drift.columns} columns.`;
  at("drift").replaceChildren(
    element("p", `${summary} ${when(drift.measured_at)}${drift.is_present ? "" : ", of another load than the present one"}.`, moved ? "alarm" : ""),
    tableOf(["column", "PSI", "threshold", "mean then", "now"], rows));
}

function showRuns({ runs }) {
  const lines = Object.entries(runs).map(([stage, moment]) => [stage, when(moment)]);
  at("runs").replaceChildren(lines.length ? listOf(lines) : element("p", "No record."));
}

function showOperations() {
  const last = samples.at(-1), first = samples.length > 1 ? samples[0] : undefined;
  const seconds = first ? last.time - first.time : 0;
  showRequests(first, last, seconds);
  showStages(first, last, seconds);
  showLists(first, last);
  showVersions(last);
  showDrift(last);
  showRuns(last);
}

async function watch(round) {
  if (round !== asking) return;
  if (!document.hidden) {
    try {
      samples.push(await request("/operations.json", { headers: { ...authorization() } }));
      samples = samples.filter((sample) => sample.time >= samples.at(-1).time - WINDOW);
      if (round === asking) showOperations();
    } catch (error) {
      if (error.status === 401) return askForToken("see this", () => view());
      at("status").textContent = `No counts: ${error.message}`;
    }
  }
  setTimeout(() => watch(round), EVERY);
}

function view() {
  const isOperations = location.hash === "#operations";
  if (isOperations === !at("lists-view").hidden) at("status").textContent = isOperations ? "" : told;
  at("lists-view").hidden = isOperations;
  at("operations-view").hidden = !isOperations;
  document.querySelector("header").hidden = isOperations;
  for (const link of document.querySelectorAll("nav a")) {
    if ((link.hash === "#operations") === isOperations) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  asking += 1;
  if (isOperations) watch(asking);
}

addEventListener("hashchange", view);
view();
