"use strict";
// How hits moved from stage to stage: a column for each leg, for the fusion and the rerank; a line for each hit.

const Flow = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  // Dark enough for white digits, apart from each other for most eyes; more hits begin again.
  const COLOURS = ["#0b7285", "#c2410c", "#5f3dc4", "#2b8a3e", "#a61e4d", "#1864ab", "#7a5c00", "#862e9c", "#087f5b", "#495057"];
  const ROW = 30, TOP = 44, RADIUS = 11, WIDTH = 560, SIDE = 52;

  const colour = (index) => COLOURS[index % COLOURS.length];

  // Stages in order, each with the rank of every hit that it placed.
  function stages(points) {
    const order = [];
    const places = new Map();
    for (const [hit, point] of points.entries()) {
      const seen = new Map();
      let before = -1;
      for (const leg of point.legs || []) {
        const count = (seen.get(leg.name) || 0) + 1;
        seen.set(leg.name, count);
        const key = count === 1 ? leg.name : `${leg.name} (${count})`;
        if (!places.has(key)) {
          places.set(key, new Map());
          order.splice(before + 1, 0, key);
        }
        before = order.indexOf(key);
        places.get(key).set(hit, leg);
      }
    }
    const columns = order.map((name) => ({ name, places: places.get(name) }));
    for (const stage of ["fusion", "rerank"]) {
      const found = new Map();
      points.forEach((point, hit) => { if (point[stage]) found.set(hit, point[stage]); });
      if (found.size) columns.push({ name: stage, places: found });
    }
    return columns;
  }

  function element(name, attributes, ...children) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // Draws into `place`; `light(hit)` is called with the number of the hit that is looked at, or null.
  function draw(place, points, light) {
    place.replaceChildren();
    const columns = stages(points);
    if (columns.length < 2) return false;
    const rows = Math.max(points.length, 3);
    const x = (column) => SIDE + (column * (WIDTH - 2 * SIDE)) / (columns.length - 1);
    // Ranks behind the last hit are folded: the further away, the closer together. No two of a column share a place.
    const deep = (rank) => rows + 0.6 + Math.log2(rank / rows) * 1.4;
    const heights = columns.map((column) => {
      const sorted = [...column.places].sort((a, b) => a[1].rank - b[1].rank);
      const heights = new Map();
      let last = -1;
      for (const [hit, { rank }] of sorted) {
        const wanted = rank <= rows ? rank - 1 : deep(rank);
        last = Math.max(wanted, rank <= rows ? 0 : last + 0.85);
        heights.set(hit, TOP + 14 + last * ROW);
      }
      return heights;
    });
    const lowest = Math.max(...heights.flatMap((column) => [...column.values()]));
    const height = lowest + RADIUS + 8;
    const title = `Ranks of ${points.length} hits in ${columns.map((c) => c.name).join(", ")}`;
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": title });
    columns.forEach((column, number) => {
      const label = element("text", { x: x(number), y: 18, "text-anchor": "middle", class: "column" });
      label.textContent = column.name;
      const found = element("text", { x: x(number), y: 34, "text-anchor": "middle" });
      found.textContent = `${column.places.size} of ${points.length}`;
      svg.append(label, found);
    });
    if (lowest > TOP + 14 + (rows - 1) * ROW) {
      const y = TOP + 14 + (rows - 0.35) * ROW;
      svg.append(element("line", { x1: 4, x2: WIDTH - 4, y1: y, y2: y, class: "fold" }));
    }
    points.forEach((point, hit) => svg.append(trail(point, hit, columns, heights, x, light)));
    place.append(svg);
    return true;
  }

  function trail(point, hit, columns, heights, x, light) {
    const group = element("g", { class: "trail", "data-hit": hit });
    const at = columns.map((_, number) => number).filter((number) => heights[number].has(hit));
    for (const [index, to] of at.entries()) {
      if (index === 0) continue;
      const from = at[index - 1];
      const [x1, y1, x2, y2] = [x(from), heights[from].get(hit), x(to), heights[to].get(hit)];
      const bend = (x2 - x1) / 2;
      const path = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
      const over = to - from > 1 ? " over" : "";
      group.append(element("path", { d: path, class: `edge${over}`, stroke: colour(hit) }));
    }
    for (const number of at) {
      const place = columns[number].places.get(hit);
      const node = element("g", { class: "node" },
        element("circle", { cx: x(number), cy: heights[number].get(hit), r: RADIUS, fill: colour(hit) }));
      const rank = element("text", { x: x(number), y: heights[number].get(hit) + 4, "text-anchor": "middle" });
      rank.textContent = place.rank;
      const tip = element("title", {});
      const share = place.contribution === undefined ? "" : `, adds ${place.contribution.toPrecision(3)}`;
      tip.textContent = `${point.id}: ${columns[number].name} rank ${place.rank}, score ${place.score.toPrecision(4)}${share}`;
      node.append(rank, tip);
      group.append(node);
    }
    group.addEventListener("pointerenter", () => light(hit));
    group.addEventListener("pointerleave", () => light(null));
    return group;
  }

  // Shows one hit's way before all others, or all alike.
  function lit(place, hit) {
    const svg = place.querySelector("svg");
    if (!svg) return;
    svg.classList.toggle("lit", hit !== null);
    for (const trail of svg.querySelectorAll(".trail")) {
      trail.classList.toggle("lit", hit !== null && Number(trail.dataset.hit) === hit);
    }
  }

  return { draw, lit, colour, stages };
})();
