"""The words of the page around its figures: title, caption, and the choices a reader has.

What changes with a choice (how to read it, the numbers in words) is in templates/words.js.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbench.comparison import metrics
from lossbench.comparison.across_cells import critical_difference_words
from lossbench.comparison.aggregate import scatter_metric
from lossbench.comparison.tuning import AS_RUN, PAIRED

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison
    from lossbench.comparison.tables import Sheet

Options = list[tuple[str, str]]
"""Value and words of each radio button."""


@dataclass(frozen=True)
class Caption:
    """``title`` and ``text`` of one kind of figure; ``wide`` figures take the whole row."""

    title: str
    text: str
    wide: bool = False


@dataclass(frozen=True)
class Choice:
    """One group of radio buttons: the column ``key`` that it filters, and its words."""

    key: str
    words: str
    options: Options
    checked: str


SPLITS = {"train": "training", "val": "validation", "test": "test"}
GROUPS = {"all": "all", "head": "head", "mid": "mid", "tail": "tail"}
OUTCOMES = {"all": "all", "correct": "correct", "wrong": "wrong"}
FORMS = {"density": "density", "cumulative": "cumulative"}
VIEWS = {"raw": "as deployed", "adjusted": "prior-adjusted", "temperature": "after temperature"}


_ORDERS = (
    " Mean over orders: what as many random trials reach on average, after the defaults, whichever "
    "came first (expected best of k without replacement; Dodge et al., EMNLP 2019, in the unbiased "
    "form of Tang et al., ACL 2020)."
)


def captions(comparison: Comparison) -> dict[str, Caption]:
    """The captions of every kind of figure and table."""
    metric, baseline = comparison.facts, comparison.baseline
    beside = metrics.facts(scatter_metric(comparison)).name
    direction = "right" if metric.higher_is_better else "left"
    seen = comparison.across
    margin = "" if comparison.margin is None else " The band around 0 is the margin."
    orders = _ORDERS if comparison.tuning.sampler == PAIRED else ""
    return {
        "summary": Caption("Summary", ""),
        "posthoc": Caption(
            "Every loss under every post-hoc method",
            "The darker, the better. A loss that gains nothing here has what the method gives; one "
            "that is overtaken by another loss plus a method is not needed for it.",
        ),
        "resolution": Caption("What these seeds can show", ""),
        "sensitivity": Caption("Under other assumptions", ""),
        "example_uncertainty": Caption("How much the test set itself leaves open", ""),
        "overfitting_numbers": Caption("Over-fitting in numbers", ""),
        "label_noise": Caption("Wrong labels found by their loss", ""),
        "every_metric": Caption(
            "Every metric",
            "Mean over seeds with its 95 % t-interval, and the mean paired difference to "
            f"{baseline} with its own, not corrected for the number of comparisons: described, "
            f"not judged. Only {metric.name} decides.",
        ),
        "differences": Caption(
            f"Paired differences to {baseline}",
            f"Mean paired difference in {metric.name}; better lies to the {direction}. The thick "
            "bar is the 95 % Holm interval that the verdict is read from: where it crosses the "
            "dashed line at 0, nothing is decided. The thin bar is the simultaneous interval, with "
            f"which sizes are claimed; each dot is one seed.{margin}",
            wide=True,
        ),
        "budget": Caption(
            "Budget curve",
            f"Best {comparison.tuning.words} up to every trial: what the trials were chosen by, no "
            "result. A line looks like its tuned arm. Hollow: the defaults, trial 0. Filled: the "
            "trial chosen. ×: a failed trial. Dots: the values of single trials, but for those far "
            f"off all lines.{orders}",
            wide=True,
        ),
        "losses": Caption(
            "Distribution of the loss",
            "Cross-entropy of each sample, all seeds together, under the one yardstick for all "
            "losses. The outermost bins hold everything beyond 1e-8 and 100.",
            wide=True,
        ),
        "overfitting": Caption(
            "Training against test loss",
            "The area is test; the dashed line is the training set, evaluated like test and with "
            "each class weighted to the test prior; the dotted line is the training set as it is, "
            "where the two priors differ. Training far left of test is over-fitting.",
            wide=True,
        ),
        "curves": Caption(
            "Training curves",
            "Mean over seeds; the band is one standard error to each side. The running training "
            "loss is taken while the weights change, with augmentation.",
        ),
        "recall": Caption(
            "Recall per class",
            "Mean recall over seeds, the class with the most training images on top; its number "
            "of training images is in brackets. More than 30 classes are put together in "
            "neighbouring groups.",
        ),
        "reliability": Caption(
            "Reliability",
            "Accuracy against mean confidence in 15 bins, all seeds together; a larger point holds "
            "more samples. Below the diagonal a model is over-confident.",
        ),
        "scatter": Caption(
            "Accuracy against calibration",
            f"{beside[0].upper()}{beside[1:]} against expected calibration error, mean and 95 % "
            "t-interval over seeds. A loss that lies better on one axis and worse on the "
            "other is a trade, not a win.",
        ),
        "cross_loss": Caption(
            "Every trained model under every loss",
            "Rows are what was trained, columns are what is measured; each is a mean over seeds, "
            "and the darker a cell, the lower its rank in its column. A model is "
            "best under the loss it was trained with (outlined) unless another objective "
            "generalises better: an outlined cell that is not the darkest of its column says that "
            "this loss is not the best way to minimise itself. Columns share no scale.",
            wide=True,
        ),
        "ranks": Caption(
            "Ranks across cells",
            "Mean rank of each arm over the cells, averaged over seeds first; 1 is best. "
            + (critical_difference_words(seen) if seen and seen.comparable else ""),
            wide=True,
        ),
        "profiles": Caption(
            "Performance profiles",
            f"Share of runs that are {'above' if metric.higher_is_better else 'below'} the value "
            "on the horizontal axis; the band is a pointwise 95 % bootstrap interval. A curve "
            "above another everywhere is better everywhere.",
        ),
        "aggregates": Caption(
            "Interquartile means",
            "Mean of the middle half of all runs over the cells, with its 95 % interval from a "
            "bootstrap that resamples seeds within cells.",
        ),
    }


def sheet_caption(sheet: Sheet, known: Caption | None) -> Caption:
    """The caption of a table: under a title of its own, or under the start of its own words."""
    told = f"{sheet.caption.rstrip('.')}."
    if known:
        return Caption(known.title, f"{told} {known.text}".strip())
    title, _, rest = re.sub(r"[,;:]|\.(?= )", "\0", told[:-1], count=1).partition("\0")
    rest = rest.strip()
    return Caption(title, f"{rest[:1].upper()}{rest[1:]}." if rest else "")


def choices(name: str, data: Mapping[str, Sequence[Any]]) -> list[Choice]:
    """What a reader can switch in the figure ``name``, from what its columns hold."""
    if name == "losses":
        return [
            _choice("split", "split", SPLITS, data["split"], "test"),
            _choice("group", "classes", GROUPS, data["group"], "all"),
            _choice("outcome", "predictions", OUTCOMES, data["outcome"], "all"),
            _choice("form", "shown as", FORMS, FORMS, "density"),
        ]
    if name in ("reliability", "scatter"):
        return [_choice("view", "logits", VIEWS, data["view"], "raw")]
    if name == "budget":
        views = {view: view for view in dict.fromkeys(data["view"])}
        return [_choice("view", "trials", views, views, AS_RUN)]
    if name == "curves":
        curves = {words: words for words in data["curve"]}
        return [_choice("curve", "curve", curves, curves, next(iter(curves)))]
    return []


def _choice(
    key: str, words: str, known: Mapping[str, str], found: Iterable[str], preferred: str
) -> Choice:
    there = set(found)
    options = [(value, text) for value, text in known.items() if value in there]
    values = [value for value, _ in options]
    return Choice(key, words, options, preferred if preferred in values else values[-1])
