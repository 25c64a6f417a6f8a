from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lossbench.comparison import formats
from lossbench.comparison.compare import evaluate
from lossbench.comparison.metrics import facts
from lossbench.comparison.pairing import Difference
from lossbench.comparison.statistics import sensitivity_of
from lossbench.comparison.verdict import headline, judge, verdict
from lossbench.errors import InputError
from lossbench.records import read_study

from .synthetic import edit_record, runs_of

ACCURACY = facts("test/cls/balanced_accuracy")
LOSS = facts("test/loss/cross_entropy")
CLEAR = Difference(
    context="cell",
    label="balanced_softmax",
    mean=0.061,
    standard_error=0.003,
    low=0.048,
    high=0.074,
    p=0.0001,
    holm_p=0.0004,
    n=5,
    values=(0.058, 0.066, 0.051, 0.062, 0.068),
    seeds=(0, 1, 2, 3, 4),
    simultaneous=(0.046, 0.076),
    sensitivity=sensitivity_of([0.058, 0.066, 0.051, 0.062, 0.068], higher_is_better=True),
    margin=None,
    equivalence_p=float("nan"),
    equivalence_interval=(float("nan"), float("nan")),
    detectable=0.017,
    seeds_needed=3,
    matched="subset, init, batches",
    refused={},
)
NAN = float("nan")


def sentence(metric=ACCURACY, where="test set", **changes: object) -> str:
    entry = dataclasses.replace(CLEAR, **changes)
    return verdict(entry, "cross_entropy", metric, where).sentence


def test_better_says_by_how_much_and_how_surely() -> None:
    assert sentence() == (
        "balanced_softmax is better than cross_entropy: balanced accuracy +0.061 "
        "(95 % Holm interval +0.048 to +0.074, Holm p 0.0004, n = 5 paired seeds)."
    )


def test_lower_is_better_for_a_loss() -> None:
    assert sentence(LOSS).startswith("balanced_softmax is worse than cross_entropy: cross-entropy")
    down = {"mean": -0.061, "low": -0.074, "high": -0.048}
    assert "is better than" in sentence(LOSS, **down)
    assert "is worse than" in sentence(ACCURACY, **down)


OPEN = {"mean": 0.003, "low": -0.010, "high": 0.016, "holm_p": 0.54} | {
    "simultaneous": (-0.012, 0.018),
    "seeds_needed": 17,
}


def test_what_cannot_be_told_says_what_is_ruled_out_and_how_many_seeds_are_missing() -> None:
    assert sentence(**OPEN) == (
        "balanced_softmax cannot be told from cross_entropy with these 5 paired seeds: "
        "balanced accuracy +0.003 (95 % Holm interval -0.010 to +0.016, Holm p 0.54). "
        "A difference below -0.012 or above +0.018 is ruled out (95 % simultaneous interval), "
        "a smaller one is not. About 12 more seeds would be needed to show a difference of the "
        "size seen (80 % power)."
    )
    margin = {"margin": 0.01, "equivalence_p": 0.2}
    told = sentence(**OPEN, **margin)
    assert "anything from -0.012 to +0.018 (95 % simultaneous interval)" in told
    assert "About 12 more seeds would be needed to show a difference of 0.01" in told
    for needed, words in (
        (6, "About 1 more seed would"),
        (None, "More than 1,000 seeds would"),
        (4, "had an 80 % chance to show a difference of 0.01; it is neither shown nor excluded"),
    ):
        assert words in sentence(**OPEN | {"seeds_needed": needed}, **margin)


def test_a_margin_turns_what_is_small_into_no_relevant_difference() -> None:
    told = sentence(**OPEN, margin=0.02, equivalence_p=0.012)
    assert told.startswith("balanced_softmax shows no relevant difference from cross_entropy: ")
    assert "within the margin of 0.02 either way (equivalence p 0.012" in told
    better = {"margin": 0.047, "equivalence_p": 1.0}  # the Holm interval lies above it
    assert sentence(**better).endswith("is open (95 % simultaneous interval +0.046 to +0.076).")
    assert "It is larger than the margin of 0.04 " in sentence(**better | {"margin": 0.04})
    small = sentence(**better | {"margin": 0.08, "equivalence_p": 0.01})
    assert small.startswith("balanced_softmax is better than")
    assert small.endswith("It is smaller than the margin of 0.08.")


def test_one_seed_is_not_judged() -> None:
    text = sentence(n=1, standard_error=NAN, low=NAN, high=NAN, p=NAN, holm_p=NAN)
    assert text == (
        "balanced_softmax is not judged against cross_entropy: balanced accuracy +0.061 "
        "(n = 1 paired seed; two are the least that show a spread)."
    )


def test_refused_pairs_are_named() -> None:
    gone = {"n": 0, "mean": NAN, "standard_error": NAN, "low": NAN, "high": NAN, "holm_p": NAN}
    assert sentence(**gone, refused={"init differs": (1, 3)}) == (
        "balanced_softmax is not compared with cross_entropy: no paired seed. "
        "Not paired: seeds 1, 3 (init differs)."
    )
    assert sentence(refused={"subset differs": (2,)}).endswith(
        "Not paired: seed 2 (subset differs)."
    )


