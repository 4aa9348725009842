"use strict";
// The search page: asks /api/query, shows hits, filters and how the hits moved; watches /api/status.

const at = (id) => document.getElementById(id);
const SLOW_AFTER_MS = 1500;
const WATCH_EVERY_MS = 2000;
const STOP = new Set("a an and are as at be by can do for from how i in is it my of on or that the this to was what when where which who why with you your".split(" "));

let filters = [];
let asking = null;
let apiKey = sessionStorage.getItem("freshet-key") || "";

function make(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

async function call(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (apiKey) headers["api-key"] = apiKey;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    at("unlock").hidden = false;
    at("key").focus();
  }
  return response;
}

// Filters: a field of the payload and a value that it must have.
function condition({ key, value }) {
  const whole = typeof value !== "number" || Number.isInteger(value);
  return whole ? { key, match: { value } } : { key, range: { gte: value, lte: value } };
}

const same = (a, b) => a.key === b.key && a.value === b.value;

function toggle(filter) {
  const without = filters.filter((known) => !same(known, filter));
  filters = without.length < filters.length ? without : [...filters, filter];
  ask(true);
}

function chip(filter, removes) {
  const pressed = filters.some((known) => same(known, filter));
  const button = make("button", { type: "button", class: "chip" },
    make("span", { class: "name" }, `${filter.key} `), String(filter.value));
  if (removes) {
    button.append(" ×");
    button.setAttribute("aria-label", `Remove the filter ${filter.key} is ${filter.value}`);
  } else {
    button.setAttribute("aria-pressed", String(pressed));
    button.title = pressed ? "Remove this filter" : `Only hits whose ${filter.key} is ${filter.value}`;
  }
  button.addEventListener("click", () => toggle(filter));
  return button;
}

// Words that are no question of their own are not marked.
function wordsOf(text) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || [];
  return words.filter((word) => word.length > 1 && !STOP.has(word));
}

// Forms of one word: the same beginning, a few letters apart.
function alike(word, wanted) {
  if (word === wanted) return true;
  let common = 0;
  while (common < word.length && word[common] === wanted[common]) common += 1;
  const [short, long] = [Math.min(word.length, wanted.length), Math.max(word.length, wanted.length)];
  return common >= 4 && (common >= long - 3 || (common === short && long - short <= 5));
}

function marked(text, words) {
  const fragment = document.createDocumentFragment();
  let done = 0;
  for (const match of text.matchAll(/[\p{L}\p{N}]+/gu)) {
    const word = match[0].toLowerCase();
    if (!words.some((wanted) => alike(word, wanted))) continue;
    fragment.append(text.slice(done, match.index), make("mark", {}, match[0]));
    done = match.index + match[0].length;
  }
  fragment.append(text.slice(done));
  return fragment;
}

function chipsOf(payload) {
  const chips = [];
  for (const [key, value] of Object.entries(payload || {})) {
    for (const item of Array.isArray(value) ? value.slice(0, 8) : [value]) {
      const short = typeof item === "string" && item.length <= 48;
      if (short || typeof item === "number" || typeof item === "boolean") chips.push(chip({ key, value: item }));
    }
  }
  return chips;
}

function hitOf(point, index, words) {
  const title = typeof point.payload?.title === "string" ? point.payload.title : point.id;
  const item = make("li", { class: "hit", "data-hit": index });
  item.style.setProperty("--hit", Flow.colour(index));
  item.append(make("h3", {}, make("span", { class: "rank" }, `${index + 1}`), marked(title, words)));
  if (point.text) item.append(make("p", { class: "text" }, marked(point.text, words)));
  const chips = chipsOf(point.payload);
  if (chips.length) item.append(make("div", { class: "chips" }, ...chips));
  const legs = (point.legs || []).map((leg) => `${leg.name} at ${leg.rank}`);
  const meta = [title === point.id ? null : point.id, `score ${point.score.toPrecision(4)}`, legs.length ? `found by ${legs.join(", ")}` : null];
  item.append(make("p", { class: "meta" }, meta.filter(Boolean).join(" · ")));
  for (const [event, hit] of [["pointerenter", index], ["pointerleave", null], ["focusin", index], ["focusout", null]]) {
    item.addEventListener(event, () => light(hit));
  }
  return item;
}

