"""The answer in words says what the numbers allow, and the numbers are scipy's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.compare import Comparison, compare, evaluate
from lossbench.comparison.posthoc import with_posthoc
from lossbench.comparison.statistics import ALPHA
from lossbench.records import Record, read_record, read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

METRIC = "test/cls/balanced_accuracy"
HEAD, TAIL = "test/cls/head_recall", "test/cls/tail_recall"
CLEAR = (0.061, 0.066, 0.051, 0.062, 0.068)
NOTHING = (0.0011, -0.0014, 0.0004, -0.0008, 0.0009)
WIDE = (0.09, -0.03, 0.11, 0.02, -0.06)
LOST = (-0.055, -0.07, -0.048, -0.066, -0.071)


def study(
    folder: Path, arms: Mapping[str, Sequence[float]], cells: Sequence[str] = ("a | b | c | d",)
) -> list[Record]:
    """A study in which each arm differs from cross_entropy by the given values, one per seed."""
    seeds = range(max(map(len, arms.values())))
    names = {"cross_entropy": 0.0} | dict.fromkeys(arms, 0.0)
    write_synthetic_study(folder, names, seeds, cells=cells, noise=0.0)
    records = []
    for record in read_study(folder):
        shift = 0.0 if record.arm == "cross_entropy" else arms[record.arm][record.seed]
        changes = {METRIC: 0.7 + 0.01 * record.seed + shift}
        records.append(dataclasses.replace(record, metrics=record.metrics | changes))
    return records


def judged(records: Sequence[Record], margin: float | None = None, **more: str) -> Comparison:
    settings = {"baseline": "cross_entropy", "metric": METRIC, "by": "arm"} | more
    return evaluate(records, margin=margin, **settings)


def answer(records: Sequence[Record], margin: float | None = None, **more: str) -> str:
    found = judged(records, margin, **more)
    return found.paragraph(next(iter(found.ranked)))


def t_interval(values: Sequence[float], level: float) -> str:
    """The two-sided t-interval by scipy, as it is printed."""
    low, high = stats.t.interval(1 - level, len(values) - 1, np.mean(values), stats.sem(values))
    return f"{low:+.3f} to {high:+.3f}"


def seeds_by_scipy(values: Sequence[float], difference: float, level: float) -> int:
    """The seeds that show ``difference`` with 80 % power: scipy's noncentral t, counted up."""
    for n in range(2, 1001):
        shift = difference / np.std(values, ddof=1) * np.sqrt(n)
        edge = stats.t.ppf(1 - level / 2, n - 1)
        other = np.nan_to_num(stats.nct.cdf(-edge, n - 1, shift))  # scipy's far tail is NaN
        if stats.nct.sf(edge, n - 1, shift) + other >= 0.8:
            return n
    raise AssertionError


def test_the_best_that_is_better_is_recommended_with_size_and_certainty(tmp_path: Path) -> None:
    records = study(tmp_path, {"good": CLEAR, "wide": WIDE, "bad": LOST})
    text = answer(records)
    assert 3 * stats.ttest_1samp(CLEAR, 0).pvalue < 0.0001  # the first of three by Holm
    assert text.startswith(
        "Use good: better than cross_entropy in balanced accuracy (test set), +0.062 "
        f"(95 % Holm interval {t_interval(CLEAR, ALPHA / 3)}; Holm p < 0.0001, 5 paired "
        "seeds)."
    )
    assert "Worse: bad -0.062 (" in text
    assert "All 3 were judged together: at most 5 % of studies" in text
    assert f"wide +0.026; only differences below {t_interval(WIDE, ALPHA / 3).split()[0]}" in text
    more = seeds_by_scipy(WIDE, float(np.mean(WIDE)), ALPHA / 3) - 5
    assert f"about {more} more seeds would be needed to show a difference of the size seen" in text
    assert "significant" not in text


@pytest.mark.parametrize(
    ("margin", "words"),
    [
        (0.03, ", which is more than the margin of 0.03."),
        (0.06, "; whether it is more than the margin of 0.06 is open."),
        (0.1, "by less than the margin of 0.1 (good +0.062"),
    ],
)
def test_better_is_set_against_the_margin(tmp_path: Path, margin: float, words: str) -> None:
    text = answer(study(tmp_path, {"good": CLEAR, "bad": LOST}), margin)
    assert words in text
    assert text.startswith("Use good") == (margin < 0.1)
    assert ("no reason that matters to replace cross_entropy" in text) == (margin == 0.1)


def test_no_relevant_difference_needs_the_proof_by_two_one_sided_tests(tmp_path: Path) -> None:
    records = study(tmp_path, {"same": NOTHING, "wide": WIDE})
    one_sided = [
        stats.ttest_1samp(NOTHING, side * 0.01, alternative=way).pvalue
        for side, way in ((-1, "greater"), (1, "less"))
    ]
    assert 2 * max(one_sided) < ALPHA  # the first of two by Holm
    grades = {entry.label: entry.word for entry in judged(records, 0.01).verdicts}
    assert grades == {"same": "no relevant difference", "wide": "cannot tell"}
    assert "No difference larger than the margin of 0.01: same +0.000 (" in answer(records, 0.01)
    assert {entry.word for entry in judged(records).verdicts} == {"cannot tell"}
    assert "No difference larger" not in answer(records)