def test_a_difference_without_spread_carries_a_caution() -> None:
    assert "no spread was seen" in sentence(standard_error=0.0, holm_p=0.0)
    assert "no spread was seen" not in sentence()


def test_another_split_is_named() -> None:
    where = "balanced validation (oracle)"
    assert "balanced validation (oracle), balanced accuracy +0.061" in sentence(where=where)


def test_headline_counts_words() -> None:
    found = [
        verdict(CLEAR, "cross_entropy", ACCURACY, "test set"),
        verdict(
            dataclasses.replace(CLEAR, label="focal", holm_p=0.3), "cross_entropy", ACCURACY, ""
        ),
    ]
    assert headline(found, "cross_entropy", ACCURACY, "test set") == (
        "Compared with cross_entropy on balanced accuracy, test set: balanced_softmax is better; "
        "cannot tell for focal."
    )
    elsewhere = [dataclasses.replace(entry, context="other") for entry in found]
    assert headline([*found, *elsewhere], "cross_entropy", ACCURACY, "test set").endswith(
        "in 2 cells: better 2 times (balanced_softmax); cannot tell 2 times (focal)."
    )


def test_a_planted_effect_is_found_and_a_zero_is_not(study: Path) -> None:
    found = evaluate(
        read_study(study),
        baseline="cross_entropy",
        metric="test/cls/balanced_accuracy",
        by="arm",
    )
    words = {entry.label: entry.word for entry in found.verdicts}
    assert words == {"balanced_softmax": "better", "focal": "cannot tell"}
    costs = evaluate(
        read_study(study), baseline="cross_entropy", metric="test/loss/cross_entropy", by="arm"
    )
    assert {e.label: e.word for e in costs.verdicts}["balanced_softmax"] == "better"
    assert next(iter(costs.ranked.values()))[1] == "balanced_softmax"  # the lowest loss first


def test_balanced_validation_is_called_an_oracle(study: Path) -> None:
    settings = {"baseline": "cross_entropy", "metric": "val/cls/balanced_accuracy", "by": "arm"}
    assert evaluate(read_study(study), **settings).where == "balanced validation (oracle)"
    for arm in ("cross_entropy", "focal", "balanced_softmax"):
        for folder in runs_of(study, arm):
            skewed = [0.5] + [0.5 / 9] * 9
            edit_record(folder, priors={"train": skewed, "val": skewed, "test": [0.1] * 10})
    assert evaluate(read_study(study), **settings).where == "validation set"


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
@pytest.mark.parametrize("mean", [0.02, -0.02])
def test_the_word_follows_p_and_direction(metric, mean: float) -> None:
    entry = dataclasses.replace(CLEAR, mean=mean)
    better = (mean > 0) == metric.higher_is_better
    assert judge(entry, metric) == ("better" if better else "worse")
    assert judge(dataclasses.replace(entry, holm_p=0.05), metric) == "cannot tell"


@pytest.mark.parametrize(
    ("tag", "name", "higher"),
    [
        ("test/cls/tail_recall", "tail recall", True),
        ("val/recall/T-shirt/top", "recall of T-shirt/top", True),
        ("test/cal_adjusted/brier_score", "prior-adjusted Brier score", False),
        ("test/loss/focal", "focal as a loss", False),
        ("train/running/accuracy", "running accuracy", True),
    ],
)
def test_facts_know_every_tag(tag: str, name: str, higher: bool) -> None:
    found = facts(tag)
    assert (found.name, found.higher_is_better) == (name, higher)


@pytest.mark.parametrize("tag", ["test/cls/new_metric", "accuracy", "dev/cls/accuracy"])
def test_an_unknown_direction_is_refused(tag: str) -> None:
    with pytest.raises(InputError, match="no known direction"):
        facts(tag)


def test_printed_numbers_do_not_contradict_the_verdict() -> None:
    assert formats.difference(0.0612, 0.0484, 0.0744) == ("+0.061", "+0.048", "+0.074")
    assert formats.difference(0.0021, 0.00004, 0.0042) == ("+0.00210", "+0.00004", "+0.00420")
    assert formats.difference(0.0, 0.0, 0.0) == ("+0.000", "+0.000", "+0.000")
    assert formats.difference(NAN, NAN, NAN) == ("–", "–", "–")
    for p in (0.0499996, 0.0500004, np.nextafter(0.05, 0), 0.05, 0.9999):
        assert (float(formats.p_value(p)) < 0.05) == (p < 0.05)
    assert formats.p_value(0.0004) == "0.0004"
    assert formats.p_value(0.00000004) == "< 0.0001"


def test_table_numbers() -> None:
    assert formats.plus_minus(0.81249, 0.0041) == "0.812 ± 0.004"
    assert formats.plus_minus(0.81249, NAN) == "0.812"
    assert formats.plus_minus(NAN, NAN) == "–"
    assert formats.number(0.00012) == "1.2e-04"