function light(hit) {
  Flow.lit(at("flow"), hit);
  for (const item of at("hits").children) item.classList.toggle("lit", hit !== null && Number(item.dataset.hit) === hit);
}

function reflects(answer) {
  const partitions = Object.entries(answer.as_of?.documents || {});
  const some = partitions.filter(([, offset]) => offset >= 0);
  const offsets = some.slice(0, 6).map(([partition, offset]) => `${partition}:${offset}`).join(" ");
  const more = some.length > 6 ? ` and ${some.length - 6} more partitions` : "";
  const when = answer.time ? `, as of ${new Date(answer.time).toLocaleTimeString()}` : "";
  return some.length
    ? `Reflects every document up to offset ${offsets}${more} (partition:offset), and nothing later${when}.`
    : `Reflects no documents yet${when}.`;
}

function blank(strong, text) {
  at("message").replaceChildren(make("div", { class: "blank" }, make("strong", {}, strong), text));
}

function clear() {
  at("hits").replaceChildren();
  at("message").replaceChildren();
  at("moved").hidden = true;
  at("as-of").textContent = "";
  times(null);
}

function fail(title, text) {
  clear();
  at("summary").textContent = "";
  const box = make("div", { class: "error", role: "alert" }, make("strong", {}, title), make("p", {}, text));
  at("message").append(box);
}

const STAGES = { admit: "waiting", embed: "embedding", search: "searching", rerank: "reranking", fetch: "fetching" };

/** Where the time went: a bar per stage, as wide as its share. */
function times(seconds) {
  const place = at("stages");
  place.replaceChildren();
  place.hidden = !seconds;
  if (!seconds) return;
  const all = Object.values(seconds).reduce((sum, part) => sum + part, 0) || 1;
  for (const [stage, part] of Object.entries(seconds)) {
    if (part === 0) continue;
    const text = `${STAGES[stage] || stage} ${(part * 1000).toFixed(part < 0.01 ? 1 : 0)} ms`;
    const bar = make("li", { class: `stage ${stage}`, title: text }, make("span", {}, text));
    bar.style.flexGrow = Math.max(part / all, 0.01);
    place.append(bar);
  }
}

function show(answer, question, began) {
  clear();
  const words = wordsOf(question);
  const seconds = answer.took_seconds;
  const took = seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
  const way = Math.round(performance.now() - began);
  const count = answer.points.length;
  at("summary").textContent = `${count === 1 ? "1 hit" : `${count} hits`} in ${took} (${way} ms with the way here)`;
  at("as-of").textContent = reflects(answer);
  times(answer.stage_seconds);
  for (const { stage, reason } of answer.degraded || []) at("as-of").append(` Without ${stage}: ${reason}.`);
  if (count === 0) {
    blank("Nothing found", filters.length ? "No document passes all filters. Remove one of them." : "No document has anything to do with this question.");
    return;
  }
  at("hits").append(...answer.points.map((point, index) => hitOf(point, index, words)));
  const drawn = Flow.draw(at("flow"), answer.points, light);
  at("moved").hidden = false;
  at("moved-hint").textContent = drawn
    ? "Each line is a hit, each column a stage; the number is its rank there. A dashed line skips a stage that did not find it."
    : "This plan has one stage: the hits stand as it found them.";
}

function address(question, push) {
  const state = new URLSearchParams();
  if (question) state.set("q", question);
  if (at("plan").value && at("plan").value !== "default") state.set("plan", at("plan").value);
  if (at("limit").value !== "10") state.set("limit", at("limit").value);
  for (const filter of filters) state.append("f", JSON.stringify([filter.key, filter.value]));
  const query = state.toString();
  const url = query ? `/?${query}` : "/";
  if (push) history.pushState(null, "", url); else history.replaceState(null, "", url);
  document.title = question ? `${question} · Freshet` : "Freshet";
}

