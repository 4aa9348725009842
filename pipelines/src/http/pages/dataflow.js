"use strict";
// The operators of the running dataflow, in layers from sources to sinks, with what they did since the last look.

const INTERVAL_MS = 2000;
const LATE_SECONDS = 1;
const BOX = { width: 168, height: 46, across: 28, down: 34 };
const SVG = "http://www.w3.org/2000/svg";
const picture = document.querySelector("#picture");
const rows = document.querySelector("#operators tbody");
const state = document.querySelector("#state");
const unlock = document.querySelector("#unlock");
let before = null;
let layout = null;

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const rate = (value) => (value >= 10 || value === 0 ? number.format(value) : value.toFixed(1));

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Layer of each operator: one more than the furthest of those it takes from. */
function layersOf(operators, channels) {
  const layer = new Map(operators.map((operator) => [operator.id, 0]));
  // As many rounds as there are operators settle any order without cycles; more are not made, should there be one.
  for (let round = 0; round < operators.length; round += 1) {
    let moved = false;
    for (const { from, to } of channels) {
      if (layer.get(to) <= layer.get(from) && layer.get(from) < operators.length) {
        layer.set(to, layer.get(from) + 1);
        moved = true;
      }
    }
    if (!moved) break;
  }
  return layer;
}

/** Where each operator stands: layers below each other, within them near those that they take from. */
function arrange(flow) {
  const layer = layersOf(flow.operators, flow.channels);
  const layers = [];
  for (const operator of flow.operators) (layers[layer.get(operator.id)] ||= []).push(operator.id);
  const place = new Map();
  for (const ids of layers.filter(Boolean)) ids.forEach((id, at) => place.set(id, at));
  const middle = (id, side, other) => {
    const near = flow.channels.filter((channel) => channel[side] === id).map((channel) => place.get(channel[other]));
    return near.length ? near.reduce((sum, at) => sum + at, 0) / near.length : place.get(id);
  };
  for (let round = 0; round < 6; round += 1) {
    const [side, other] = round % 2 ? ["from", "to"] : ["to", "from"];
    for (const ids of layers.filter(Boolean)) {
      const wanted = new Map(ids.map((id) => [id, middle(id, side, other)]));
      ids.sort((a, b) => wanted.get(a) - wanted.get(b) || (a < b ? -1 : 1));
      ids.forEach((id, at) => place.set(id, at));
    }
  }
  const widest = Math.max(...layers.filter(Boolean).map((ids) => ids.length));
  const spots = new Map();
  layers.forEach((ids, down) => {
    const left = ((widest - ids.length) * (BOX.width + BOX.across)) / 2;
    ids.forEach((id, at) => spots.set(id, {
      x: left + at * (BOX.width + BOX.across), y: down * (BOX.height + BOX.down),
    }));
  });
  return {
    key: flow.operators.map((operator) => operator.id).join(),
    spots,
    width: widest * (BOX.width + BOX.across) - BOX.across,
    height: layers.length * (BOX.height + BOX.down) - BOX.down,
  };
}

/** How far an operator is behind the one that is furthest. */
const lag = (operator) => (operator.frontier === null ? "done" : `${operator.frontier_lag_seconds.toFixed(2)} s`);
const frontier = (operator) => (operator.frontier === null
  ? "nothing more to come" : `done up to ${new Date(operator.frontier).toISOString()}, ${lag(operator)} behind`);

