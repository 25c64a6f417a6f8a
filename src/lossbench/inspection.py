"""`lossbench inspect`: what a run's data would be; trains nothing, writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lossbench.application import compose
from lossbench.config import Config, Run, imbalance_label, name_of
from lossbench.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from lossbench.data.preparation import PreparedData

VALIDATION = {
    "balanced": "balanced validation (an oracle where training is not balanced: its tail images "
    "are ones that the imbalance took away)",
    "training": "validation with the class proportions of the training images",
}
SHOWN_FLIPS = 9  # wrong labels named for each class


def inspect_command(arguments: list[str]) -> int:
    """Print class counts, groups, order, noise and hashes of the data that ``arguments`` choose."""
    from rich.console import Console

    from lossbench.data.configured import notes, prepared_data

    run = Run(compose(arguments))
    prepared, settings = prepared_data(run.config)
    counts = prepared.class_counts
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{name_of(run.config['data'])} ({prepared.origin}), seed {run.seed}")
    console.print(f"imbalance {imbalance_label(run.config)}")
    console.print(_table(prepared))
    console.print(
        f"{counts.sum()} training images, largest class {counts.max()}, smallest {counts.min()}"
        f" (factor {counts.max() / counts.min():.1f})"
    )
    for line in (
        *notes(run.config, prepared),
        *_without_validation(run.config, prepared),
        *_class_order(run, prepared),
        *_noise(run.config, prepared),
    ):
        console.print(line)
    if prepared.validation is not None:
        console.print(VALIDATION[settings.validation_prior])
    console.print(f"training images sha256 {ids_hash(prepared.train.ids)}")
    console.print(f"subset fingerprint {prepared.subset_fingerprint[:16]}")
    return 0


def ids_hash(ids: NDArray[np.int64]) -> str:
    """SHA-256 of the sorted ``ids`` (N,) as little-endian int64: which images, in any order."""
    return hashlib.sha256(np.sort(ids).astype("<i8").tobytes()).hexdigest()


def _table(prepared: PreparedData) -> Table:
    from rich.table import Table

    from lossbench.evaluation.classification import rank_groups

    ranked = rank_groups(prepared.image_counts)  # label noise ranks no class
    groups = {int(index): group for group, members in ranked.items() for index in members}
    parts = (prepared.train, prepared.validation, prepared.test)
    classes = len(prepared.class_names)
    columns = [
        np.zeros(classes, np.int64)
        if part is None
        else np.bincount(part.targets, minlength=classes)
        for part in parts
    ]
    table = Table("class", "group", "train", "validation", "test", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for index, name in enumerate(prepared.class_names):
        table.add_row(name, groups.get(index, "-"), *(str(column[index]) for column in columns))
    return table


def _without_validation(config: Config, prepared: PreparedData) -> Iterator[str]:
    """The images that the profile keeps where none are carved for validation, if they differ."""
    from lossbench.data.configured import prepared_data

    if not config["data"]["validation_per_class"] or name_of(config["imbalance"]) == "none":
        return
    whole = config | {"data": config["data"] | {"validation_per_class": 0}}
    try:
        larger = prepared_data(whole)[0].image_counts
    except InputError:  # it is the user's next command, not this one, that is to be refused
        return
    if (larger != prepared.image_counts).any():
        yield (
            "the profile is made of what validation leaves; data.validation_per_class=0 makes it of"
            f" all training images, as published: {' '.join(map(str, larger))}"
        )


def _class_order(run: Run, prepared: PreparedData) -> Iterator[str]:
    from lossbench.data.imbalance import order_classes

    if run.config["imbalance"]["class_order"] == "random":
        names = prepared.class_names
        order = [names[index] for index in order_classes("random", len(names), run.seed)]
        yield f"class order of seed {run.seed}, from the head to the tail: {', '.join(order)}"


def _noise(config: Config, prepared: PreparedData) -> Iterator[str]:
    """How many labels were flipped, then a line per class: from it to which, and how often."""
    from lossbench.data.label_noise import flips

    found = flips(prepared)
    if found is None:
        return
    np.fill_diagonal(found, 0)
    total, names = len(prepared.train.ids), prepared.class_names
    yield (
        f"label noise {name_of(config['label_noise'])}: {found.sum()} of {total} training labels"
        f" are wrong ({found.sum() / total:.1%}); train counts the labels given"
    )
    for name, row in zip(names, found, strict=True):
        goals = [goal for goal in np.argsort(-row, kind="stable") if row[goal]]
        listed = [f"{names[goal]} {row[goal]}" for goal in goals[:SHOWN_FLIPS]]
        if goals[SHOWN_FLIPS:]:
            listed.append(f"others {row[goals[SHOWN_FLIPS:]].sum()}")
        if listed:
            yield f"  {name} -> {', '.join(listed)}"
