"use strict";

// Tables whose headings sort them.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const [cell, sign] = [(row) => row.cells[column], up ? 1 : -1];
      const order = (a, b) => (a.dataset.value === undefined || b.dataset.value === undefined
        ? a.textContent.localeCompare(b.textContent) : Number(a.dataset.value) - Number(b.dataset.value));
      const rows = [...body.rows].sort((a, b) => sign * order(cell(a), cell(b)));
      body.append(...rows);
    });
  });
}

// Maps of heads: one cell a head or channel, colours logarithmic, told in words under the pointer.
const CIVIDIS = ["#00204d", "#00336f", "#39486b", "#575c6d", "#707173", "#8a8779", "#a69d75", "#c4b56c", "#e4cf5b", "#ffea46"];
const AROUND = ["#053061", "#2f79b5", "#9bc9e0", "#f7f7f7", "#f4a582", "#d6604d", "#67001f"]; // blue below, red above
const UNKNOWN = "#bbbbbb";

function mixed(stops, share) {
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const [low, part] = [Math.min(Math.floor(at), stops.length - 2), at - Math.min(Math.floor(at), stops.length - 2)];
  const channel = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  const mix = (k) => Math.round((1 - part) * channel(stops[low], k) + part * channel(stops[low + 1], k));
  return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
}

function scaleOf(quantity) {
  const logs = quantity.rows.flat().filter((v) => v > 0).map(Math.log);
  const centre = quantity.centre === null ? null : Math.log(quantity.centre);
  const least = centre === null ? 0 : Math.log(2); // a side without cells still has a factor of two
  let low = logs.reduce((a, b) => Math.min(a, b), Infinity), high = logs.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!logs.length) { low = -1; high = 1; }
  if (centre !== null) { low = Math.min(low, centre - least); high = Math.max(high, centre + least); }
  const share = (v) => {
    const x = Math.log(v);
    if (centre === null) { return high > low ? (x - low) / (high - low) : 0.5; }
    return x < centre ? 0.5 * (x - low) / (centre - low) : 0.5 + 0.5 * (x - centre) / (high - centre);
  };
  const stops = centre === null ? CIVIDIS : AROUND;
  return { low: Math.exp(low), high: Math.exp(high), stops, colour: (v) => (v > 0 ? mixed(stops, share(v)) : UNKNOWN) };
}

function shortNumber(v) {
  if (v === null) { return "not known"; }
  const size = Math.abs(v);
  return size !== 0 && (size < 0.001 || size >= 1e7) ? v.toExponential(2)
    : v.toLocaleString("en", { maximumSignificantDigits: 4 });
}

for (const map of document.querySelectorAll("figure.headmap")) {
  const data = JSON.parse(map.querySelector("script").textContent);
  const find = (name) => map.querySelector(name);
  const [canvas, readout] = [find("canvas"), find(".readout")];
  const [what, order] = [find("select[name=quantity]"), find("select[name=order]")];
  data.quantities.forEach((q, k) => what.add(new Option(q.name, k)));
  const [layers, columns] = [data.quantities[0].rows.length, data.quantities[0].rows[0].length];
  const labels = 34; // pixels at the left for the layers' numbers
  let cursor = null, ranks = [];

  const order_of = (row) => {
    const numbers = [...row.keys()];
    return order.value === "number" ? numbers : numbers.sort((a, b) => row[b] - row[a]);
  };
  const paint = () => {
    const quantity = data.quantities[what.value];
    const scale = scaleOf(quantity), ratio = window.devicePixelRatio || 1;
    ranks = quantity.rows.map(order_of);
    const width = canvas.clientWidth, row = Math.max(6, Math.min(28, Math.round(420 / layers)));
    canvas.style.height = `${row * layers}px`;
    canvas.width = width * ratio;
    canvas.height = row * layers * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const cell = (width - labels) / columns, gap = cell > 6 ? 1 : 0;
    ranks.forEach((of, layer) => {
      pen.fillStyle = "#555555";
      if (row >= 12 || layer % Math.ceil(12 / row) === 0) { pen.fillText(layer, 4, (layer + 0.5) * row); }
      of.forEach((unit, column) => {
        pen.fillStyle = scale.colour(quantity.rows[layer][unit]);
        const [left, right] = [labels + column * cell, labels + (column + 1) * cell - gap];
        pen.fillRect(Math.floor(left), layer * row, Math.ceil(right) - Math.floor(left), row - (row > 8 ? 1 : 0));
      });
    });
    if (cursor) {
      pen.strokeStyle = "#000000";
      pen.lineWidth = 2;
      pen.strokeRect(labels + cursor[1] * cell, cursor[0] * row + 1, Math.max(cell - gap, 3), row - 2);
    }
    find(".low").textContent = shortNumber(scale.low);
    find(".middle").textContent = quantity.centre === null ? "" : shortNumber(quantity.centre);
    find(".high").textContent = shortNumber(scale.high);
    find(".bar").style.background = `linear-gradient(to right, ${scale.stops.join(", ")})`;
  };
  const tell = () => {
    const unit = ranks[cursor[0]][cursor[1]];
    const number = data.units ? data.units[cursor[0]][unit] : unit;
    const values = data.quantities.map((q) => q.told.replace("*", shortNumber(q.rows[cursor[0]][unit])));
    readout.textContent = `Layer ${cursor[0]}, ${data.unit} ${number}: ${values.join(", ")}.`;
  };
  const move = (layer, column) => {
    const inside = (v, n) => Math.max(0, Math.min(n - 1, v));
    const next = [inside(layer, layers), inside(column, columns)];
    if (cursor && next[0] === cursor[0] && next[1] === cursor[1]) { return; }
    cursor = next;
    paint();
    tell();
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - labels, event.clientY - box.top];
    if (x >= 0) { move(Math.floor(y / box.height * layers), Math.floor(x / (box.width - labels) * columns)); }
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) { return; }
    event.preventDefault();
    move(...(cursor ? [cursor[0] + step[0], cursor[1] + step[1]] : [0, 0]));
  });
  for (const chosen of [what, order]) { chosen.addEventListener("change", () => { cursor = null; paint(); }); }
  new ResizeObserver(paint).observe(canvas.parentElement);
  paint();
}

// On paper all is unfolded but evidence and proofs, which stay as they are; afterwards it is as it was.
let unfolded = [];
window.addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not(.long):not([open])")];
  unfolded.forEach((d) => { d.open = true; });
});
window.addEventListener("afterprint", () => unfolded.forEach((d) => { d.open = false; }));
