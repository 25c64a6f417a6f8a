"""What of a run goes into its event file, and under which tags."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from lossbench.data.preparation import PreparedData
from lossbench.evaluation.classification import rank_groups, recalls
from lossbench.evaluation.histograms import LOG10_LOSS_EDGES, reweight
from lossbench.evaluation.precision_recall import one_vs_rest_decisions
from lossbench.tensorboard import figures
from lossbench.tensorboard.drawing import to_png
from lossbench.tensorboard.writer import RunWriter
from lossbench.training.diagnosis import write_hardest_images
from lossbench.training.measuring import Classes, Measured
from lossbench.training.passes import Deployed

RECALLS_UP_TO = 100
"""With more classes than this, the recall of each class is in history.csv and the record alone: of
1,000 classes it would make 3,000 curves, more than TensorBoard's page can hold."""

OTHER_LOSSES = "/loss/(?!(cross_entropy|objective)$)"

CURVES_UP_TO = 20
"""With more classes than this, TensorBoard has PR curves of class groups alone."""


def shown(scalars: Mapping[str, float | None], classes: Classes) -> dict[str, float | None]:
    """What of ``scalars`` TensorBoard gets, which slows down with their number.

    The scores of the final outputs under each loss of the catalogue are in the record alone.
    """
    left_out = OTHER_LOSSES
    if len(classes.names) > RECALLS_UP_TO:
        left_out += "|/recall/"
    return {tag: value for tag, value in scalars.items() if not re.search(left_out, tag)}


def loss_histograms(
    split: str, arrays: Mapping[str, np.ndarray], classes: Classes
) -> list[tuple[str, np.ndarray]]:
    """The loss histograms of a split, all and by group; train also at the test's prior."""
    found = []
    for name in ("cross_entropy", "objective"):
        by_class = arrays.get(f"histogram/{name}/{split}")
        if by_class is not None:
            found.append((f"{split}/log10_loss/{name}", by_class.sum(axis=0)))
    by_class = arrays[f"histogram/cross_entropy/{split}"]
    for group, members in rank_groups(classes.image_counts).items():
        counts = by_class[members].sum(axis=0)
        found.append((f"{split}/log10_loss_{group}/cross_entropy", counts))
    train, test = classes.priors["train"], classes.priors["test"]
    if split == "train" and test is not None and train != test:
        counts = reweight(by_class, test) * by_class.sum()
        found.append(("train/log10_loss/cross_entropy_at_test_prior", counts))
    return found


def write_end(
    writer: RunWriter,
    epoch: int,
    metrics: Mapping[str, float | None],
    measured: Mapping[str, Measured],
    outputs: Mapping[str, Deployed],
    arrays: Mapping[str, np.ndarray],
    classes: Classes,
    data: PreparedData | None,
) -> None:
    """What is written once, of the last epoch: scalars, histograms of test, figures, PR curves.

    ``metrics`` are those that no event has yet, ``measured`` the splits whose figures are drawn,
    ``arrays`` all that the run has. Without ``data`` the hardest images are left out.
    """
    writer.scalars(shown(metrics, classes), step=epoch)
    write_figures(writer, measured, arrays, classes, epoch)
    if "test" in measured:
        for tag, counts in loss_histograms("test", arrays, classes):
            writer.histogram(tag, counts, LOG10_LOSS_EDGES, step=epoch)
        write_pr_curves(writer, outputs["test"], classes, epoch)
    if data is not None:
        write_hardest_images(writer, measured, outputs, data, epoch)


def loss_curves(arrays: Mapping[str, np.ndarray], classes: Classes) -> dict[str, np.ndarray]:
    """The yardstick's histograms of the splits; training also at the test's prior if it differs.

    Without that, the larger share of head classes in training would be read as over-fitting.
    """
    by_class = {
        words: arrays[f"histogram/cross_entropy/{split}"]
        for split, words in (("train", "training"), ("val", "validation"), ("test", "test"))
        if f"histogram/cross_entropy/{split}" in arrays
    }
    curves = {words: counts.sum(axis=0) for words, counts in by_class.items()}
    prior = classes.priors["test"]
    if prior is not None and prior != classes.priors["train"]:
        curves["training, test prior"] = reweight(by_class["training"], prior)
    return curves


def write_figures(
    writer: RunWriter,
    measured: Mapping[str, Measured],
    arrays: Mapping[str, np.ndarray],
    classes: Classes,
    epoch: int,
) -> None:
    """The figures of TensorBoard's Images tab, drawn once, from the last epoch."""
    names = classes.names
    drawn = {
        "loss_histogram/cross_entropy": figures.loss_histogram_figure(
            loss_curves(arrays, classes), LOG10_LOSS_EDGES, num_classes=len(names)
        )
    }
    for split in ("val", "test"):
        if split in measured:
            drawn |= {
                f"{split}/reliability": figures.reliability_figure(
                    arrays[f"reliability/{split}/raw"],
                    arrays[f"reliability/{split}/adjusted"],
                    arrays.get(f"posthoc/temperature/reliability/{split}"),
                ),
                f"{split}/confusion": figures.confusion_figure(arrays[f"confusion/{split}"], names),
            }
    if "test" in measured:
        recall = recalls(arrays["confusion/test"])
        drawn["test/recall"] = figures.recall_figure(recall, classes.image_counts, names)
    for tag, figure in drawn.items():
        png, width, height = to_png(figure)
        writer.image(tag, png, width, height, step=epoch)


def write_pr_curves(writer: RunWriter, test: Deployed, classes: Classes, epoch: int) -> None:
    """TensorBoard's PR curves of test: macro averages of all classes and of each class group.

    With up to `CURVES_UP_TO` classes also of each class; TensorBoard shows tags by their names, so
    the averages come first. A class that test lacks is left out.
    """
    names = classes.names
    decisions = one_vs_rest_decisions(test.decoded.numpy(), test.targets.numpy())
    groups = {"all": np.arange(len(names))} | rank_groups(classes.image_counts)
    curves = {f"test/macro_precision_recall/{group}": groups[group] for group in groups}
    if len(names) <= CURVES_UP_TO:
        curves |= {
            f"test/precision_recall/{name.replace('/', '_')}": np.array([index])
            for index, name in enumerate(names)
        }
    for tag, members in curves.items():
        present = members[decisions.support[members] > 0]
        if present.size:
            writer.pr_curve(tag, decisions.table(present), epoch)
