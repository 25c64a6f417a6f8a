"""What was chosen before the test set was looked at, for the audit: tuning, and the seal."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.comparison import formats
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.tables import Sheet
from lossbench.comparison.tuning import FILE, PAIRED, Tuning, read_tuning
from lossbench.errors import InputError
from lossbench.records import (
    DamagedRecordError,
    Opening,
    Record,
    read_openings,
    read_record,
)

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

log = logging.getLogger("lossbench")


@dataclass(frozen=True)
class Selection:
    """How the arms of a study were tuned, and when its sealed test sets were opened.

    ``problem`` says why the openings are not known, if they are not. ``trials_ended`` is when the
    last trial ended, None if not all of their records are there; ``trials_sealed`` whether the test
    set was sealed in all of them.
    """

    tuning: Tuning = field(default_factory=Tuning)
    trials_ended: datetime | None = None
    trials_sealed: bool = False
    openings: tuple[Opening, ...] = ()
    problem: str = ""


NOTHING_SELECTED = Selection()

OPEN = "open: test metrics were computed at the end of every run"
SAMPLERS = {
    PAIRED: "paired: a trial draws what losses share alike for all of them",
    "tpe": "tpe: unpaired; what a trial draws depends on the arm's earlier trials",
}


def read_selection(study: Path) -> Selection:
    """What lies in the folder ``study``; a file that cannot be read is named in a warning."""
    tuning, problem = read_tuning(study), ""
    openings: list[Opening] = []
    try:
        openings = read_openings(study)
    except InputError as error:
        problem = str(error)
    for each in filter(None, (tuning.problem, problem)):
        log.warning("%s", each)
    ended, sealed = _trials(study / FILE.parent, tuning)
    return Selection(tuning, ended, sealed, tuple(openings), problem)


def _trials(place: Path, tuning: Tuning) -> tuple[datetime | None, bool]:
    """`Selection.trials_ended` and ``trials_sealed``, from the records of the trials."""
    names = [n for arm in tuning.arms.values() for trial in arm.trials for n in trial.folders]
    try:
        records = [read_record(place / name) for name in names]
    except (OSError, DamagedRecordError):
        return None, False
    ends = [_end(record) for record in records]
    known = [end for end in ends if end is not None]
    last = max(known) if known and len(known) == len(ends) else None
    return last, all(record.sealed for record in records)


def budget_words(tuning: Tuning, arm: str) -> str:
    """How ``arm`` came to its parameters: ``defaults`` or ``10 trials (1 failed)``."""
    told = []
    for entry in tuning.arms.values():
        if entry.tuned_arm == arm:
            failed = f" ({entry.failed} failed)" * bool(entry.failed)
            won = ", the defaults won" * (entry.default_arm == arm)
            told.append(f"{len(entry.trials)} trials{failed}{won}")
    return " / ".join(told) or "defaults, not tuned"


def selection_sheet(comparison: Comparison, seeds: Sequence[int]) -> Sheet:
    """How arms were tuned and when the test set was first looked at; ``seeds`` are those shown."""
    rows = [*_tuning_rows(comparison.selection, seeds), *_test_rows(comparison)]
    caption = "Tuning and when the test set was looked at"
    return Sheet(caption, ("setting", "value"), tuple(rows))


def _tuning_rows(selection: Selection, seeds: Sequence[int]) -> list[tuple[str, str]]:
    tuning = selection.tuning
    if tuning.problem:
        return [("tuning", f"unknown: {tuning.problem}")]
    if not tuning.arms:
        return [("tuning", "none")]
    each = len(tuning.trial_seeds)
    counts = [f"{arm} {len(entry.trials)}" for arm, entry in tuning.arms.items()]
    seen = sorted(set(seeds) & set(tuning.trial_seeds))
    fresh = f"no: {_listed(seen)} chose parameters" if seen else "yes"
    rows = [
        ("tuning, trials per arm", ", ".join(counts)),
        ("objective of tuning", tuning.words),
        ("sampler of tuning", SAMPLERS.get(tuning.sampler, tuning.sampler)),
        ("seeds per trial", f"{each} ({_listed(tuning.trial_seeds)})"),
        (
            "test set in the trials",
            "sealed" if selection.trials_sealed else "not known to be sealed",
        ),
        ("seeds compared were unseen by tuning", fresh),
    ]
    for arm, entry in tuning.arms.items():
        rows.append((f"search space of {arm}", _space(entry.space) or "nothing"))
    return rows


def _listed(seeds: Sequence[int]) -> str:
    return formats.some([str(seed) for seed in seeds]) if seeds else "none"


def _space(space: Mapping[str, Any]) -> str:
    return "; ".join(f"{path}: {_dimension(entry)}" for path, entry in space.items())


def _dimension(entry: Any) -> str:
    """``0.5 to 5 (log)`` or ``a, b, c``; anything else as it stands."""
    if isinstance(entry, dict) and {"low", "high"} <= entry.keys():
        kinds = [name for name in ("log", "integer") if entry.get(name)]
        return f"{entry['low']} to {entry['high']}" + f" ({', '.join(kinds)})" * bool(kinds)
    if isinstance(entry, dict) and isinstance(entry.get("choices"), list):
        return ", ".join(map(str, entry["choices"]))
    return str(entry)


def _test_rows(comparison: Comparison) -> list[tuple[str, str]]:
    """How the test set was guarded, and whether a choice came after the first look at it."""
    done = [record for record in comparison.records if record.status == "done"]
    trained = [record for record in done if not isinstance(record, Derived)]
    opened = {run for opening in comparison.selection.openings for run in opening.runs}
    sealed = [record for record in trained if record.sealed]
    later = [r for r in trained if not r.sealed and r.identity in opened]
    open_ = len(trained) - len(sealed) - len(later)
    parts = []
    if open_:
        parts.append(OPEN if open_ == len(trained) else OPEN.replace("every run", f"{open_} runs"))
    if later:
        parts.append(f"sealed in training and opened later in {len(later)} runs")
    if sealed:
        parts.append(f"still sealed in {len(sealed)} runs")
    rows = [("test set", "; ".join(parts))]
    if comparison.selection.problem:
        rows.append(("openings of the test set", f"unknown: {comparison.selection.problem}"))
    for opening in comparison.selection.openings:
        rows.append((f"test set opened {opening.moment}", _selected(opening)))
    order = _looked_before(comparison, trained)
    return [*rows, *([("test set and tuning", order)] if order else [])]


def _selected(opening: Opening) -> str:
    """How many runs were opened and what had been selected by then, by its own words."""
    chosen = opening.selection
    declared = chosen.get("declared") or {}
    parts = [f"{len(opening.runs)} runs"]
    if isinstance(declared, dict):
        words = [f"{key}={value}" for key, value in declared.items() if value not in (None, [], ())]
        parts.append(f"declared by then: {', '.join(words) or 'nothing'}")
    tuned = chosen.get("tuned") or {}
    parts.append(f"tuned by then: {', '.join(map(str, tuned)) or 'nothing'}")
    return "; ".join(parts)


def _looked_before(comparison: Comparison, trained: Sequence[Record]) -> str:
    """Whether the test set had been looked at before the last trial ended; "" without tuning.

    What tuning chose follows from its trials, so it was not chosen before the last of them; when
    `tuning.json` was written says less, for the same command writes it again.
    """
    selection = comparison.selection
    if not selection.tuning.arms:
        return ""
    arms = formats.some(list(selection.tuning.arms))
    looks = [look for record in trained if (look := _look(record, selection.openings))]
    if selection.trials_ended is None or len(looks) < sum(not r.sealed for r in trained):
        return "not known: not all records of the trials and runs are there, or say when they ran"
    if not looks:
        return f"the parameters of {arms} were chosen before anybody looked at the test set"
    first, last = min(looks), selection.trials_ended
    times = f"first look {_words(first)}, last trial {_words(last)}"
    if first < last:
        return (
            f"the test set had been looked at before the parameters of {arms} were chosen ({times})"
        )
    return f"the trials for {arms} had ended before the test set was looked at ({times})"


def _look(record: Record, openings: Sequence[Opening]) -> datetime | None:
    """When the test outputs of ``record`` were first looked at; None if never or not known."""
    for opening in openings:
        if record.identity in opening.runs:
            return _moment(opening.when)
    return None if record.sealed else _end(record)


def _end(record: Record) -> datetime | None:
    """When ``record`` ended; None if it does not say when it began."""
    started = _moment(record.started)
    return None if started is None else started + timedelta(seconds=record.seconds)


def _moment(text: str) -> datetime | None:
    """The time in ``text`` (ISO 8601; UTC if it names no zone), or None."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _words(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
