// The figures: drawn when they come near the view; arms and choices change their rows.
const SERIES_DASH = { test: [1, 0], reweighted: [6, 3], train: [1, 3] };
const ROW_PER_ARM = ["differences", "ranks", "aggregates"]; // these draw every arm, chosen or not
const views = new Map(); // chart element -> its Vega view, or null while it is being drawn

// Bin 0 is the underflow, bin k starts at 10 ** (-8 + (k - 1) / 10), bin 101 is the overflow.
const leftEdge = (bin) => Math.round(10 * (-8.1 + bin / 10)) / 10;

function chosen(figure) {
  const inputs = [...figure.querySelectorAll("input:checked")];
  return Object.fromEntries(inputs.map((input) => [input.dataset.key, input.value]));
}

function rowsOfColumns(columns, choice, every) {
  const names = Object.keys(columns);
  const keys = names.filter((name) => name in choice);
  const rows = columns.arm.flatMap((arm, place) => {
    if (!(every || shown.has(arm)) || keys.some((key) => columns[key][place] !== choice[key])) return [];
    return [{ ...Object.fromEntries(names.map((name) => [name, columns[name][place]])), arm, ...looks[arm] }];
  });
  return rows;
}

// The steps of one line: a fraction per bin, or the sum up to the end of each bin.
function steps(first, values, cumulative) {
  if (!cumulative) return [0, ...values, 0].map((y, step) => ({ x: leftEdge(first - 1 + step), y }));
  let sum = 0;
  const sums = values.map((value, step) => ({ x: leftEdge(first + step + 1), y: (sum += value) }));
  return [{ x: leftEdge(0), y: 0 }, ...sums, { x: leftEdge(102), y: 1 }];
}

function rowsOfLines(lines, wanted, cumulative) {
  return lines.arm.flatMap((arm, line) => {
    const dash = wanted(line);
    if (!dash) return [];
    const appearance = { arm, ...looks[arm], split: lines.split[line] };
    if (Array.isArray(dash)) appearance.dash = dash;
    return steps(lines.first[line], lines.values[line], cumulative).map((step) => ({ ...step, ...appearance }));
  });
}

const whole = (lines, line) => lines.group[line] === "all" && lines.outcome[line] === "all";

function linesOf(lines, choice) {
  return lines.arm.flatMap((arm, line) => {
    const fits = ["split", "group", "outcome"].every((key) => !(key in choice) || lines[key][line] === choice[key]);
    return fits && shown.has(arm) ? [line] : [];
  });
}

function rowsOf(chart) {
  const figure = chart.closest("figure");
  const data = dataOf(figure);
  const choice = chosen(figure);
  const name = figure.dataset.figure;
  if (name === "losses") {
    const wanted = new Set(linesOf(data.losses, choice));
    return rowsOfLines(data.losses, (line) => wanted.has(line), choice.form === "cumulative");
  }
  if (name === "overfitting") {
    const { losses } = data;
    const panel = Number(chart.closest(".panel").dataset.arm);
    const dashes = losses.split.includes("reweighted") ? SERIES_DASH : { test: [1, 0], train: [6, 3] };
    const wanted = (line) => losses.arm[line] === panel && whole(losses, line) && dashes[losses.split[line]];
    return rowsOfLines(losses, wanted, false);
  }
  return rowsOfColumns(data[name], choice, ROW_PER_ARM.includes(name));
}

// The end of the y axis: the highest bin, so that arms and splits share a scale.
function topOf(chart) {
  const figure = chart.closest("figure");
  const choice = chosen(figure);
  if (choice.form === "cumulative") return 1;
  const { losses } = dataOf(figure);
  if (!losses) return 1;
  const fits = figure.dataset.figure === "losses"
    ? (line) => losses.group[line] === choice.group && losses.outcome[line] === choice.outcome
      && losses.split[line] !== "reweighted"
    : (line) => whole(losses, line);
  const drawn = losses.values.filter((_, line) => fits(line) && shown.has(losses.arm[line]));
  return drawn.reduce((most, values) => Math.max(most, ...values), 0.001);
}

// The rules at log 2 and log C; over all cells, the bars above the ranks.
function marksOf(figure) {
  const { marks } = dataOf(figure);
  if (!marks) return [];
  if (marks.row) return marks.row.map((row, place) => ({ row, low: marks.low[place], high: marks.high[place] }));
  return [
    { x: marks.half, text: "log 2", side: "right" },
    { x: marks.chance, text: "log C", side: "left" },
  ];
}

// The library is the heaviest part of the page: it is run when the first figure is drawn.
function library() {
  if (!window.vegaEmbed) {
    document.head.append(element("script", {}, document.getElementById("vega").textContent));
  }
  return window.vegaEmbed;
}

function theme(width) {
  const axis = { labelColor: "var(--ink)", titleColor: "var(--ink)", gridColor: "var(--line)" };
  return {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: {
      ...axis, domainColor: "var(--muted)", tickColor: "var(--muted)", gridOpacity: 0.7,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, labelLimit: Math.min(320, 0.4 * width),
    },
    mark: { color: "var(--muted)" },
    rule: { color: "var(--muted)" },
    text: { color: "var(--ink)" },
  };
}

