// The tab "Losses". `render` is called by TensorBoard; the numbers come from the server (plugin.py).

import { draw, heights, look, nats, power } from "./chart.js";
import { html, svg } from "./elements.js";
import { onReload } from "./host.js";

const WORDS = {
  split: { train: "training", val: "validation", test: "test" },
  loss: {
    cross_entropy: "cross-entropy",
    cross_entropy_at_test_prior: "cross-entropy at the test prior",
    objective: "each arm's own loss",
  },
  group: { all: "all classes", head: "head classes", mid: "mid classes", tail: "tail classes" },
};
const AXIS_ENDS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1];
const SHOWN_AT_FIRST = 8; // more lines than that cannot be told apart
const NO_DATA = "No loss histograms here yet. lossbench writes them at the end of each epoch: train "
  + "something (lossbench train), or start TensorBoard on a folder with runs (lossbench board, or "
  + "tensorboard --logdir FOLDER). If a run has just begun, press TensorBoard's reload button.";

const state = {
  places: [], // what the server has: name, arms, views
  place: null, // the one that is shown
  view: { split: "val", loss: "cross_entropy", group: "all" },
  data: null, // the distributions of the view, at every epoch
  epoch: null, // the one that is drawn
  wanted: Infinity, // the epoch that was asked for: Infinity is the newest, also when there are more
  cumulative: false,
  shown: new Map(), // name of a place -> keys of the arms that are drawn
  filter: "",
};
const page = {}; // the elements that change
let asked = 0; // the newest question; older answers are thrown away

export function render() {
  document.documentElement.lang = "en";
  document.title = "Losses";
  document.head.append(html("link", { rel: "stylesheet", href: new URL("./losses.css", import.meta.url).href }));
  build();
  new ResizeObserver(drawChart).observe(page.chart);
  onReload(load);
  load();
}

function build() {
  page.place = html("select", { onchange: choosePlace });
  for (const field of Object.keys(WORDS)) {
    page[field] = html("select", { onchange: ({ target }) => chooseView(field, target.value) });
  }
  page.heights = html("select", { onchange: chooseHeights },
    html("option", { value: "density" }, "density"), html("option", { value: "cumulative" }, "cumulative"));
  page.slider = html("input", { type: "range", id: "epoch", min: 0, step: 1, oninput: slide });
  page.epoch = html("output", { for: "epoch", "aria-live": "off" });
  page.status = html("p", { role: "status" });
  page.filter = html("input", { type: "search", placeholder: "filter arms", "aria-label": "filter arms", oninput: filterArms });
  page.arms = html("ul", { "aria-label": "arms" });
  page.chart = html("div", { class: "chart" });
  page.caption = html("figcaption");
  page.table = html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "numbers of the epoch" });
  page.content = html("div", { class: "content", hidden: true },
    html("aside", {},
      html("div", { class: "pick" }, page.filter,
        html("button", { type: "button", onclick: () => showAll(true) }, "all"),
        html("button", { type: "button", onclick: () => showAll(false) }, "none")),
      page.arms),
    html("section", {},
      html("div", { class: "epoch" }, html("label", { for: "epoch" }, "Epoch"), page.slider, page.epoch),
      html("figure", {}, page.chart, page.caption),
      page.table));
  page.controls = html("form", { class: "controls", "aria-label": "what is shown", hidden: true, onsubmit: (event) => event.preventDefault() },
    labelled("runs of", page.place), labelled("split", page.split), labelled("loss", page.loss),
    labelled("classes", page.group), labelled("height", page.heights));
  for (const event of ["pointerover", "focusin"]) page.content.addEventListener(event, emphasise);
  page.content.addEventListener("pointerleave", emphasise);
  document.body.append(html("main", {}, html("h1", {}, "Losses"), page.controls, page.status, page.content));
}

function labelled(words, control) {
  return html("label", {}, html("span", {}, words), control);
}

// ---- what the server is asked

