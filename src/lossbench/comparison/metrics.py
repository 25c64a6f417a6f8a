"""What each metric tag means: its name in words, its direction, its unit.

A tag is ``split/group/metric`` such as ``test/cls/balanced_accuracy``. This table is the only place
where a direction is written down; a tag that is not here can be tabulated but not judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lossbench.comparison import posthoc
from lossbench.errors import InputError, unknown

PRIMARY = "test/cls/balanced_accuracy"

SPLITS = {"train": "training set", "val": "validation set", "test": "test set"}


@dataclass(frozen=True)
class Metric:
    """One metric: ``name`` in words, ``higher_is_better``, and its ``unit`` (may be empty)."""

    name: str
    higher_is_better: bool
    unit: str = ""

    @property
    def arrow(self) -> str:
        """The direction of better, as a sign behind a column's head."""
        return "↑" if self.higher_is_better else "↓"


FACTS = {
    "cls/accuracy": Metric("accuracy", True, "fraction"),
    "cls/balanced_accuracy": Metric("balanced accuracy", True, "fraction"),
    "cls/macro_f1": Metric("macro-F1", True, "fraction"),
    "cls/geometric_mean": Metric("geometric mean of recalls", True, "fraction"),
    "cls/worst_class_recall": Metric("worst-class recall", True, "fraction"),
    "cls/head_recall": Metric("head recall", True, "fraction"),
    "cls/mid_recall": Metric("mid recall", True, "fraction"),
    "cls/tail_recall": Metric("tail recall", True, "fraction"),
    "cls/many_recall": Metric("many-shot recall (over 100 training samples)", True, "fraction"),
    "cls/medium_recall": Metric("medium-shot recall (20 to 100)", True, "fraction"),
    "cls/few_recall": Metric("few-shot recall (under 20)", True, "fraction"),
    "cls/geometric_mean_floored": Metric(
        "geometric mean of recalls, floor 0.001", True, "fraction"
    ),
    "cls/absent_classes": Metric("classes without samples", False, "classes"),
    "cls/prediction_prior_divergence": Metric(
        "divergence of the predictions from the class prior", False, "nats"
    ),
    "cls/balanced_accuracy_low": Metric(
        "balanced accuracy, low end over test examples", True, "fraction"
    ),
    "cls/balanced_accuracy_high": Metric(
        "balanced accuracy, high end over test examples", True, "fraction"
    ),
    "ranking/macro_area_under_roc_curve": Metric(
        "macro one-vs-rest area under the ROC curve (AUROC)", True, "fraction"
    ),
    "ranking/macro_average_precision": Metric(
        "macro one-vs-rest average precision (AUPRC)", True, "fraction"
    ),
    "selective/area_under_risk_coverage_curve": Metric(
        "area under the risk-coverage curve (AURC)", False, "fraction"
    ),
    "selective/excess_area_under_risk_coverage_curve": Metric(
        "excess area under the risk-coverage curve (E-AURC)", False, "fraction"
    ),
    "selective/area_under_generalized_risk_coverage_curve": Metric(
        "area under the generalized risk-coverage curve (AUGRC)", False, "fraction"
    ),
    "cal/negative_log_likelihood": Metric("negative log-likelihood", False, "nats"),
    "cal/brier_score": Metric("Brier score", False),
    "cal/expected_calibration_error": Metric("expected calibration error", False, "fraction"),
    "cal/classwise_calibration_error": Metric("classwise calibration error", False, "fraction"),
    "cal/adaptive_calibration_error": Metric("adaptive calibration error", False, "fraction"),
    "cal/smooth_calibration_error": Metric("smooth calibration error", False, "fraction"),
    "cal/kolmogorov_smirnov_calibration_error": Metric(
        "Kolmogorov-Smirnov calibration error", False, "fraction"
    ),
    **{
        f"cal/{group}_expected_calibration_error": Metric(
            f"expected calibration error of {group} predictions", False, "fraction"
        )
        for group in ("head", "mid", "tail")
    },
    **{
        f"label_noise/{name}": Metric(f"{words} of flagged labels", True, "fraction")
        for name, words in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "F1"),
            ("average_precision", "average precision"),
        )
    },
    "loss/cross_entropy": Metric("cross-entropy", False, "nats"),
    "loss/objective": Metric("training objective", False),
    "running/objective": Metric("running training objective", False),
    "running/cross_entropy": Metric("running cross-entropy", False, "nats"),
    "running/accuracy": Metric("running accuracy", True, "fraction"),
}

OVERFITTING = {
    "overlap_coefficient": Metric("overlap of training and test losses", True, "fraction"),
    "kolmogorov_smirnov_distance": Metric(
        "Kolmogorov-Smirnov distance of training and test losses", False, "fraction"
    ),
    "loss_threshold_auc": Metric("loss-threshold AUC (training told from test)", False),
    "mean_gap": Metric("mean gap of test to training losses", False, "nats"),
    "median_gap": Metric("median gap of test to training losses", False, "nats"),
    "percentile_95_gap": Metric("gap of the 95th percentiles of the losses", False, "nats"),
    "share_above_chance": Metric("share of losses above log C", False, "fraction"),
}
"""Group ``overfitting`` and, for class groups, ``overfitting_head``, ``_mid`` and ``_tail``."""

