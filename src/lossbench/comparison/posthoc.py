"""What is done after training, as an opponent: the baseline under a post-hoc method is an arm too.

A run's record holds its metrics under every post-hoc method (``test/posthoc_<method>/<metric>``).
So the question whether a loss beats cross-entropy with logit adjustment needs no run of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lossbench.comparison.table import balanced_validation
from lossbench.errors import InputError, unknown
from lossbench.records import Record
from lossbench.settings import POSTHOC

TAGS = {
    "accuracy": "cls/accuracy",
    "balanced_accuracy": "cls/balanced_accuracy",
    "macro_f1": "cls/macro_f1",
    "worst_class_recall": "cls/worst_class_recall",
    "head_recall": "cls/head_recall",
    "tail_recall": "cls/tail_recall",
    "cross_entropy": "loss/cross_entropy",
    "brier_score": "cal/brier_score",
    "expected_calibration_error": "cal/expected_calibration_error",
    "adjusted_cross_entropy": "cal_adjusted/negative_log_likelihood",
    "adjusted_expected_calibration_error": "cal_adjusted/expected_calibration_error",
}
"""The metrics of a post-hoc group, and what the same number is called for the run as trained."""

JOINT = " + "
"""Between the arm and the method, in a label such as ``cross_entropy + logit adjustment``."""

ORACLE = " (oracle validation)"
"""Behind a method that was fitted on a validation set of a prior that training has not."""

WORDS = {name: name.replace("_", " ") for name in POSTHOC}


@dataclass(frozen=True)
class Derived(Record):
    """A run with a post-hoc method on it: metrics, but no arrays and no history of its own."""

    def arrays(self, names: object = None) -> dict[str, np.ndarray]:
        """None: histograms and confusions are those of the run as trained."""
        return {}

    def history(self, columns: object = None) -> dict[str, np.ndarray]:
        """None: nothing was trained for it."""
        return {}


def tag_of(split: str, method: str, metric: str) -> str:
    """The tag of ``metric``, a tail such as ``cls/accuracy``, under ``method``; "" if unknown."""
    names = {tail: name for name, tail in TAGS.items()}
    return f"{split}/posthoc_{method}/{names[metric]}" if metric in names else ""


def with_posthoc(records: Sequence[Record], methods: Sequence[str], baseline: str) -> list[Record]:
    """``records``, and each finished run of the arm ``baseline`` again under each of ``methods``.

    ``baseline`` may be the name of a loss, if only one arm has it. Its runs that lack the method's
    metrics are among the result without any, so that they are named as what could not be used.
    The arm of such a run is ``<baseline> + <method in words>``. Raises `InputError` for an unknown
    method, and if no run of the baseline holds the method's metrics.
    """
    found = list(records)
    done = [record for record in records if record.status == "done"]
    of_baseline = [record for record in done if record.arm == baseline]
    if not of_baseline and len({record.arm for record in done if record.loss == baseline}) == 1:
        of_baseline = [record for record in done if record.loss == baseline]
    for method in methods:
        if method not in POSTHOC:
            raise unknown("posthoc", method, POSTHOC)
        derived = [_derived(record, method) for record in of_baseline]
        if not any(record.metrics for record in derived):
            raise InputError(
                f"no finished run of {baseline} holds the metrics of posthoc={method}: runs from "
                f"before it was measured gain them by lossbench rescore study={records[0].study}; "
                "all but logit_adjustment need validation images, tau_normalization a linear head"
                if of_baseline
                else f"posthoc={method} is put on the baseline, and no finished run is of "
                f"{baseline}; name an arm with baseline="
            )
        found += derived
    return found


def split_baseline(baseline: str) -> tuple[str, list[str]]:
    """The arm in ``cross_entropy + logit adjustment``, and the method that it names, if any."""
    plain = baseline.removesuffix(ORACLE)
    for method, words in WORDS.items():
        if plain.endswith(f"{JOINT}{words}"):
            return plain.removesuffix(f"{JOINT}{words}"), [method]
    return baseline, []


def _derived(record: Record, method: str) -> Record:
    metrics = {
        f"{split}/{tail}": record.metrics[tag]
        for split in ("val", "test")
        for tail in TAGS.values()
        if (tag := tag_of(split, method, tail)) in record.metrics
    }
    words = WORDS[method]
    if method != "logit_adjustment" and balanced_validation(record):
        words += ORACLE  # fitted on images that the imbalance threw away
    label = f"{record.arm}{JOINT}{words}"
    kept = {field.name: getattr(record, field.name) for field in fields(Record)}
    changes = {
        "arm": label,
        "loss": f"{record.loss}{JOINT}{words}",
        "configuration": f"{record.configuration}+{method}",
        "metrics": metrics,
        "seconds": 0.0,
        "energy_joules": None,
    }
    return Derived(**kept | changes)
