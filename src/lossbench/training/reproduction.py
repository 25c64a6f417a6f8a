"""Whether one record repeats another: bit for bit, up to rounding, within what seeds change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.records import DamagedRecordError, Record
from lossbench.training.single import SHOWN

LIMIT = 3.0
"""Standard deviations over seeds up to which a difference is one that another seed makes too."""

RELATIVE, ABSOLUTE = 1e-5, 1e-7  # up to which a difference is rounding


@dataclass(frozen=True)
class Group:
    """The metrics `split/group/...`: how many, how many equal, and the largest difference.

    ``in_spread`` is the largest difference in standard deviations over seeds, of any of them.
    """

    group: str
    count: int
    equal: int
    difference: float
    tag: str
    in_spread: float | None


@dataclass(frozen=True)
class Reproduction:
    """The verdict in words, whether it is a reproduction, and what it rests on."""

    headline: str
    reproduced: bool
    groups: list[Group]
    notes: list[str]


def reproduction(
    record: Record, again: Record, others: Sequence[Record], metric: str | None = None
) -> Reproduction:
    """Compare ``again`` with ``record``, of which it is a rerun.

    ``others`` are finished runs of the same configuration with other seeds; with the record they
    give the spread. What decides are ``metric`` and the metrics that `lossbench train` shows, of
    validation if the record is sealed.
    """
    sealed = getattr(record, "sealed", False)
    tags = [tag for tag in record.metrics if not (sealed and tag.startswith("test/"))]
    missing = [tag for tag in tags if tag not in again.metrics]
    common = [tag for tag in tags if tag in again.metrics]
    differences = {tag: _difference(record.metrics[tag], again.metrics[tag]) for tag in common}
    outputs = _equal_outputs(record, again)
    equal = not missing and not any(differences.values())
    rounding = not missing and all(_is_rounding(record, again, tag) for tag in common)
    spread = {tag: _spread([record, *others], tag) for tag in common}
    ratios = {tag: _ratio(differences[tag], sd) for tag, sd in spread.items() if sd is not None}
    deciding = [tag for tag in _deciding(metric, sealed) if record.metrics.get(tag) is not None]
    headline, reproduced = _verdict(
        exactly=equal and outputs is not False and record.fingerprints == again.fingerprints,
        rounding=rounding,
        same_outputs=outputs is True,
        deciding={tag: ratios.get(tag, math.inf) for tag in deciding},
        seeds=1 + len(others),
    )
    notes = ["the record is sealed: validation alone is compared"] if sealed else []
    if missing:
        notes.append(f"not in the rerun: {len(missing)} metrics, such as {missing[0]}")
    if outputs is not None:
        notes.append(f"stored outputs (logits, targets): {'equal' if outputs else 'not equal'}")
    beyond = sum(ratio > LIMIT for tag, ratio in ratios.items() if tag not in deciding)
    if beyond and not rounding:
        notes.append(
            f"{beyond} of {len(ratios) - len(deciding)} metrics that do not decide differ by more "
            f"than {LIMIT:g} standard deviations"
        )
    return Reproduction(headline, reproduced, _groups(differences, ratios), notes)


def _verdict(
    *, exactly: bool, rounding: bool, same_outputs: bool, deciding: dict[str, float], seeds: int
) -> tuple[str, bool]:
    if exactly:
        return "reproduced bit for bit", True
    if rounding:
        return f"reproduced up to rounding (relative differences of at most {RELATIVE:g})", True
    if same_outputs:
        return (
            "NOT reproduced: the outputs are equal and the metrics are not, so they were computed "
            "by other code or changed afterwards (lossbench rescore computes them again)",
            False,
        )
    if seeds < 2:
        return (
            "NOT reproduced bit for bit; there is no finished run of this configuration with "
            "another seed beside it, so nobody can say whether this is within the seed spread",
            False,
        )
    worst = max(deciding, key=lambda tag: deciding[tag], default=None)
    largest = deciding[worst] if worst else math.inf
    words = f"{worst} by {largest:.2g} standard deviations over {seeds} seeds"
    if largest <= LIMIT:
        return f"reproduced within the seed spread (at most {LIMIT:g}): {words}", True
    return f"NOT reproduced: {words}, more than {LIMIT:g}", False


def _deciding(metric: str | None, sealed: bool) -> list[str]:
    shown = [f"test/{tag}" for tag in SHOWN]
    tags = list(dict.fromkeys([*([metric] if metric else []), *shown]))
    return [tag.replace("test/", "val/", 1) if sealed else tag for tag in tags]


def _difference(before: float | None, now: float | None) -> float:
    if before is None or now is None:
        return 0.0 if before is now else math.inf
    return abs(before - now)


def _is_rounding(record: Record, again: Record, tag: str) -> bool:
    before, now = record.metrics[tag], again.metrics[tag]
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _spread(records: Sequence[Record], tag: str) -> float | None:
    """The standard deviation over seeds; None of fewer than two values."""
    values = [value for record in records if (value := record.metrics.get(tag)) is not None]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _ratio(difference: float, deviation: float) -> float:
    if difference == 0:
        return 0.0
    return difference / deviation if deviation > 0 else math.inf


def _equal_outputs(record: Record, again: Record) -> bool | None:
    """Whether the stored outputs are equal bit for bit; None where they cannot be read."""
    try:
        before, now = record.outputs(), again.outputs()
    except DamagedRecordError:
        return None
    return before.keys() == now.keys() and all(
        np.array_equal(before[name], now[name], equal_nan=True) for name in before
    )


def _groups(differences: dict[str, float], ratios: dict[str, float]) -> list[Group]:
    by_group: dict[str, list[str]] = {}
    for tag in differences:
        by_group.setdefault("/".join(tag.split("/")[:2]), []).append(tag)
    return [
        Group(
            group=group,
            count=len(tags),
            equal=sum(differences[tag] == 0 for tag in tags),
            difference=max(differences[tag] for tag in tags),
            tag=max(tags, key=lambda tag: differences[tag]).removeprefix(f"{group}/"),
            in_spread=max((ratios[tag] for tag in tags if tag in ratios), default=None),
        )
        for group, tags in sorted(by_group.items())
    ]
