// Step lines over log10 of the loss, on the grid of the server: bin 0 is the underflow, bin
// `bins` + 1 the overflow, both drawn as wide as the others.

import { svg } from "./elements.js";

const HEIGHT = 400;
const MARGIN = { left: 58, right: 14, top: 30, bottom: 52 };
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const HUES = 6;

// How an arm looks, by its place in the list: the first like the baseline of a report.
export function look(place) {
  const turn = place === 0 ? 0 : Math.floor((place - 1) / HUES);
  const colour = place === 0 ? 0 : 1 + ((place - 1) % HUES);
  return { stroke: `var(--arm-${colour})`, "stroke-dasharray": DASHES[turn % DASHES.length] };
}

// The heights of one distribution from its first filled bin on: fractions, or their running sum.
export function heights({ first, fractions }, bins, cumulative) {
  if (!cumulative) return fractions;
  let sum = 0;
  const sums = fractions.map((value) => (sum += value));
  return sums.concat(new Array(bins + 2 - first - sums.length).fill(1));
}

// A loss in nats from its log10, with three digits; the ends of the grid hold all beyond.
export function nats(log10, [low, high]) {
  if (log10 <= low) return `≤ ${power(low)}`;
  if (log10 >= high) return `≥ ${power(high)}`;
  const value = 10 ** log10;
  return value < 0.001 ? value.toExponential(1) : value.toPrecision(3);
}

export function power(exponent) {
  return exponent < -2 ? `1e${exponent}` : String(10 ** exponent);
}

// Draws into `parent`, as wide as it is. `lines`: {key, place, first, heights}; `marks`: {at, text};
// `top`: the end of the y axis; `words`: the title, the description and the names of the axes.
export function draw(parent, { grid, lines, marks, top, words }) {
  const [low, high, bins] = grid;
  const step = (high - low) / bins;
  const width = Math.max(parent.clientWidth, 280);
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (log10) => round(
    MARGIN.left + ((log10 - low + step) / (high - low + 2 * step)) * (right - MARGIN.left));
  const y = (value) => round(bottom - (value / top) * (bottom - MARGIN.top));
  const path = (first, values) => values.reduce(
    (line, value, place) => `${line}V${y(value)}H${x(low + (first + place) * step)}`,
    `M${x(low + (first - 1) * step)} ${y(0)}`) + (values.at(-1) < 0.5 ? `V${y(0)}` : "");

  parent.replaceChildren(svg("svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-labelledby": "chart-title chart-text" },
    svg("title", { id: "chart-title" }, words.title),
    svg("desc", { id: "chart-text" }, words.text),
    ...yAxis(top, y, right),
    ...xAxis(grid, x, bottom, width < 520 ? 4 : 2),
    ...marks.flatMap((mark, place) => rule(mark, x, bottom, place)),
    svg("text", { class: "name", x: (MARGIN.left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, words.x),
    svg("text", { class: "name", transform: `translate(14 ${(MARGIN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, words.y),
    ...lines.map((line) => svg("path", { class: "line", "data-arm": line.key, d: path(line.first, line.heights), ...look(line.place) })),
  ));
}

function yAxis(top, y, right) {
  return ticks(top).flatMap((value) => [
    svg("line", { class: value === 0 ? "axis" : "grid", x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }),
    svg("text", { x: MARGIN.left - 8, y: y(value), "text-anchor": "end", "dominant-baseline": "middle" }, String(value)),
  ]);
}

function xAxis([low, high], x, bottom, every) {
  const exponents = [];
  for (let exponent = Math.ceil(low); exponent <= high; exponent += every) exponents.push(exponent);
  return exponents.flatMap((exponent) => [
    svg("line", { class: "axis", x1: x(exponent), x2: x(exponent), y1: bottom, y2: bottom + 5 }),
    svg("text", { x: x(exponent), y: bottom + 19, "text-anchor": "middle" }, power(exponent)),
  ]);
}

// A dashed rule with its name beside its top; two rules have theirs on either side.
function rule({ at, text }, x, bottom, place) {
  const left = place % 2 === 0;
  return [
    svg("line", { class: "mark", x1: x(at), x2: x(at), y1: MARGIN.top - 6, y2: bottom }),
    svg("text", { class: "name", x: x(at) + (left ? -5 : 5), y: MARGIN.top - 12, "text-anchor": left ? "end" : "start" }, text),
  ];
}

// Round numbers from 0 to at most `top`, about five of them.
function ticks(top) {
  const rough = top / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * unit >= rough) * unit;
  const count = Math.floor(top / step + 1e-9);
  return Array.from({ length: count + 1 }, (_, place) => Number((place * step).toPrecision(6)));
}

function round(value) {
  return Math.round(value * 10) / 10;
}
