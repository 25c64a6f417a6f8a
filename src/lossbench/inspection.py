"""`lossbench inspect`: what a run's data would be; trains nothing, writes nothing."""

from __future__ import annotations

from lossbench.application import compose
from lossbench.config import Run, imbalance_label, name_of


def inspect_command(arguments: list[str]) -> int:
    """Print class counts, groups and priors of the data that ``arguments`` choose."""
    from rich.console import Console
    from rich.table import Table

    from lossbench.data.configured import prepared_data
    from lossbench.evaluation.classification import rank_groups

    run = Run(compose(arguments))
    prepared, settings = prepared_data(run.config)
    counts = prepared.class_counts
    groups = {
        int(index): group for group, members in rank_groups(counts).items() for index in members
    }
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{name_of(run.config['data'])} ({prepared.origin}), seed {run.seed}")
    console.print(f"imbalance {imbalance_label(run.config)}")
    table = Table("class", "group", "train", "validation", "test", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for index, name in enumerate(prepared.class_names):
        validation = (
            0 if prepared.validation is None else int((prepared.validation.targets == index).sum())
        )
        test = int((prepared.test.targets == index).sum())
        table.add_row(name, groups.get(index, "-"), str(counts[index]), str(validation), str(test))
    console.print(table)
    console.print(
        f"{counts.sum()} training images, largest class {counts.max()}, smallest {counts.min()}"
        f" (factor {counts.max() / counts.min():.1f})"
    )
    if prepared.validation is not None:
        words = {
            "balanced": "balanced validation (an oracle where training is not balanced: its tail "
            "images are ones that the imbalance took away)",
            "training": "validation with the class proportions of the training images",
        }
        console.print(words[settings.validation_prior])
    console.print(f"subset fingerprint {prepared.subset_fingerprint[:16]}")
    return 0
