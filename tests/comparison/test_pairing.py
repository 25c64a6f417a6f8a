from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.compare import Comparison, evaluate
from lossbench.comparison.pairing import differences, pair_runs
from lossbench.comparison.statistics import power_of_t, seeds_needed
from lossbench.comparison.table import run_table
from lossbench.errors import InputError
from lossbench.records import read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

METRIC = "test/cls/balanced_accuracy"


def compared(study: Path, **changes: str) -> Comparison:
    settings = {"baseline": "cross_entropy", "metric": METRIC, "by": "arm"} | changes
    return evaluate(read_study(study), **settings)


def with_fingerprints(folder: Path, **changes: str) -> None:
    """Change fingerprints of one run."""
    (record,) = [r for r in read_study(folder.parent) if r.folder == folder]
    edit_record(folder, fingerprints=record.fingerprints | changes)


def test_differences_are_paired_by_seed(study: Path) -> None:
    found = {entry.label: entry for entry in compared(study).differences}
    records = read_study(study)
    values = {(r.arm, r.seed): r.metrics[METRIC] for r in records}
    p_values = []
    for arm in ("focal", "balanced_softmax"):
        ours = [values[arm, seed] for seed in range(5)]
        base = [values["cross_entropy", seed] for seed in range(5)]
        expected = stats.ttest_rel(ours, base)
        assert found[arm].p == pytest.approx(expected.pvalue)
        assert found[arm].mean == pytest.approx(sum(ours) / 5 - sum(base) / 5)
        assert (found[arm].n, found[arm].matched) == (5, "subset, init, batches")
        p_values.append(expected.pvalue)
    assert found["balanced_softmax"].holm_p == pytest.approx(2 * min(p_values))


def paired_by_hand(study: Path, arm: str, metric: str = METRIC) -> np.ndarray:
    values = {(r.arm, r.seed): r.metrics[metric] for r in read_study(study)}
    return np.array([values[arm, seed] - values["cross_entropy", seed] for seed in range(5)])


def test_a_difference_carries_its_pairs_and_what_they_could_show(study: Path) -> None:
    with_fingerprints(runs_of(study, "focal", 1)[0], subset="other")
    found = {entry.label: entry for entry in compared(study).differences}
    expected = paired_by_hand(study, "focal")[[0, 2, 3, 4]]
    assert found["focal"].seeds == (0, 2, 3, 4)
    assert found["focal"].values == pytest.approx(expected)
    for label, entry in found.items():
        values = np.array(entry.values)
        error = stats.sem(values)
        half = stats.t.isf(0.05 / 2 / 2, entry.n - 1) * error  # two labels share 5 %
        assert entry.simultaneous == pytest.approx((entry.mean - half, entry.mean + half)), label
        planned = {"spread": values.std(ddof=1), "level": 0.05 / 2}
        assert power_of_t(entry.detectable, seeds=entry.n, **planned) == pytest.approx(0.8)
        assert entry.seeds_needed is not None
        assert power_of_t(entry.mean, seeds=entry.seeds_needed, **planned) >= 0.8
        assert power_of_t(entry.mean, seeds=max(2, entry.seeds_needed - 1), **planned) < 0.8
        assert (entry.margin, np.isnan(entry.equivalence_p)) == (None, True)


def test_a_margin_is_judged_over_the_labels_of_a_cell(study: Path) -> None:
    runs = run_table(read_study(study))
    pairs = pair_runs(runs, read_study(study), baseline="cross_entropy", metric=METRIC, by="arm")
    labels = pairs[["context", "label"]].drop_duplicates()
    found = differences(pairs[::-1], labels, 0.03, higher_is_better=True)
    assert {entry.seeds for entry in found} == {(0, 1, 2, 3, 4)}  # in whatever order runs are read
    raw = {}
    for entry in found:
        values = paired_by_hand(study, entry.label)
        above = stats.ttest_1samp(values, -0.03, alternative="greater").pvalue
        below = stats.ttest_1samp(values, 0.03, alternative="less").pvalue
        raw[entry.label] = max(above, below)
    assert raw["focal"] < 0.025 < 0.5 < raw["balanced_softmax"]
    by_label = {entry.label: entry for entry in found}
    assert by_label["focal"].equivalence_p == pytest.approx(2 * raw["focal"])  # Holm, k = 2
    assert by_label["balanced_softmax"].equivalence_p == pytest.approx(raw["balanced_softmax"])
    spread = paired_by_hand(study, "focal").std(ddof=1)
    needed = by_label["focal"].seeds_needed
    assert needed == seeds_needed(0.03, spread, 0.025)  # of the margin, not of the size seen
    for margin in (0.0, -0.01, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"margin .* is not a finite number above 0"):
            differences(pairs, labels, margin, higher_is_better=True)