// A figure with one line per arm or class is as high as it has lines. Vega-Lite could do that, but
// warns in the console where the width follows the page.
function heightOf(own, rows, marks) {
  if (!own.height.step) return own.height;
  const { field } = (own.encoding || own.layer.find(({ encoding }) => encoding?.y?.field).encoding).y;
  const lines = new Set(rows.map((row) => row[field] ?? row.label));
  marks.forEach(({ row }) => row && lines.add(row));
  return own.height.step * Math.max(1, lines.size);
}

async function draw(chart) {
  views.set(chart, null);
  const figure = chart.closest("figure");
  const state = () => JSON.stringify([chosen(figure), [...shown]]);
  const before = state();
  const own = content.specifications[figure.dataset.figure];
  const [rows, marks] = [rowsOf(chart), marksOf(figure)];
  const specification = {
    ...own,
    height: heightOf(own, rows, marks),
    params: (own.params || []).map((each) => (each.name === "top" ? { ...each, value: topOf(chart) } : each)),
    config: theme(chart.clientWidth),
    datasets: { ...own.datasets, rows, marks },
  };
  const { view } = await library()(chart, specification, { mode: "vega-lite", renderer: "svg", actions: false });
  chart.querySelector("svg").setAttribute("aria-hidden", "true"); // the chart has its words
  views.set(chart, view);
  chart.view = view;
  if (state() !== before) refresh([chart]); // switched while it was being drawn
}

function refresh(charts) {
  for (const chart of charts) {
    const view = views.get(chart);
    if (!view) continue;
    const figure = chart.closest("figure");
    const own = content.specifications[figure.dataset.figure];
    const rows = rowsOf(chart);
    if (own.height.step) view.height(heightOf(own, rows, marksOf(figure)));
    if ((own.params || []).some(({ name }) => name === "top")) view.signal("top", topOf(chart));
    view.data("rows", rows).runAsync();
  }
}

// The words of a figure, and its key on paper, follow what is drawn.
function describe(figure) {
  const data = dataOf(figure);
  const words = WORDS[figure.dataset.figure];
  figure.querySelector(".words p").textContent = words(data, chosen(figure));
  const reading = READING[figure.dataset.figure];
  if (reading) figure.querySelector(".reading").textContent = reading(chosen(figure));
  if (ROW_PER_ARM.includes(figure.dataset.figure)) return;
  const key = figure.querySelector(".key");
  const columns = data[figure.dataset.figure] || data.losses;
  const there = new Set(columns.arm);
  const drawn = content.order.filter((arm) => shown.has(arm) && there.has(arm));
  key.replaceChildren(...drawn.map((arm) => {
    const entry = element("span");
    entry.innerHTML = swatch(arm);
    entry.append(content.labels[arm]);
    return entry;
  }));
  if (drawn.length < there.size) key.append(element("b", {}, `${drawn.length} of ${there.size} are drawn`));
}

function showPanels() {
  document.querySelectorAll(".panel").forEach((panel) => {
    panel.hidden = !shown.has(Number(panel.dataset.arm));
  });
}

function svgOf(figure) {
  const svg = figure.querySelector(".chart svg").cloneNode(true);
  const style = getComputedStyle(document.documentElement);
  const text = new XMLSerializer().serializeToString(svg);
  return text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

function figures() {
  const all = [...document.querySelectorAll("figure[data-figure]")].filter((figure) => figure.querySelector(".chart"));
  const charts = all.flatMap((figure) => [...figure.querySelectorAll(".chart")]);
  const waiting = () => charts.filter((chart) => !views.has(chart) && !chart.closest("[hidden]"));
  showPanels();
  armChoice(document.querySelector(".arms"), () => {
    showPanels();
    all.forEach(describe);
    refresh(charts);
  });
  for (const figure of all) {
    describe(figure);
    figure.addEventListener("change", () => {
      describe(figure);
      refresh(figure.querySelectorAll(".chart"));
    });
    figure.querySelector("button.svg")?.addEventListener("click", async () => {
      const [chart] = figure.querySelectorAll(".chart");
      if (!views.get(chart)) await draw(chart);
      download(svgOf(figure), "image/svg+xml", fileName(figure, "svg"));
    });
  }
  const nearby = new IntersectionObserver(
    (entries) => entries.forEach(({ isIntersecting, target }) => {
      if (isIntersecting && !views.has(target)) draw(target);
    }),
    { rootMargin: "400px" },
  );
  // after the first paint: the words and tables of the page do not wait for the library
  requestAnimationFrame(() => setTimeout(() => charts.forEach((chart) => nearby.observe(chart))));
  const grades = [...document.querySelectorAll("details.grade")].filter((grade) => !grade.open);
  onPaper(
    () => { waiting().forEach(draw); grades.forEach((grade) => { grade.open = true; }); },
    () => grades.forEach((grade) => { grade.open = false; }),
  );
}