async function ask(push) {
  const question = at("q").value.trim();
  at("filters").replaceChildren(...filters.map((filter) => make("li", {}, chip(filter, true))));
  address(question, push);
  asking?.abort();
  if (!question) { clear(); at("summary").textContent = ""; blank("Ask something", "Documents are found by meaning and by their words."); return; }
  const current = asking = new AbortController();
  const began = performance.now();
  clear();
  at("summary").textContent = "Searching…";
  at("results").setAttribute("aria-busy", "true");
  at("message").replaceChildren(...[1, 2, 3].map(() => make("div", { class: "ghost" })));
  const slow = setTimeout(() => { at("summary").textContent = "Still searching: the server is busy…"; }, SLOW_AFTER_MS);
  const query = { text: question, limit: Number(at("limit").value) };
  if (at("plan").value) query.plan = at("plan").value;
  if (filters.length) query.filter = { must: filters.map(condition) };
  try {
    const response = await call("/api/query", {
      method: "POST", body: JSON.stringify(query), signal: current.signal, headers: { "content-type": "application/json" },
    });
    const answer = await response.json();
    if (answer.error) {
      const where = answer.error.field ? `${answer.error.field}: ` : "";
      fail(`This could not be answered (${answer.error.code})`, where + answer.error.message);
    } else {
      show(answer, question, began);
    }
  } catch (error) {
    if (error.name !== "AbortError") fail("The server did not answer", "Is the pipeline running? Try again in a moment.");
  } finally {
    clearTimeout(slow);
    if (asking === current) at("results").removeAttribute("aria-busy");
  }
}

// What the pipeline is doing, in one line.
let before = null;
async function watch() {
  const line = at("pipeline");
  try {
    const response = await call("/api/status");
    if (!response.ok) throw new Error(response.status);
    const status = await response.json();
    const now = performance.now();
    const rate = before ? (status.documents_applied - before.applied) / ((now - before.now) / 1000) : 0;
    before = { applied: status.documents_applied, now };
    const lag = status.applied_lag_seconds;
    const behind = `${lag < 1 ? `${Math.round(lag * 1000)} ms` : `${lag.toFixed(1)} s`} behind`;
    const parts = [`${status.documents.toLocaleString()} documents`, `${rate >= 10 ? Math.round(rate) : rate.toFixed(rate ? 1 : 0)}/s`, lag === 0 ? "up to date" : behind];
    at("pipeline-text").textContent = status.ready ? parts.join(" · ") : status.reason;
    line.className = `pipeline ${status.ready ? "ready" : ""}`;
    plans(status.plans);
  } catch {
    at("pipeline-text").textContent = "no connection";
    line.className = "pipeline gone";
  }
}

function plans(names) {
  const select = at("plan");
  if (names.join() === [...select.options].map((option) => option.value).join()) return;
  const chosen = select.value || new URLSearchParams(location.search).get("plan") || "default";
  select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  select.value = names.includes(chosen) ? chosen : names[0] || "";
}

function fromAddress() {
  const state = new URLSearchParams(location.search);
  at("q").value = state.get("q") || "";
  at("limit").value = state.get("limit") || "10";
  if (!at("limit").value) at("limit").value = "10";
  if (at("plan").options.length) at("plan").value = state.get("plan") || "default";
  filters = state.getAll("f").flatMap((text) => {
    try { const [key, value] = JSON.parse(text); return [{ key, value }]; } catch { return []; }
  });
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(true); });
at("plan").addEventListener("change", () => ask(true));
at("limit").addEventListener("change", () => ask(true));
at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey = at("key").value;
  sessionStorage.setItem("freshet-key", apiKey);
  at("unlock").hidden = true;
  watch().then(() => ask(false));
});
window.addEventListener("popstate", () => { fromAddress(); ask(false); });

fromAddress();
watch().then(() => ask(false));
setInterval(() => { if (!document.hidden) watch(); }, WATCH_EVERY_MS);