def test_an_improvement_of_a_loss_is_a_fall(study: Path) -> None:
    loss = "test/loss/cross_entropy"
    for metric in (METRIC, loss):
        found = {e.label: e for e in compared(study, metric=metric).differences}
        better = found["balanced_softmax"]
        assert (better.mean > 0) == (metric == METRIC)
        assert better.sensitivity.probability_of_improvement == 1.0


def test_identical_runs_plan_nothing(study: Path) -> None:
    for seed in range(5):
        edit_record(runs_of(study, "cross_entropy", seed)[0], metrics={METRIC: 0.7 + 0.01 * seed})
        edit_record(runs_of(study, "focal", seed)[0], metrics={METRIC: 0.7 + 0.01 * seed})
    entry = {e.label: e for e in compared(study).differences}["focal"]
    assert (entry.p, entry.simultaneous, entry.seeds_needed) == (1.0, (0.0, 0.0), None)
    assert np.isnan(entry.detectable)


def test_each_cell_is_its_own_family(tmp_path: Path) -> None:
    cells = [f"digits | exponential {f} | mlp | 5 epochs" for f in (10, 50, 100)]
    write_synthetic_study(tmp_path, {"cross_entropy": 0, "focal": 0.05}, range(4), cells=cells)
    found = compared(tmp_path).differences
    assert [entry.context for entry in found] == sorted(cells)
    assert all(entry.holm_p == entry.p for entry in found)  # one comparison per cell


@pytest.mark.parametrize("name", ["subset", "init"])
def test_unequal_fingerprints_are_not_compared(study: Path, name: str) -> None:
    for seed in (1, 2):
        with_fingerprints(runs_of(study, "focal", seed)[0], **{name: "other"})
    entry = {e.label: e for e in compared(study).differences}["focal"]
    assert entry.n == 3
    assert entry.refused == {f"{name} differs": (1, 2)}


def test_a_missing_fingerprint_proves_nothing(study: Path) -> None:
    for arm in ("focal", "cross_entropy"):
        edit_record(runs_of(study, arm, 1)[0], fingerprints={})
    entry = {e.label: e for e in compared(study).differences}["focal"]
    assert entry.refused == {"subset differs": (1,)}


@pytest.mark.parametrize(("regimes_differ", "n"), [(False, 0), (True, 5)])
def test_batches_may_differ_only_with_the_regime(
    tmp_path: Path, regimes_differ: bool, n: int
) -> None:
    def configure(arm: str) -> dict:
        chosen = "Drs" if regimes_differ and arm == "ldam" else "Plain"
        return {"regime": {"_target_": f"lossbench.training.regimes.{chosen}"}}

    arms = {"cross_entropy": 0.0, "focal": 0.0, "ldam": 0.0}
    write_synthetic_study(tmp_path, arms, range(5), configure=configure)
    for seed in range(5):
        with_fingerprints(runs_of(tmp_path, "ldam", seed)[0], batches="other")
    entry = {e.label: e for e in compared(tmp_path).differences}["ldam"]
    assert entry.n == n
    assert entry.matched == ("subset, init" if regimes_differ else "")
    if not regimes_differ:
        assert entry.refused == {"batches differ under the same regime": (0, 1, 2, 3, 4)}