def test_the_best_mean_alone_is_not_recommended(tmp_path: Path) -> None:
    records = study(tmp_path, {"wide": WIDE, "same": NOTHING})
    text = answer(records, 0.01)
    assert "Use wide" not in text
    assert "no reason yet to replace it. Nor is it shown to be as good: wide has the best" in text
    assert f"anything from {t_interval(WIDE, ALPHA / 2)} (95 % simultaneous interval)" in text
    more = seeds_by_scipy(WIDE, 0.01, ALPHA / 2) - 5
    seen = seeds_by_scipy(WIDE, float(np.mean(WIDE)), ALPHA / 2) - 5
    assert f"about {more} more seeds would be needed to show a difference of 0.01" in text
    assert f"; about {seen} more seeds if it is as large as seen" in text


def test_a_higher_mean_that_nothing_shows_is_named_beside_the_choice(tmp_path: Path) -> None:
    high = tuple(0.06 + value for value in WIDE)
    text = answer(study(tmp_path, {"good": CLEAR, "wild": high}))
    assert text.startswith("Use good: ")
    assert "More seeds may change that: wild has a better mean, but cannot be told" in text


def test_keep_the_baseline_only_where_nothing_is_open(tmp_path: Path) -> None:
    closed = answer(study(tmp_path / "a", {"bad": LOST, "same": NOTHING}), 0.01)
    assert closed.startswith("Keep cross_entropy: with 5 paired seeds, none of the 2 others is")
    assert "Worse: bad" in closed
    still = answer(study(tmp_path / "b", {"bad": LOST, "wide": tuple(-x for x in WIDE)}))
    assert "Keep" not in still
    assert "wide is not" not in still
    assert "none of the 2 others is shown to be better" in still


def test_a_lower_loss_is_better(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(
            record, metrics=record.metrics | {"test/loss/cross_entropy": -record.metrics[METRIC]}
        )
        for record in study(tmp_path, {"good": CLEAR, "bad": LOST})
    ]
    text = answer(records, metric="test/loss/cross_entropy")
    assert text.startswith("Use good: better than cross_entropy in cross-entropy (test set), -0.")
    assert "better in balanced accuracy +0.062" in text  # now described beside it


def test_one_seed_cannot_say(tmp_path: Path) -> None:
    text = answer(study(tmp_path, {"good": (0.05,), "bad": (-0.05,)}), 0.01)
    assert text.startswith("One seed cannot say which loss to use: good has the largest lead")
    assert "+0.050, described and not judged" in text
    assert "Use good" not in text


def test_a_verdict_of_two_seeds_says_on_what_it_rests(tmp_path: Path) -> None:
    text = answer(study(tmp_path / "two", {"good": (0.0601, 0.0602)}))
    assert text.startswith("Use good")
    assert "Two paired seeds decided about good" in text
    assert "Two paired" not in answer(study(tmp_path / "three", {"good": (0.0601, 0.0602, 0.06)}))


def test_equal_results_are_recommended_together_and_no_spread_is_a_caution(tmp_path: Path) -> None:
    records = study(tmp_path, {"one": CLEAR, "two": CLEAR, "stiff": (0.01,) * 5})
    assert "Use one or two (their results are the same on every seed): better" in answer(records)
    sentence = next(e.sentence for e in judged(records).verdicts if e.label == "stiff")
    assert "The difference is the same on all 5 seeds: no spread was seen" in sentence


def test_an_oracles_help_is_said_and_comes_second(tmp_path: Path) -> None:
    more = tuple(value + 0.02 for value in CLEAR)
    helped = "cross_entropy + thresholds (oracle validation)"
    both = answer(study(tmp_path / "a", {"good": CLEAR, helped: more}))
    assert both.startswith("Use good: ")
    assert f"{helped} (+0.082) goes further with an oracle's help: it is fitted on a bal" in both
    alone = answer(study(tmp_path / "b", {helped: more, "same": NOTHING}))
    assert alone.startswith(f"Use {helped}: ")
    assert "That is with an oracle's help" in alone


def test_failures_stand_beside_the_numbers(tmp_path: Path) -> None:
    for record in study(tmp_path / "t", {"good": CLEAR, "dead": LOST}):
        edit_record(record.folder, metrics=record.metrics)
    for seed in (1, 3):
        edit_record(runs_of(tmp_path / "t", "good", seed)[0], status="failed", reason="loss is nan")
    for folder in runs_of(tmp_path / "t", "dead"):
        edit_record(folder, status="failed", reason="loss is nan")
    found = compare(read_study(tmp_path / "t"), out=tmp_path / "out")
    context = next(iter(found.ranked))
    text = found.paragraph(context)
    assert "3 paired seeds; 3 of 5, 2 failed)" in text
    assert "good (failed on seeds 1, 3)" in text
    assert "dead (no run finished)" in text
    (verdict,) = found.verdicts
    assert "Left out: good: 2 runs failed: loss is nan (seeds 1, 3)." in verdict.sentence
    markdown = found.files[1].read_text()
    assert "| good | 3 of 5, 2 failed |" in markdown
    assert markdown.index(text[:40]) < markdown.index("| good |")


