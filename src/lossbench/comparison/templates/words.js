// What each figure says, in words made of the numbers that it shows.
const percent = (share) => `${(100 * Math.max(share, 0)).toFixed(share > 0.0005 && share < 0.01 ? 1 : 0)} %`;
const sentence = (parts) => (parts.length ? `${parts.join("; ")}.` : "Nothing is drawn: no arm is chosen, or none has data here.");
const range = (low, high, write) => (low === null ? "" : ` (${write(low)} to ${write(high)})`);

// One part per shown arm, in the order of the legend, from the rows that the choice leaves.
function perArm(columns, choice, words) {
  const groups = Map.groupBy
    ? Map.groupBy(rowsOfColumns(columns, choice), (row) => row.arm)
    : rowsOfColumns(columns, choice).reduce((map, row) => map.set(row.arm, [...(map.get(row.arm) || []), row]), new Map());
  const arms = content.order.filter((arm) => groups.has(arm));
  return sentence(arms.map((arm) => `${content.labels[arm]}: ${words(groups.get(arm))}`));
}

// Share of a line below log10(loss) = x; within a bin the samples are taken as evenly spread.
function below(lines, line, x) {
  return lines.values[line].reduce((sum, value, step) => {
    const from = leftEdge(lines.first[line] + step);
    return sum + value * Math.min(1, Math.max(0, (x - from) / 0.1));
  }, 0);
}

// log10(loss) below which half of a line lies, by the same rule.
function middle(lines, line) {
  let left = 0.5;
  for (const [step, value] of lines.values[line].entries()) {
    if (value >= left) return leftEdge(lines.first[line] + step) + 0.1 * (left / value);
    left -= value;
  }
  return leftEdge(lines.first[line] + lines.values[line].length);
}

const nats = (exponent) => Number((10 ** exponent).toPrecision(2)).toString();

function lossWords({ losses, marks }, choice) {
  const lines = linesOf(losses, choice);
  const parts = content.order.flatMap((arm) => lines.filter((line) => losses.arm[line] === arm)).map((line) => {
    const half = percent(below(losses, line, marks.half));
    const chance = percent(1 - below(losses, line, marks.chance));
    return `${content.labels[losses.arm[line]]}: median ${nats(middle(losses, line))} nats, ${half} below log 2, `
      + `${chance} above log C, of ${losses.samples[line]} samples`;
  });
  return sentence(parts);
}

function overfittingWords({ losses }) {
  const name = losses.split.includes("reweighted") ? "reweighted" : "train";
  const median = (arm, split) => {
    const line = losses.arm.findIndex((each, place) => each === arm && losses.split[place] === split && whole(losses, place));
    return line < 0 ? null : nats(middle(losses, line));
  };
  const arms = content.order.filter((arm) => shown.has(arm) && median(arm, "test") !== null);
  return sentence(arms.map((arm) => `${content.labels[arm]}: median ${median(arm, name) ?? "unknown"} nats in training, ${median(arm, "test")} in test`));
}

function curveWords({ curves }, choice) {
  return perArm(curves, choice, (rows) => {
    const [first, last] = [rows[0], rows[rows.length - 1]];
    return `${shortNumber(first.mean)} at epoch ${first.epoch}, ${shortNumber(last.mean)} at epoch ${last.epoch}`;
  });
}

function recallWords({ recall }) {
  return perArm(recall, {}, (rows) => {
    const known = rows.filter((row) => row.recall !== null);
    if (!known.length) return "unknown";
    const worst = known.reduce((a, b) => (b.recall < a.recall ? b : a));
    const [first, last] = [known[0], known[known.length - 1]];
    return `${shortNumber(first.recall)} on ${first.class}, ${shortNumber(last.recall)} on ${last.class}, `
      + `worst ${shortNumber(worst.recall)} on ${worst.class}`;
  });
}

function reliabilityWords({ reliability }, choice) {
  return perArm(reliability, choice, (rows) => {
    const sum = (value) => rows.reduce((total, row) => total + row.share * value(row), 0);
    const [confidence, accuracy] = [sum((row) => row.confidence), sum((row) => row.accuracy)];
    const gap = sum((row) => Math.abs(row.confidence - row.accuracy));
    const leaning = confidence > accuracy ? "over-confident" : "under-confident";
    return `mean confidence ${shortNumber(confidence)}, accuracy ${shortNumber(accuracy)}, ${leaning} on the whole, `
      + `mean gap per sample ${shortNumber(gap)}`;
  });
}

