"""The words claim no more than was judged: what is open, tiny, constant or missing is said."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lossbench.comparison.compare import evaluate
from lossbench.records import Record

from .test_paragraph import LOST, METRIC, NOTHING, WIDE, answer, judged, study

TINY = (0.004, 0.0041, 0.0043, 0.0039, 0.0042)
CELLS = ("a | b | c | d", "e | b | c | d")


def failed(records: Sequence[Record], arm: str, seeds: Sequence[int], cell: str = "") -> list:
    """The records, of which those of ``arm`` on ``seeds`` failed."""
    return [
        dataclasses.replace(record, status="failed", reason="diverged", metrics={})
        if (record.arm == arm and record.seed in seeds and record.cell.startswith(cell))
        else record
        for record in records
    ]


@pytest.mark.parametrize("seeds", [range(5), range(1, 5)])
def test_what_could_not_be_judged_is_open(tmp_path: Path, seeds: Sequence[int]) -> None:
    records = study(tmp_path, {"bad": LOST, "unstable": WIDE})
    text = answer(failed(records, "unstable", seeds))
    assert "nothing that matters is left open" not in text
    assert text.startswith("Keep cross_entropy for now: with 5 paired seeds, bad is not shown")
    assert "but a part of the study is not judged." in text
    if len(seeds) == 4:  # one arm with a single seed does not silence what another one changes
        assert "Not judged, with one paired seed: unstable." in text


def test_an_arm_without_a_pair_leaves_it_open(tmp_path: Path) -> None:
    records = study(tmp_path, {"bad": LOST, "alone": LOST})
    records = [r for r in records if r.arm != "alone" or r.seed == 0]
    text = answer(failed(records, "cross_entropy", [0]))
    assert "Not compared: alone" in text
    assert text.startswith("Keep cross_entropy for now: ")


def test_an_interim_look_closes_nothing(tmp_path: Path) -> None:
    records = study(tmp_path, {"bad": LOST})
    settings = {"baseline": "cross_entropy", "metric": METRIC, "by": "arm"}
    found = evaluate(records, pending=3, **settings)
    assert found.paragraph("a | b | c | d").startswith("Keep cross_entropy for now: ")


def test_one_seed_of_an_arm_does_not_silence_the_trade_offs(tmp_path: Path) -> None:
    records = failed(study(tmp_path, {"bad": LOST, "odd": LOST}), "odd", range(1, 5))
    records = [
        dataclasses.replace(r, metrics=r.metrics | {METRIC: 0.1}) if r.arm == "odd" else r
        for r in records
        if r.arm != "odd" or r.seed == 0
    ]
    assert "What else bad changes" in answer(records)


def test_a_lead_under_the_margin_is_no_reason_yet_while_others_are_open(tmp_path: Path) -> None:
    both = answer(study(tmp_path / "a", {"tiny": TINY, "wide": WIDE}), 0.01)
    assert both.startswith("There is no reason yet that matters to replace cross_entropy: tiny")
    alone = answer(study(tmp_path / "b", {"tiny": TINY, "same": NOTHING}), 0.01)
    assert alone.startswith("There is no reason that matters to replace cross_entropy: tiny")
    assert "Both were judged together: at most 5 %" in alone


def test_equal_differences_are_no_certainty(tmp_path: Path) -> None:
    records = study(tmp_path, {"stiff": (0.01, 0.01)})
    assert "2 paired seeds; no spread was seen, so p says little)" in answer(records)
    (found,) = judged(records).verdicts
    assert "The difference is the same on both seeds: no spread was seen" in found.sentence


def test_rounding_errors_of_the_metric_are_no_difference(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(
            r, metrics={METRIC: 0.7 if r.arm == "cross_entropy" else np.nextafter(0.7, 1)}
        )
        for r in study(tmp_path, {"twin": (0.0,) * 3})
    ]
    (found,) = judged(records).differences
    assert found.values == (0.0, 0.0, 0.0)
    assert "Use" not in answer(records)


def test_the_interval_of_no_relevant_difference_lies_within_the_margin(tmp_path: Path) -> None:
    values = (0.0109, -0.0109, 0.0, 0.0109, -0.0109)  # the 95 % interval reaches 0.0136
    records = study(tmp_path, {"even": values})
    text = answer(records, 0.0115)
    (bounds,) = re.findall(r"even [+-][0-9.]+ \(([+-][0-9.]+) to ([+-][0-9.]+)\)", text)
    assert all(abs(float(bound)) < 0.0115 for bound in bounds)
    (found,) = judged(records, 0.0115).verdicts
    assert f"interval {bounds[0]} to {bounds[1]}; 95 % Holm interval -0.014 to" in found.sentence


def test_over_cells_nothing_better_leaves_no_choice(tmp_path: Path) -> None:
    found = judged(study(tmp_path, {"bad": LOST, "wide": WIDE}, CELLS)).overall
    assert "Nothing is shown to be better than cross_entropy in any cell." in found
    assert "depends on the cell" not in found


def test_over_cells_a_lead_under_the_margin_is_called_so(tmp_path: Path) -> None:
    records = study(tmp_path, {"tiny": TINY}, CELLS)
    found = judged(records, 0.01).overall
    assert "Better in every cell: tiny (in 2 by less than the margin of 0.01)." in found
    assert "Better in every cell: tiny. " in judged(records).overall


def test_a_cell_without_the_baseline_is_not_counted(tmp_path: Path) -> None:
    records = study(tmp_path, {"tiny": TINY}, CELLS)
    found = judged(failed(records, "cross_entropy", range(5), cell="e")).overall
    assert found.startswith("1 of 2 cells is judged; compared with cross_entropy: tiny is better")
    assert "Better in every cell that is judged: tiny." in found
    none = judged([r for r in records if r.arm == "cross_entropy"]).overall
    assert "compared with" not in none


def test_an_arm_that_fails_does_not_help_the_others(tmp_path: Path) -> None:
    records = study(tmp_path, {"good": TINY, "wide": WIDE, "odd": NOTHING})
    whole = {entry.label: entry for entry in judged(records).differences}
    for seeds in (range(5), range(1, 5)):
        for entry in judged(failed(records, "odd", seeds)).differences:
            if entry.label != "odd":
                assert entry.holm_p == whole[entry.label].holm_p
                assert entry.simultaneous == whole[entry.label].simultaneous
                assert entry.seeds_needed == whole[entry.label].seeds_needed


def test_an_arm_that_failed_and_is_missing_is_named_once(tmp_path: Path) -> None:
    records = study(tmp_path, {"good": TINY, "odd": NOTHING})
    records = [r for r in failed(records, "odd", range(4)) if r.arm != "odd" or r.seed < 4]
    assert "odd (no run finished)" in answer(records)
    assert "odd and odd" not in answer(records)


def test_what_needs_no_training_is_named_beside_the_recommendation(tmp_path: Path) -> None:
    tag = "test/posthoc_logit_adjustment/balanced_accuracy"
    records = [
        dataclasses.replace(r, metrics=r.metrics | {tag: 0.9 + 0.01 * (r.seed == 0)})
        if r.arm == "cross_entropy"
        else r
        for r in study(tmp_path, {"good": tuple(10 * x for x in TINY)})
    ]
    text = answer(records)
    assert "Use good" in text
    said = "cross_entropy + logit adjustment has 0.902 where good has "
    assert f"Without training anything else, {said}" in text
    assert "posthoc=logit_adjustment makes it an arm" in text
    arm = [dataclasses.replace(r, arm="cross_entropy + logit adjustment") for r in records[:5]]
    assert said not in answer(records + arm)


def test_the_test_examples_are_an_uncertainty_of_their_own(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(
            r,
            metrics=r.metrics | {f"{METRIC}_low": 0.7, f"{METRIC}_high": 0.7 + 0.01 * (r.seed + 1)},
        )
        for r in study(tmp_path, {"good": TINY})
    ]
    assert "leaves ± 0.015 open in the balanced accuracy of one run (95 %)" in answer(records)


def test_the_seeds_for_the_size_seen_are_those_of_the_whole_family(tmp_path: Path) -> None:
    def words(lost: Sequence[str]) -> list[str]:
        records = study(tmp_path / "-".join(lost), {"wide": WIDE, "odd": NOTHING, "off": NOTHING})
        for arm in lost:
            records = failed(records, arm, range(5))
        return re.findall(
            r"about (\d+) more seeds if it is as large as seen", answer(records, 1e-5)
        )

    whole = words(())
    assert len(whole) == 1
    assert words(("odd", "off")) == whole
