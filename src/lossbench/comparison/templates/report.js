// Draws the figures when they come into view; arms, splits and views are chosen with plain inputs.
(() => {
  "use strict";
  const content = JSON.parse(document.getElementById("content").textContent);
  const HUES = 6;
  const DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]];
  const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"];
  const SERIES_DASH = { test: [1, 0], reweighted: [6, 3], train: [1, 3] };
  const hidden = new Set();
  const drawn = new Map(); // chart element -> its view, or null while it is being drawn

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function look(arm) {
    const turn = arm === 0 ? 0 : Math.floor((arm - 1) / HUES);
    return {
      label: content.labels[arm],
      colour: colour(arm === 0 ? "--arm-0" : `--arm-${1 + ((arm - 1) % HUES)}`),
      dash: DASHES[turn % DASHES.length],
      shape: SHAPES[(arm + turn) % SHAPES.length],
    };
  }

  function rowsOfColumns(columns, key, choice) {
    const names = Object.keys(columns);
    const looks = content.labels.map((_, arm) => look(arm));
    return columns.arm.flatMap((arm, place) => {
      if (hidden.has(arm) || (key && columns[key][place] !== choice)) return [];
      const row = Object.fromEntries(names.map((name) => [name, columns[name][place]]));
      return [{ ...row, ...looks[arm] }];
    });
  }

  // Bin 0 is the underflow, bin k starts at 10 ** (-8 + (k - 1) / 10), bin 101 is the overflow.
  const left = (bin) => Math.round(10 * (-8.1 + bin / 10)) / 10;

  function rowsOfLines(lines, wanted) {
    return lines.arm.flatMap((arm, place) => {
      const split = lines.split[place];
      const dash = wanted(arm, split);
      if (!dash) return [];
      const appearance = { ...look(arm), split, ...(Array.isArray(dash) ? { dash } : {}) };
      const values = [0, ...lines.values[place], 0];
      return values.map((y, step) => ({ x: left(lines.first[place] - 1 + step), y, ...appearance }));
    });
  }

  function chosen(figure) {
    const input = figure.querySelector("input:checked");
    return input && input.value;
  }

  function rowsOf(chart) {
    const figure = chart.closest("figure");
    const name = figure.dataset.figure;
    const data = content.contexts[Number(figure.dataset.context)];
    if (name === "losses") {
      const split = chosen(figure) || data.losses.split[0];
      return rowsOfLines(data.losses, (arm, found) => !hidden.has(arm) && found === split);
    }
    if (name === "overfitting") {
      const panel = Number(chart.parentElement.dataset.arm);
      const shifted = data.losses.split.includes("reweighted");
      const dashes = shifted ? SERIES_DASH : { test: [1, 0], train: [6, 3] };
      return rowsOfLines(data.losses, (arm, found) => arm === panel && dashes[found]);
    }
    const key = { curves: "curve", reliability: "view" }[name];
    return rowsOfColumns(data[name], key, chosen(figure) || (key && data[name][key][0]));
  }

  // The end of the y axis: the highest bin of the figure, so that arms and splits share a scale.
  function topOf(chart) {
    const { figure, context } = chart.closest("figure").dataset;
    const { losses } = content.contexts[Number(context)];
    const shown = losses.values.filter(
      (_, place) => figure === "overfitting" || losses.split[place] !== "reweighted",
    );
    return Math.max(...shown.flat());
  }

  function marksOf(chart) {
    const { marks } = content.contexts[Number(chart.closest("figure").dataset.context)];
    return [
      { x: marks.half, text: "log 2", side: "right" },
      { x: marks.chance, text: "log C", side: "left" },
    ];
  }

  function theme() {
    const [ink, muted, line] = ["--ink", "--muted", "--line"].map(colour);
    const axis = { labelColor: ink, titleColor: ink, gridColor: line, domainColor: muted };
    return {
      background: null,
      font: "system-ui, sans-serif",
      view: { stroke: null },
      axis: { ...axis, tickColor: muted, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 },
      mark: { color: muted },
      rule: { color: muted },
      text: { color: ink },
    };
  }

  async function draw(chart) {
    drawn.set(chart, null);
    const figure = chart.closest("figure");
    const datasets = { rows: rowsOf(chart), marks: marksOf(chart) };
    const own = content.specifications[figure.dataset.figure];
    const specification = {
      ...own,
      params: (own.params || []).map((each) => ({ ...each, value: topOf(chart) })),
      config: theme(),
      autosize: { type: "fit-x", contains: "padding" },
      datasets: { ...own.datasets, ...datasets },
      description: figure.getAttribute("aria-label"),
    };
    const actions = { export: true, source: false, compiled: false, editor: false };
    const options = { mode: "vega-lite", renderer: "svg", actions };
    const { view } = await window.vegaEmbed(chart, specification, options);
    drawn.set(chart, view);
  }

  function refresh(charts) {
    for (const chart of charts) {
      const view = drawn.get(chart);
      if (view) view.data("rows", rowsOf(chart)).runAsync();
    }
  }

  function swatch(arm) {
    const { dash } = look(arm);
    const name = arm === 0 ? 0 : 1 + ((arm - 1) % HUES);
    const line = `<line x1="0" y1="6" x2="30" y2="6" stroke="var(--arm-${name})" stroke-width="3"`;
    return `<svg width="30" height="12" aria-hidden="true">${line} stroke-dasharray="${dash}"/></svg>`;
  }

  function legend(form) {
    content.labels.forEach((name, arm) => {
      const label = document.createElement("label");
      label.innerHTML = `<input type="checkbox" checked>${swatch(arm)}`;
      label.append(name);
      label.firstChild.addEventListener("change", (event) => {
        hidden[event.target.checked ? "delete" : "add"](arm);
        document.querySelectorAll(`.panel[data-arm="${arm}"]`).forEach((panel) => {
          panel.hidden = !event.target.checked;
        });
        refresh(drawn.keys());
      });
      form.append(label);
    });
  }

  legend(document.querySelector(".legend"));
  const charts = [...document.querySelectorAll(".chart")];
  document.querySelectorAll("figure .choices").forEach((choices) => {
    const figure = choices.closest("figure");
    choices.addEventListener("change", () => refresh(figure.querySelectorAll(".chart")));
  });
  const nearby = new IntersectionObserver(
    (entries) => entries.forEach(({ isIntersecting, target }) => {
      if (isIntersecting && !drawn.has(target)) draw(target);
    }),
    { rootMargin: "400px" },
  );
  charts.forEach((chart) => nearby.observe(chart));
  const drawAll = () => charts.filter((chart) => !drawn.has(chart)).forEach(draw);
  window.addEventListener("beforeprint", drawAll);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    [...drawn.keys()].forEach(draw);
  });
})();