def test_models_are_paired_by_subset_and_batches(tmp_path: Path) -> None:
    cells = [f"digits | exponential 10 | {model} | 5 epochs" for model in ("mlp", "convnet")]
    write_synthetic_study(tmp_path, {"focal": 0.0}, range(3), cells=cells)
    (entry,) = compared(tmp_path, by="model", baseline="mlp").differences
    assert (entry.label, entry.n, entry.matched) == ("convnet", 3, "subset, batches")
    for folder in runs_of(tmp_path, "focal", 0):
        with_fingerprints(folder, batches=folder.name)
    (entry,) = compared(tmp_path, by="model", baseline="mlp").differences
    assert (entry.n, entry.refused) == (2, {"batches differs": (0,)})


def test_nothing_comparable_is_an_error_that_names_the_reason(study: Path) -> None:
    for arm in ("focal", "balanced_softmax"):
        for folder in runs_of(study, arm):
            with_fingerprints(folder, subset=arm)
    with pytest.raises(InputError, match=r"nothing can be compared.*subset differs in 10 pairs"):
        compared(study)


def test_only_seeds_that_both_finished_are_pairs(study: Path) -> None:
    edit_record(runs_of(study, "focal", 0)[0], status="failed", reason="boom")
    edit_record(runs_of(study, "cross_entropy", 4)[0], status="failed", reason="boom")
    found = {entry.label: entry.n for entry in compared(study).differences}
    assert found == {"focal": 3, "balanced_softmax": 4}


def test_a_cell_without_the_baseline_is_described_and_says_why(tmp_path: Path) -> None:
    cells = ["a | none | mlp | 1 epoch", "b | none | mlp | 1 epoch"]
    write_synthetic_study(tmp_path, {"cross_entropy": 0, "focal": 0.0}, range(2), cells=cells)
    for record in read_study(tmp_path):
        if record.arm == "cross_entropy" and record.cell == cells[1]:
            edit_record(record.folder, status="failed", reason="boom")
    found = compared(tmp_path)
    assert [entry.context for entry in found.differences] == [cells[0]]
    assert found.ranked == {cells[0]: ["cross_entropy", "focal"], cells[1]: ["focal"]}
    assert found.notes == {
        cells[1]: "no finished run of cross_entropy, so no differences are given"
    }


def test_a_run_that_was_recorded_twice_counts_once(study: Path) -> None:
    shutil.copytree(runs_of(study, "focal", 0)[0], study / "copy")
    found = compared(study)
    assert {entry.label: entry.n for entry in found.differences}["focal"] == 5
    assert set(found.summary["n"]) == {5}


def test_a_lone_arm_is_described(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, {"cross_entropy": 0}, range(2))
    found = compared(tmp_path)
    assert found.differences == []
    assert "nothing but cross_entropy" in next(iter(found.notes.values()))
    assert "nothing to judge" in found.headline


def test_the_table_is_ranked_by_the_paired_difference(study: Path) -> None:
    # focal lost its two worst seeds: its plain mean rises above what the pairs say
    for seed in range(5):
        metrics = {METRIC: 0.1 * seed}
        edit_record(runs_of(study, "cross_entropy", seed)[0], metrics=metrics)
        edit_record(
            runs_of(study, "balanced_softmax", seed)[0], metrics={METRIC: 0.1 * seed + 0.01}
        )
        edit_record(runs_of(study, "focal", seed)[0], metrics={METRIC: 0.1 * seed - 0.01})
    for seed in (0, 1):
        edit_record(runs_of(study, "focal", seed)[0], status="failed")
    found = compared(study)
    means = found.summary.set_index("label")["mean"]
    assert means["focal"] > means["balanced_softmax"]
    (ranked,) = found.ranked.values()
    assert ranked == ["cross_entropy", "balanced_softmax", "focal"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"baseline": "cross_entrpy"},
            "among finished runs 'cross_entrpy'; did you mean 'cross_ent",
        ),
        ({"metric": "test/cls/balanced_acuracy"}, "did you mean 'test/cls/balanced_accuracy'"),
        ({"metric": "test/loss/objective"}, "another scale under every loss.*cross_entropy"),
        ({"by": "losses"}, "unknown by 'losses'; did you mean 'loss'"),
    ],
)
def test_bad_input_is_one_line(study: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        compared(study, **changes)
    assert "\n" not in str(error.value)
    assert "recall/class 1" not in str(error.value)