function scatterWords({ scatter }, choice) {
  return perArm(scatter, choice, ([row]) => {
    const accuracy = `${shortNumber(row.accuracy)}${range(row.accuracy_low, row.accuracy_high, shortNumber)}`;
    const error = `${shortNumber(row.calibration)}${range(row.calibration_low, row.calibration_high, shortNumber)}`;
    return `${content.beside} ${accuracy}, expected calibration error ${error}`;
  });
}

function differenceWords({ differences }) {
  return perArm(differences, {}, ([row]) => {
    const decided = row.low !== null && (row.low > 0 || row.high < 0);
    const interval = row.low === null ? " (one seed, no interval)" : range(row.low, row.high, signed);
    return `${signed(row.mean)}${interval}${decided ? "" : ", not distinguishable from 0"}`;
  });
}

const rankWords = ({ ranks }) => perArm(ranks, {}, ([row]) => `average rank ${row.rank}`);

function aggregateWords({ aggregates }) {
  return perArm(aggregates, {}, ([row]) => (
    `interquartile mean ${shortNumber(row.interquartile_mean)}${range(row.low, row.high, shortNumber)}`
  ));
}

function profileWords({ profiles }) {
  return perArm(profiles, {}, (rows) => {
    const half = rows.find((row) => row.share <= 0.5) || rows[rows.length - 1];
    return `half of the runs are better than ${shortNumber(half.value)}`;
  });
}

function budgetWords({ budget }, choice) {
  return perArm(budget, choice, (rows) => {
    const [first, last] = [rows[0], rows[rows.length - 1]];
    const best = (row) => (row.best === null ? "none finished" : shortNumber(row.best));
    const chosen = rows.find(({ mark }) => mark === "chosen");
    const failed = rows.filter(({ mark }) => mark === "failed").length;
    return `${best(first)} with defaults, ${best(last)} up to trial ${last.trial}`
      + (chosen ? `, trial ${chosen.trial} chosen` : "") + (failed ? `, ${failed} failed` : "");
  });
}

const WORDS = {
  ranks: rankWords, aggregates: aggregateWords, profiles: profileWords,
  differences: differenceWords, budget: budgetWords, losses: lossWords, overfitting: overfittingWords, curves: curveWords,
  recall: recallWords, reliability: reliabilityWords, scatter: scatterWords,
};

const LOSS_READING = {
  density: "Each step is the share of samples in a tenth of a power of ten. Left of log 2 the true class has "
    + "more than half of the probability; right of log C a sample is worse than a uniform guess.",
  cumulative: "The height at a loss is the share of samples below it: the higher a curve, the smaller its losses. "
    + "Where two curves cross, the lower one on the left has fewer very small losses and fewer very large ones.",
  train: "These samples were learned from: mass far left of the test curve is over-fitting.",
  val: "These samples were not learned from.",
  test: "These samples were never seen in training.",
  head: "Head: the third of the classes with the most training images.",
  mid: "Mid: the classes between head and tail.",
  tail: "Tail: the third of the classes with the fewest training images; mass right of log C here is what "
    + "imbalance costs.",
  correct: "Only samples that the model gets right: none can lie right of log C. Mass close to log 2 is right by a hair.",
  wrong: "Only samples that the model gets wrong: none can lie left of log 2. The further right, the more "
    + "confidently wrong.",
};

const VIEW_READING = {
  raw: "The logits as deployed.",
  adjusted: "The logits are moved from the training prior to the prior of the split.",
  temperature: "The logits are divided by one temperature per run, fitted on the validation set: what is left "
    + "is what no single scale can mend.",
};

const READING = {
  losses: ({ form, split, group, outcome }) => [form, split, group, outcome]
    .map((value) => LOSS_READING[value]).filter(Boolean).join(" "),
  reliability: ({ view }) => VIEW_READING[view] || "",
  scatter: ({ view }) => VIEW_READING[view] || "",
};