function draw(flow, done) {
  if (layout === null || layout.key !== flow.operators.map((operator) => operator.id).join()) layout = arrange(flow);
  const svg = element("svg", { viewBox: `-4 -4 ${layout.width + 8} ${layout.height + 8}`, width: layout.width + 8, height: layout.height + 8 });
  for (const channel of flow.channels) {
    const [a, b] = [layout.spots.get(channel.from), layout.spots.get(channel.to)];
    const [x1, y1, x2, y2] = [a.x + BOX.width / 2, a.y + BOX.height, b.x + BOX.width / 2, b.y];
    const bend = Math.max(18, Math.abs(y2 - y1) / 2);
    const perSecond = done.channels.get(`${channel.from} ${channel.to}`) || 0;
    const line = element("path", {
      d: `M${x1} ${y1} C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`,
      class: perSecond > 0 ? "way flowing" : "way",
      "stroke-width": Math.min(7, 1 + Math.log10(1 + perSecond)).toFixed(2),
    });
    line.append(element("title", {}, `${rate(perSecond)} records/s, ${number.format(channel.records)} in all`));
    svg.append(line);
  }
  for (const operator of flow.operators) {
    const { x, y } = layout.spots.get(operator.id);
    const now = done.operators.get(operator.id);
    const group = element("g", { transform: `translate(${x} ${y})`, class: operator.frontier_lag_seconds >= LATE_SECONDS ? "operator late" : "operator" });
    group.append(element("rect", { width: BOX.width, height: BOX.height, rx: 8, class: "box" }));
    group.append(element("rect", { width: Math.max(0, Math.min(1, now.busy) * BOX.width).toFixed(1), height: 4, y: BOX.height - 4, class: "busy" }));
    const name = operator.name.length > 24 ? `${operator.name.slice(0, 23)}…` : operator.name;
    group.append(element("text", { x: 10, y: 18, class: "name" }, name));
    group.append(element("text", { x: 10, y: 34, class: "rate" }, `${rate(now.in)}/s · ${(now.busy * 100).toFixed(0)} %`));
    group.append(element("title", {}, `${operator.name}: ${number.format(operator.records_in)} records in, ${number.format(operator.records_out)} out, ${operator.busy_seconds.toFixed(2)} s busy, ${frontier(operator)}`));
    svg.append(group);
  }
  picture.replaceChildren(svg);
}

function table(flow, done) {
  const busiest = [...flow.operators].sort((a, b) => done.operators.get(b.id).busy - done.operators.get(a.id).busy);
  rows.replaceChildren(...busiest.map((operator) => {
    const now = done.operators.get(operator.id);
    const cells = [operator.name, `${(now.busy * 100).toFixed(1)} %`, rate(now.in), rate(now.out), number.format(operator.queued), rate(now.runs), number.format(operator.records_in), lag(operator)];
    const row = document.createElement("tr");
    row.append(...cells.map((text, at) => {
      const cell = document.createElement(at === 0 ? "th" : "td");
      if (at === 0) cell.scope = "row";
      cell.textContent = text;
      return cell;
    }));
    return row;
  }));
}

/** What was done between two looks, per second. */
function between(flow, at) {
  const seconds = before === null ? 0 : (at - before.at) / 1000;
  const old = new Map((before?.flow.operators || []).map((operator) => [operator.id, operator]));
  const per = (now, then, key) => (seconds > 0 && then ? Math.max(0, now[key] - then[key]) / seconds : 0);
  const oldWays = new Map((before?.flow.channels || []).map((way) => [`${way.from} ${way.to}`, way]));
  return {
    operators: new Map(flow.operators.map((operator) => {
      const then = old.get(operator.id);
      return [operator.id, {
        busy: per(operator, then, "busy_seconds"), in: per(operator, then, "records_in"),
        out: per(operator, then, "records_out"), runs: per(operator, then, "activations"),
      }];
    })),
    channels: new Map(flow.channels.map((way) => [`${way.from} ${way.to}`, per(way, oldWays.get(`${way.from} ${way.to}`), "records")])),
  };
}

async function look() {
  try {
    const key = sessionStorage.getItem("freshet-key");
    const response = await fetch("/api/dataflow", { headers: key ? { "api-key": key } : {} });
    unlock.hidden = ![401, 403].includes(response.status);
    if (!response.ok) throw new Error(response.status === 401 ? "an API key is needed" : `the server answers ${response.status}`);
    const flow = await response.json();
    const at = performance.now();
    const done = between(flow, at);
    if (!flow.observed) {
      state.textContent = "operators are not counted: pipeline.observe = false";
    } else if (flow.operators.length === 0) {
      state.textContent = "the dataflow is not built yet";
    } else {
      draw(flow, done);
      table(flow, done);
      const lag = flow.applied_lag_seconds;
      state.textContent = `${flow.operators.length} operators on ${flow.workers} worker${flow.workers === 1 ? "" : "s"} · indexes ${lag === 0 ? "up to date" : `${lag.toFixed(1)} s behind the clock`}`;
    }
    document.body.className = "ready";
    before = { flow, at };
  } catch (error) {
    state.textContent = error.message;
    document.body.className = "gone";
  }
  setTimeout(look, INTERVAL_MS);
}

unlock.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("freshet-key", document.querySelector("#key").value);
  unlock.hidden = true;
});

look();