def test_a_method_without_the_metric_says_why_it_is_not_compared(tmp_path: Path) -> None:
    for record in study(tmp_path, {"good": CLEAR}):
        tag = "test/posthoc_logit_adjustment/balanced_accuracy"
        edit_record(record.folder, metrics=record.metrics | {tag: 0.7})
    records = with_posthoc(read_study(tmp_path), ["logit_adjustment"], "cross_entropy")
    found = judged(records, metric="test/cls/geometric_mean")
    sentence = next(e.sentence for e in found.verdicts if e.word == "not compared")
    helped = [
        dataclasses.replace(
            r, metrics=r.metrics | {METRIC: r.metrics[METRIC] + 0.1 + CLEAR[r.seed]}
        )
        if "+" in r.arm
        else r
        for r in records
    ]
    assert "It needs no training beyond that of cross_entropy." in answer(helped)
    assert "5 runs without test/cls/geometric_mean" in sentence
    assert "post-hoc methods are measured in fewer metrics than training" in sentence
    text = found.paragraph(next(iter(found.ranked)))
    assert "Not compared: cross_entropy + logit adjustment" in text


def test_trade_offs_are_named_where_their_interval_leaves_0(tmp_path: Path) -> None:
    tail, head = (0.2, 0.18, 0.21, 0.19, 0.22), (-0.03, -0.02, -0.035, -0.03, -0.025)
    seconds = (5.0, 6.0, 5.5, 6.5, 4.5)
    error = "test/cal/expected_calibration_error"
    records = []
    for record in study(tmp_path, {"good": CLEAR}):
        seed, own = record.seed, record.arm == "good"
        changes = {
            TAIL: 0.5 + own * tail[seed],
            HEAD: 0.9 + own * head[seed],
            error: 0.05 + own * WIDE[seed],
            "test/cal_adjusted/expected_calibration_error": None,
        }
        changed = {"metrics": record.metrics | changes, "seconds": 20 + own * seconds[seed]}
        records.append(dataclasses.replace(record, **changed))
    text = answer(records)
    assert "described and not judged (mean paired difference to cross_entropy, plain 95 %" in text
    assert f"better in tail recall +0.200 ({t_interval(tail, ALPHA)})" in text
    assert f"worse in head recall -0.028 ({t_interval(head, ALPHA)})" in text
    assert "calibration" not in text
    low, high = stats.t.interval(0.95, 4, np.mean(seconds), stats.sem(seconds))
    assert (
        f"Training takes 5.5 s longer than cross_entropy's 20 s ({low:.2g} to {high:.2g} s)" in text
    )
    other = [dataclasses.replace(r, hardware={"cpu": r.arm}) for r in records]
    assert "Training takes" not in answer(other)  # the clocks of two machines
    quiet = [dataclasses.replace(r, metrics={METRIC: r.metrics[METRIC], TAIL: 0.5}) for r in other]
    assert "no trade-off is visible in tail recall" in answer(quiet)


def test_over_several_cells_the_grades_are_counted(tmp_path: Path) -> None:
    cells = ["a | b | c | d", "e | b | c | d"]
    records = study(tmp_path, {"good": CLEAR, "mixed": CLEAR, "same": NOTHING}, cells)
    turned = [
        dataclasses.replace(r, metrics=r.metrics | {METRIC: 1.4 - r.metrics[METRIC]})
        if r.arm == "mixed" and r.cell == cells[0]
        else r
        for r in records
    ]
    found = judged(turned)
    assert found.overall.startswith(
        "Over the 2 cells, compared with cross_entropy: good is better in 2; mixed is better in 1 "
        "and worse in 1; no cell shows same to be better or worse. Better in every cell: good. "
        "Over 2 cells the 4 arms are not shown to differ (Friedman's test"
    )
    assert judged([r for r in turned if r.cell == cells[0]]).overall == ""


def test_labels_that_are_markup_stay_on_one_line(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|a\n\n# b"
    folder = tmp_path / "s"
    for record in study(folder, {evil: CLEAR, "same": NOTHING}):
        edit_record(record.folder, metrics=read_record(record.folder).metrics | record.metrics)
    found = compare(read_study(folder), out=tmp_path / "out")
    text = found.paragraph(next(iter(found.ranked)))
    assert text.startswith("Use <script>alert(1)</script>|a # b: better")
    assert "\n" not in text + found.headline + "".join(e.sentence for e in found.verdicts)
    markdown = found.files[1].read_text()
    assert "Use \\<script>alert(1)\\</script>\\|a # b: better" in markdown
    assert "<script>alert" not in found.files[2].read_text()
