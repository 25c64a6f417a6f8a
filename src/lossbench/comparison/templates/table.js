// The table of every metric: filtered, sorted, and put on the page some rows at a time.
const PAGE = 25;
const GROUP_WORDS = {
  cls: "classification", cal: "calibration", cal_adjusted: "calibration, prior-adjusted",
  loss: "losses", recall: "recall per class", ranking: "ranking", selective: "selective prediction",
  overfitting: "over-fitting", shifted: "at shifted priors", label_noise: "label noise",
};

function shortNumber(value) {
  if (value === null) return "–";
  const extreme = value !== 0 && (Math.abs(value) < 0.0005 || Math.abs(value) >= 1e6);
  return extreme ? value.toExponential(1) : value.toFixed(3);
}
const signed = (value) => (value > 0 ? "+" : "") + shortNumber(value);
const between = (low, high, write) => (low === null ? "–" : `${write(low)} to ${write(high)}`);

const COLUMNS = [
  { name: "metric", words: true, key: (row) => row.name, text: (row) => `${row.name} ${row.arrow}` },
  { name: "split", words: true, key: (row) => row.split, text: (row) => row.split },
  { name: "arm", words: true, key: (row) => row.label, text: (row) => row.label },
  { name: "mean", key: (row) => row.mean, text: (row) => shortNumber(row.mean) },
  { name: "95 % interval", key: (row) => row.low, text: (row) => between(row.low, row.high, shortNumber) },
  { name: "difference", key: (row) => row.difference, text: (row) => signed(row.difference) },
  {
    name: "95 % interval of the difference", key: (row) => row.difference_low,
    text: (row) => between(row.difference_low, row.difference_high, signed),
  },
  { name: "n", key: (row) => row.n, text: (row) => row.n },
  { name: "pairs", key: (row) => row.pairs, text: (row) => row.pairs || "–" },
];

function groupWords(group) {
  if (group.startsWith("posthoc_")) return `with ${group.slice(8).replaceAll("_", " ")}`;
  const [start, ...rest] = group.split("_");
  if (GROUP_WORDS[group]) return GROUP_WORDS[group];
  return GROUP_WORDS[start] ? `${GROUP_WORDS[start]}, ${rest.join(" ")}` : group.replaceAll("_", " ");
}

// Rows in the order of the metrics (the summary first), then of the arms (the best first).
function metricRows({ every_metric: columns, metrics }) {
  const names = Object.keys(columns);
  const rank = new Map(content.order.map((arm, place) => [arm, place]));
  return columns.arm.map((arm, place) => {
    const row = Object.fromEntries(names.map((name) => [name, columns[name][place]]));
    const metric = metrics[row.metric];
    const [split, group] = metric.tag.split("/");
    return { ...row, ...metric, place: row.metric, split, group: `${split}/${group}`, label: content.labels[arm] };
  }).sort((a, b) => a.place - b.place || rank.get(a.arm) - rank.get(b.arm));
}

function compareValues(a, b) {
  const missing = (a === null) - (b === null);
  if (missing || a === null) return missing;
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}

function sortedRows(rows, column, direction) {
  if (!column) return rows;
  const factor = direction === "ascending" ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [x, y] = [column.key(a), column.key(b)];
    const order = compareValues(x, y);
    return x === null || y === null ? order : factor * order; // what is undefined stays last
  });
}

function tableRow(row, before) {
  return element("tr", {}, ...COLUMNS.map((column, place) => {
    const text = column.text(row);
    const cell = element(place ? "td" : "th", place ? {} : { scope: "row", title: row.tag }, String(text));
    if (!place && before && before.tag === row.tag) cell.className = "again";
    else if (column.words) cell.className = "name";
    return cell;
  }));
}

function groupOptions(select, rows, summary) {
  const groups = [...new Set(rows.map((row) => row.group))];
  const splits = [...new Set(groups.map((group) => group.split("/")[0]))];
  select.append(new Option(`summary (${summary.size} metrics)`, "summary"), new Option("every metric", ""));
  for (const split of splits) {
    const box = element("optgroup", { label: split });
    groups.filter((group) => group.startsWith(`${split}/`)).forEach((group) => {
      box.append(new Option(`${split}: ${groupWords(group.slice(split.length + 1))}`, group));
    });
    select.append(box);
  }
}

function metricTable(item) {
  const data = dataOf(item);
  const all = metricRows(data);
  const summary = new Set(data.summary);
  const [search, select] = item.querySelectorAll(".filter input, .filter select");
  const [count, body, pager] = [".count", "tbody", ".pager"].map((name) => item.querySelector(name));
  const state = { column: null, direction: "none", from: 0, size: PAGE };
  groupOptions(select, all, summary);

  const found = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const group = select.value;
    return all.filter((row) => {
      if (group === "summary" ? !summary.has(row.place) : group && row.group !== group) return false;
      const text = `${row.name} ${row.tag} ${row.label}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  };

  function show() {
    const rows = sortedRows(found(), state.column, state.direction);
    if (state.from >= rows.length) state.from = 0;
    const until = Math.min(rows.length, state.from + state.size);
    const visible = rows.slice(state.from, until);
    body.replaceChildren(...visible.map((row, place) => tableRow(row, visible[place - 1])));
    count.textContent = rows.length
      ? `rows ${state.from + 1} to ${until} of ${rows.length}` : "no row matches the filter";
    const [previous, next, whole] = pager.querySelectorAll("button");
    pager.hidden = rows.length <= PAGE;
    previous.disabled = state.from === 0;
    next.disabled = until === rows.length;
    whole.textContent = state.size === PAGE ? "Show all" : "Show pages";
  }

  function turn(change) {
    Object.assign(state, change);
    show();
  }

  const heads = COLUMNS.map((column) => {
    const button = element("button", { type: "button" }, column.name);
    const head = element("th", { scope: "col", "aria-sort": "none", class: column.words ? "name" : "" }, button);
    button.addEventListener("click", () => {
      const again = state.column === column && state.direction === "ascending";
      heads.forEach((each) => each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", again ? "descending" : "ascending");
      turn({ column, direction: again ? "descending" : "ascending", from: 0 });
    });
    return head;
  });
  item.querySelector("thead").append(element("tr", {}, ...heads));
  item.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", delayed(() => turn({ from: 0 })));
  select.addEventListener("change", () => turn({ from: 0 }));
  const [previous, next, whole] = pager.querySelectorAll("button");
  previous.addEventListener("click", () => turn({ from: Math.max(0, state.from - PAGE) }));
  next.addEventListener("click", () => turn({ from: state.from + PAGE }));
  whole.addEventListener("click", () => turn({ from: 0, size: state.size === PAGE ? Infinity : PAGE }));
  onPaper(() => turn({ from: 0, size: Infinity }), () => turn({ from: 0, size: PAGE }));
  show();
}
