"""The cross-loss matrix: every trained arm scored under every loss of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.comparison.columns import Columns, plain
from lossbench.comparison.posthoc import Derived
from lossbench.records import Record

if TYPE_CHECKING:
    import pandas as pd


def cross_loss(
    runs: pd.DataFrame, members: Mapping[int, Sequence[Record]], labels: Sequence[str], split: str
) -> Columns:
    """Mean over seeds of ``<split>/loss/<KEY>``: one row per trained arm and loss with a value.

    ``place`` is the rank of the arm among the arms of that column, 1 the lowest loss; equal means
    share a place. ``own`` marks the loss that the arm was trained on. Losses have no common scale,
    so a column is read downwards only. The losses that arms were trained on come first, in the
    order of the arms, then the others by name. Post-hoc arms have no row: nothing was trained.
    """
    start = f"{split}/loss/"
    arms = [arm for arm, records in members.items() if not isinstance(records[0], Derived)]
    trained = dict.fromkeys(members[arm][0].loss for arm in arms)
    stored = {tag.removeprefix(start) for tag in runs.columns if tag.startswith(start)}
    stored -= {"objective"}  # another loss in every row
    losses = [loss for loss in trained if loss in stored] + sorted(stored - set(trained))
    if not arms or not losses:
        return {}
    table = runs.groupby("label")[[start + loss for loss in losses]].mean()
    means = table.loc[[labels[arm] for arm in arms]].to_numpy()
    places = 1 + (means[None] < means[:, None]).sum(axis=1)
    row, column = np.nonzero(~np.isnan(means))
    return {
        "arm": [arms[place] for place in row],
        "loss": [losses[place] for place in column],
        "value": plain(means[row, column]),
        "place": places[row, column].tolist(),
        "own": [members[arms[i]][0].loss == losses[j] for i, j in zip(row, column, strict=True)],
    }