SHIFTED = {"accuracy": "cls/accuracy", "cross_entropy": "loss/cross_entropy"}
"""Group ``shifted``: the start of a name, and what is measured at another class prior."""

TABLE = (
    "cls/balanced_accuracy",
    "cls/accuracy",
    "cls/macro_f1",
    "cls/worst_class_recall",
    "cls/tail_recall",
    "loss/cross_entropy",
    "cal/expected_calibration_error",
    "cal_adjusted/expected_calibration_error",
)
"""The columns of the summary table, without the split."""

GRADIENT = "train/gradient/relative_to_cross_entropy_first_epoch"
"""The mean size of the loss's gradient over that of cross-entropy's, in the first epoch."""

LOSS_SCALE = "train/gradient/loss_scale"
"""What training multiplied the loss by, for the runs that did."""


def split_of(tag: str) -> str:
    """The split of a tag: ``test`` for ``test/cls/accuracy``."""
    return tag.partition("/")[0]


def facts(tag: str) -> Metric:
    """The facts of one tag; raises `InputError` where no direction is known."""
    split, _, rest = tag.partition("/")
    group, _, name = rest.partition("/")
    if split in SPLITS and name:
        if rest in FACTS:
            return FACTS[rest]
        if group == "recall":
            return Metric(f"recall of {name}", True, "fraction")
        if group == "loss":
            return Metric(f"{name} as a loss", False)
        if group.partition("_")[0] == "overfitting" and name in OVERFITTING:
            plain = OVERFITTING[name]
            where = group.partition("_")[2]
            return replace(plain, name=f"{plain.name}, {where}") if where else plain
        if group == "shifted":
            return _shifted(name)
        method = group.removeprefix("posthoc_")
        if method in posthoc.WORDS and name in posthoc.TAGS:
            plain = facts(f"{split}/{posthoc.TAGS[name]}")
            words = f"{plain.name} with {posthoc.WORDS[method]}"
            return Metric(words, plain.higher_is_better, plain.unit)
        if group == "cal_adjusted" and f"cal/{name}" in FACTS:
            raw = FACTS[f"cal/{name}"]
            return Metric(f"prior-adjusted {raw.name}", raw.higher_is_better, raw.unit)
    raise InputError(
        f"metric {tag!r} has no known direction: give split/group/metric such as {PRIMARY}, "
        "or add it to FACTS in lossbench/comparison/metrics.py"
    )


def _shifted(name: str) -> Metric:
    """``adjusted_accuracy_forward_50`` is the accuracy at the class prior ``forward_50``."""
    told = name.startswith("adjusted_")
    measured = name.removeprefix("adjusted_")
    start = next((start for start in SHIFTED if measured.startswith(f"{start}_")), None)
    if start is None:
        raise InputError(f"metric {name!r} of a shifted test has no known direction")
    prior = measured.removeprefix(f"{start}_").replace("_", " ")
    plain = FACTS[SHIFTED[start]]
    known = ", logits adjusted to it" if told else ""
    return replace(plain, name=f"{plain.name} at the test prior {prior}{known}")


def check(metric: str, available: Iterable[str], by: str) -> Metric:
    """The facts of the metric that decides; raises `InputError` if it cannot.

    ``available`` are the tags that the records hold. A training objective is refused except along
    models: two losses' own objectives share no scale.
    """
    tags = set(available)
    if metric not in tags:
        named = sorted(tag for tag in tags if tag.endswith(f"/{metric}"))
        first = [tag for tag in named if split_of(tag) == split_of(PRIMARY)] or named
        if first:
            raise InputError(f"unknown metric {metric!r}; did you mean {first[0]!r}?")
        usual = columns(split_of(PRIMARY), tags)
        raise unknown("metric", metric, shown(tags), [*usual, "and every tag in results.csv"])
    if metric.endswith("/objective") and by != "model":
        yardstick = metric.replace("objective", "cross_entropy")
        raise InputError(
            f"metric {metric!r} has another scale under every loss; compare with {yardstick}"
        )
    return facts(metric)


def shown(tags: Iterable[str]) -> list[str]:
    """The tags worth listing in a message: those of `FACTS`, without one entry per class."""
    tags = sorted(tags)
    known = [tag for tag in tags if tag.partition("/")[2] in FACTS]
    return known or tags


def columns(split: str, available: Iterable[str]) -> list[str]:
    """The tags of the summary table for ``split``, those that ``available`` holds."""
    tags = set(available)
    return [tag for rest in TABLE if (tag := f"{split}/{rest}") in tags]
