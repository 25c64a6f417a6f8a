"""What was chosen before a study's test set was opened: what `unsealed.json` keeps of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from lossbench.comparison import metrics
from lossbench.comparison.command import declared
from lossbench.comparison.notes import where_measured
from lossbench.comparison.tuning import FILE
from lossbench.errors import InputError
from lossbench.records import Record
from lossbench.records.sealing import Opening


def opening_of(
    records: Sequence[Record],
    study: Path,
    runs: tuple[str, ...],
    unfinished: Sequence[str],
    made_with: Mapping[str, str | None],
) -> Opening:
    """The opening of ``runs``, identities, at this moment, with all that was known before it.

    Neither host nor user is written down: a study may be given to others. ``unfinished`` are the
    folders of runs that are still to come; ``made_with`` names commit and version.
    """
    found = declared(records)
    metric = found.metric or metrics.PRIMARY
    counts = Counter(record.status for record in records)
    return Opening(
        when=datetime.now().astimezone().isoformat(timespec="seconds"),
        runs=runs,
        selection={
            "declared": {
                "baseline": found.baseline,
                "metric": metric,
                "margin": found.margin,
                "posthoc": list(found.posthoc),
            },
            "runs": {
                "planned": counts["done"] + counts["failed"] + len(unfinished),
                "done": counts["done"],
                "failed": counts["failed"],
                "unfinished": list(unfinished),
            },
            "validation": _validation(records, metric),
            "tuned": _tuned(study / FILE),
            **made_with,
        },
    )


def _validation(records: Sequence[Record], metric: str) -> dict[str, Any]:
    """By cell, each arm's mean of the metric's counterpart on validation, and which was ahead."""
    tag = f"val/{metric.partition('/')[2]}"
    sign = 1 if metrics.facts(tag).higher_is_better else -1
    done = [record for record in records if record.status == "done"]
    values: dict[str, dict[str, list[float | None]]] = {}
    for record in done:
        values.setdefault(record.cell, {}).setdefault(record.arm, []).append(
            record.metrics.get(tag)
        )
    cells = {}
    for cell, arms in values.items():
        means = {arm: _mean(found) for arm, found in arms.items()}
        known = {arm: sign * mean for arm, mean in means.items() if mean is not None}
        cells[cell] = {
            "arms": {arm: {"seeds": len(arms[arm]), "mean": means[arm]} for arm in arms},
            "ahead": max(known, key=lambda arm: known[arm], default=None),
        }
    return {"metric": tag, "prior": where_measured("val", done), "cells": cells}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None


def _tuned(path: Path) -> dict[str, Any]:
    """The parameters that `lossbench tune` had chosen by now, by arm."""
    try:
        arms = json.loads(path.read_text())["arms"]
        return {
            label: arm["chosen"]["parameters"]
            for label, arm in arms.items()
            if arm.get("chosen") is not None
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): what tuning chose must be known before the test set "
            "is opened; repair or move it"
        ) from error