async function ask(route, query = {}) {
  const url = new URL(route, import.meta.url);
  url.search = new URLSearchParams(query);
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error("TensorBoard does not answer; is it still running?");
  }
  if (!answer.ok) throw new Error(`TensorBoard answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// The answer to the newest question, null to one that has been overtaken or failed.
async function newest(route, query) {
  const mine = ++asked;
  const late = setTimeout(() => say("loading …"), 300);
  try {
    const answer = await ask(route, query);
    return mine === asked ? answer : null;
  } catch (error) {
    if (mine === asked) say(error.message);
    return null;
  } finally {
    clearTimeout(late);
  }
}

async function load() {
  const answer = await newest("./arms");
  if (!answer) return;
  state.places = answer.places;
  const empty = state.places.length === 0;
  page.content.hidden = page.controls.hidden = empty;
  if (empty) return say(NO_DATA);
  const before = state.place?.name;
  state.place = state.places.find(({ name }) => name === before) ?? state.places[0];
  await loadView();
}

async function loadView() {
  const { name, arms } = state.place;
  if (!state.shown.has(name)) {
    state.shown.set(name, new Set(arms.slice(0, SHOWN_AT_FIRST).map(({ key }) => key)));
  }
  state.view = closest(state.view);
  fillControls();
  const data = await newest("./histograms", { place: name, tag: state.view.tag });
  if (!data) return;
  state.data = data;
  const { epochs } = data;
  state.epoch = epochs.findLast((epoch) => epoch <= state.wanted) ?? epochs[0] ?? null;
  drawArms();
  update();
}

// The view of the place that is most like the wanted one; what was just chosen counts most.
function closest(wanted, chosen) {
  const weight = { split: 4, loss: 2, group: 1, [chosen]: 8 };
  const likeness = (view) => Object.keys(WORDS)
    .reduce((sum, field) => sum + (view[field] === wanted[field] ? weight[field] : 0), 0);
  return state.place.views.reduce((best, view) => (likeness(view) > likeness(best) ? view : best));
}

// ---- what the user chooses

function choosePlace({ target }) {
  state.place = state.places.find(({ name }) => name === target.value);
  loadView();
}

function chooseView(field, value) {
  state.view = closest({ ...state.view, [field]: value }, field);
  loadView();
}

function chooseHeights({ target }) {
  state.cumulative = target.value === "cumulative";
  update();
}

function slide({ target }) {
  const { epochs } = state.data;
  state.epoch = epochs[Number(target.value)];
  state.wanted = state.epoch === epochs.at(-1) ? Infinity : state.epoch;
  update();
}

function filterArms({ target }) {
  state.filter = target.value.toLowerCase();
  drawArms();
}

function showAll(shown) {
  for (const { key } of listed()) choose(key, shown);
  drawArms();
  update();
}

function choose(key, shown) {
  const keys = state.shown.get(state.place.name);
  if (shown) keys.add(key); else keys.delete(key);
}

// The arm under the pointer or the focus stands out.
function emphasise({ type, target }) {
  const key = type === "pointerleave" ? undefined : target.closest("[data-arm]")?.dataset.arm;
  for (const line of page.chart.querySelectorAll(".line")) {
    line.classList.toggle("faint", key !== undefined && line.dataset.arm !== key && isShown(key));
  }
}

function isShown(key) {
  return state.shown.get(state.place.name).has(key);
}

// The arms that pass the filter.
function listed() {
  return state.place.arms.filter(({ label }) => label.toLowerCase().includes(state.filter));
}

// ---- what is drawn

function say(text) {
  page.status.textContent = text;
}

function fillControls() {
  const names = state.places.map(({ name }) => [name, name]);
  fill(page.place, names, state.place.name);
  for (const [field, words] of Object.entries(WORDS)) {
    const here = new Set(state.place.views.map((view) => view[field]));
    fill(page[field], Object.entries(words).filter(([value]) => here.has(value)), state.view[field]);
  }
}

function fill(select, options, value) {
  select.replaceChildren(...options.map(([key, words]) => html("option", { value: key }, words)));
  select.value = value;
  select.disabled = options.length < 2;
}

function drawArms() {
  const rows = listed().map((arm) => html("li", { "data-arm": arm.key },
    html("label", { title: arm.label },
      html("input", { type: "checkbox", checked: isShown(arm.key), onchange: ({ target }) => { choose(arm.key, target.checked); update(); } }),
      sample(arm), html("span", {}, arm.label))));
  page.arms.replaceChildren(...rows);
  if (rows.length === 0) page.arms.append(html("li", {}, "no arm has that in its name"));
}

// A piece of the arm's line.
function sample(arm) {
  return svg("svg", { class: "sample", width: 26, height: 10, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 5, y2: 5, ...look(placeOf(arm)) }));
}

function placeOf(arm) {
  return state.place.arms.indexOf(arm);
}

function update() {
  const { epochs, left_out: leftOut } = state.data;
  page.slider.max = Math.max(epochs.length - 1, 0);
  page.slider.value = epochs.indexOf(state.epoch);
  page.slider.disabled = epochs.length < 2;
  page.slider.setAttribute("aria-valuetext", `epoch ${state.epoch}`);
  page.epoch.textContent = epochs.length < 2 ? `${state.epoch} (the only one logged)` : `${state.epoch} of ${epochs.at(-1)}`;
  say(leftOut.length ? `Not drawn: ${leftOut.join("; ")}` : "");
  drawChart();
  drawTable();
}

// The arms that are drawn, each with its distribution at the epoch (undefined: none).
function chosen() {
  return state.place.arms.filter(({ key }) => isShown(key))
    .map((arm) => ({ arm, now: state.data.arms[arm.key]?.[state.epoch] }));
}

function drawChart() {
  if (!state.data || page.content.hidden) return;
  const { grid } = state.data;
  const found = chosen().filter(({ now }) => now);
  draw(page.chart, {
    grid,
    lines: found.map(({ arm, now }) => ({
      key: arm.key, place: placeOf(arm), first: now.first, heights: heights(now, grid[2], state.cumulative),
    })),
    marks: marks(),
    top: top(found),
    words: {
      title: title(),
      text: `${alternative(found)} The table below has the numbers.`,
      x: state.view.loss === "objective" ? "own loss (log scale)" : "cross-entropy in nats (log scale)",
      y: state.cumulative ? "fraction of samples up to here" : "fraction of samples",
    },
  });
  page.caption.textContent = captionText(grid);
}

// The end of the y axis goes in steps, so that it seldom moves under the slider.
function top(found) {
  if (state.cumulative) return 1;
  const most = Math.max(0, ...found.flatMap(({ now }) => now.fractions));
  return AXIS_ENDS.find((end) => end >= most);
}

function marks() {
  if (state.view.loss === "objective") return [];
  const classes = classCount();
  const found = [{ at: Math.log10(Math.log(2)), text: "log 2" }];
  if (classes > 2) found.push({ at: Math.log10(Math.log(classes)), text: `log ${classes}` });
  return found;
}

function classCount() {
  return state.place.arms.find(({ classes }) => classes)?.classes ?? 0;
}

function title() {
  const { split, loss, group } = state.view;
  const words = `${WORDS.split[split]}, ${WORDS.loss[loss]}, ${WORDS.group[group]}, epoch ${state.epoch}`;
  return words[0].toUpperCase() + words.slice(1);
}

function alternative(found) {
  if (found.length === 0) return "Nothing is drawn.";
  const sorted = found.toSorted((one, other) => one.now.median - other.now.median);
  const told = ({ arm, now }) => `${arm.label} with ${nats(now.median, state.data.grid)}`;
  const ends = `The lowest median has ${told(sorted[0])}`;
  return `${found.length} arms. ${ends}${found.length > 1 ? `, the highest ${told(sorted.at(-1))}` : ""}.`;
}

function captionText([low, high]) {
  const classes = classCount();
  const reading = state.view.loss === "objective"
    ? "Each arm has its own loss, so only shapes and epochs compare, not places. "
    : "Left of log 2 the true class has more than half of the probability"
      + `${classes > 2 ? `; right of log ${classes} a sample is worse than a uniform guess` : ""}. `;
  return `Mean over seeds, each with the same weight. ${reading}The outermost steps hold all below ${power(low)} and above ${power(high)}.`;
}

function drawTable() {
  const shares = state.view.loss !== "objective";
  const unit = shares ? ", nats" : "";
  const heads = ["arm", "seeds", `median${unit}`, `95th percentile${unit}`, ...(shares ? ["above log 2"] : [])];
  const rows = chosen().map((row) => tableRow(row, shares, heads.length));
  page.table.replaceChildren(rows.length === 0 ? html("p", {}, "Choose an arm in the list to see it.") : html("table", {},
    html("caption", {}, `${title()}, from the histograms`),
    html("thead", {}, html("tr", {}, ...heads.map((head) => html("th", { scope: "col" }, head)))),
    html("tbody", {}, ...rows)));
}

function tableRow({ arm, now }, shares, columns) {
  const name = html("th", { scope: "row" }, html("span", {}, sample(arm), html("span", {}, arm.label)));
  if (!now) {
    return html("tr", { "data-arm": arm.key }, name, html("td", { colspan: columns - 1, class: "none" }, "nothing logged at this epoch"));
  }
  const cells = [
    now.runs === arm.runs ? now.runs : `${now.runs} of ${arm.runs}`,
    nats(now.median, state.data.grid),
    nats(now.percentile_95, state.data.grid),
    ...(shares ? [`${(100 * now.above_log_2).toFixed(1)} %`] : []),
  ];
  return html("tr", { "data-arm": arm.key }, name, ...cells.map((cell) => html("td", {}, cell)));
}
