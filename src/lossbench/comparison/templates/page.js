// The data on the page, which arms are drawn, and what is downloaded.
const content = JSON.parse(document.getElementById("content").textContent);
const shown = new Set(content.drawn); // the arms that the figures draw
const parsed = new Map();

function dataOf(element) {
  const place = element.closest("[data-context]").dataset.context;
  if (!parsed.has(place)) {
    parsed.set(place, JSON.parse(document.getElementById(`data-${place}`).textContent));
  }
  return parsed.get(place);
}

// Six hues; a hue comes back with another dash and another shape. Colours are CSS variables, so
// that light, dark and paper need no drawing anew.
const HUES = 6;
const DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]];
const SHAPES = {
  circle: "M15 2a4 4 0 1 0 .01 0z", square: "M11 2h8v8h-8z", "triangle-up": "M15 1l5 9h-10z",
  diamond: "M15 0l5 6l-5 6l-5-6z", cross: "M13 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
  "triangle-down": "M15 11l5-9h-10z",
};

function look(arm) {
  const place = content.order.indexOf(arm); // the baseline is first, then the best
  const turn = place === 0 ? 0 : Math.floor((place - 1) / HUES);
  const names = Object.keys(SHAPES);
  return {
    label: content.labels[arm],
    colour: `var(--arm-${place === 0 ? 0 : 1 + ((place - 1) % HUES)})`,
    dash: DASHES[turn % DASHES.length],
    shape: names[(place + turn) % names.length],
  };
}
const looks = content.labels.map((_, arm) => look(arm));

function swatch(arm) {
  const { colour, dash, shape } = looks[arm];
  const line = `<path d="M0 6h30" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${dash}"/>`;
  const mark = `<path d="${SHAPES[shape]}" fill="${colour}"/>`;
  return `<svg width="30" height="12" aria-hidden="true">${line}${mark}</svg>`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function delayed(action) { // once the typing has stopped
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(action, 120); };
}

// Paper: before printing, and where the page is shown as if printed.
function onPaper(before, after) {
  window.addEventListener("beforeprint", before);
  window.addEventListener("afterprint", after);
  window.matchMedia("print").addEventListener("change", ({ matches }) => (matches ? before() : after()));
}

// --- downloads

function csvField(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const csv = (rows) => rows.map((row) => `${row.map(csvField).join(",")}\r\n`).join("");

function download(text, kind, name) {
  const url = URL.createObjectURL(new Blob([text], { type: `${kind};charset=utf-8` }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const fileName = (item, ending) => `${content.study}-${item.id}.${ending}`.replace(/[^\w.-]+/g, "_");

function csvOfTable(table) {
  return csv([...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent)));
}

// Columns with arms and metrics as numbers -> rows with their names; lists inside become one text.
function csvOfColumns(columns, metrics) {
  const names = Object.keys(columns);
  const named = { arm: (arm) => content.labels[arm], metric: (place) => metrics[place].tag };
  const cells = names.map((name) => columns[name].map((value) => {
    if (named[name]) return named[name](value);
    return Array.isArray(value) ? value.join(" ") : value;
  }));
  return csv([names, ...cells[0].map((_, row) => cells.map((column) => column[row]))]);
}

// One row per bin: the lines of the loss histograms with the edges of their bins.
function csvOfLosses({ arm, split, group, outcome, samples, first, values }) {
  const head = ["arm", "split", "group", "outcome", "samples", "log10_from", "log10_to", "fraction"];
  const rows = arm.flatMap((number, line) => values[line].map((fraction, step) => {
    const bin = first[line] + step;
    const ends = [bin === 0 ? "" : leftEdge(bin), bin === 101 ? "" : leftEdge(bin + 1)];
    const who = [content.labels[number], split[line], group[line], outcome[line], samples[line]];
    return [...who, ...ends, fraction];
  }));
  return csv([head, ...rows]);
}

function csvOf(item) {
  const { figure } = item.dataset;
  if (!figure) return csvOfTable(item.querySelector("table"));
  const data = dataOf(item);
  if (figure === "losses" || figure === "overfitting") return csvOfLosses(data.losses);
  return csvOfColumns(data[figure], data.metrics);
}

function downloads() {
  document.querySelectorAll("button.csv").forEach((button) => {
    const item = button.closest(".item");
    button.addEventListener("click", () => download(csvOf(item), "text/csv", fileName(item, "csv")));
  });
}

// --- which arms the figures draw

function armChoice(form, changed) {
  const list = form.querySelector(".list");
  const more = form.querySelector(".more");
  const filter = form.querySelector("input[type=search]");
  const entries = content.order.map((arm) => {
    const box = element("input", { type: "checkbox", value: arm });
    box.checked = shown.has(arm);
    const label = element("label", {}, box);
    label.insertAdjacentHTML("beforeend", swatch(arm));
    label.append(content.labels[arm]);
    list.append(label);
    return { arm, box, label };
  });
  const open = () => more.getAttribute("aria-expanded") === "true";
  // Closed, the list is the legend: what is drawn. Open, it is everything that the filter finds.
  const arrange = () => {
    const wanted = open() ? filter.value.trim().toLowerCase() : "";
    for (const { arm, box, label } of entries) {
      const found = content.labels[arm].toLowerCase().includes(wanted);
      label.hidden = !found || !(open() || box.checked || content.labels.length <= content.most);
    }
    form.classList.toggle("open", open());
    more.textContent = open() ? "Done" : `Choose (${shown.size} of ${content.labels.length} drawn)`;
  };
  more.hidden = content.labels.length <= content.most;
  more.addEventListener("click", () => {
    more.setAttribute("aria-expanded", String(!open()));
    arrange();
    if (open()) filter.focus();
  });
  filter.addEventListener("input", arrange);
  form.addEventListener("submit", (event) => event.preventDefault());
  list.addEventListener("change", ({ target }) => {
    shown[target.checked ? "add" : "delete"](Number(target.value));
    if (open()) arrange();
    changed();
  });
  arrange();
}
