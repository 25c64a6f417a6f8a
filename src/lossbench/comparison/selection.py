"""What was chosen before the test set was looked at, for the audit: tuning, and the seal."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.comparison import formats
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.sealing import sealing
from lossbench.comparison.tables import Sheet
from lossbench.comparison.tuning import FILE, PAIRED, TUNED, Tuning, read_tuning
from lossbench.errors import InputError
from lossbench.records import (
    DamagedRecordError,
    Opening,
    Record,
    read_openings,
    read_record,
    read_study,
)
from lossbench.records.study import planned_runs
from lossbench.settings import leaves
from lossbench.sweeps.plan import quoted

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

log = logging.getLogger("lossbench")


@dataclass(frozen=True)
class Selection:
    """How the arms of a study were tuned, and when its sealed test sets were opened.

    ``trials_ended`` is when the last trial ended, None if that is not known; ``trials_sealed``
    whether the records of all trials are there and their test sets are sealed. ``former`` is the
    number of runs with parameters that are no longer the chosen ones, which are left out.
    """

    tuning: Tuning = field(default_factory=Tuning)
    trials_ended: datetime | None = None
    trials_sealed: bool = False
    openings: tuple[Opening, ...] = ()
    former: int = 0


NOTHING_SELECTED = Selection()

SAMPLERS = {
    PAIRED: "paired: a trial draws what losses share alike for all of them",
    "tpe": "tpe: unpaired; what a trial draws depends on the arm's earlier trials",
}


def read_selection(study: Path) -> Selection:
    """What lies in the folder ``study``; a warning names a `tuning.json` that cannot be read."""
    tuning = read_tuning(study)
    if tuning.problem:
        log.warning("%s", tuning.problem)
    ended, sealed = _trials(study / FILE.parent, tuning)
    try:
        return Selection(tuning, ended, sealed, tuple(read_openings(study)))
    except InputError:  # `sealing` says so; without it nobody knows what came first
        return Selection(tuning, None, sealed)


def selected_runs(study: Path) -> tuple[list[Record], Selection]:
    """The records of ``study`` without the runs of former choices, and how the arms were chosen.

    A larger budget can choose anew. The runs of the former choice stay in the study: two tuned
    forms of one arm would be two tries in the comparison, for an arm that was chosen twice.
    """
    records, selection = read_study(study), read_selection(study)

    def former(record: Record) -> bool:
        chosen = _chosen(record.arm, selection.tuning)
        return chosen is not None and _differ(dict(leaves(record.config())), chosen)

    kept = [record for record in records if not former(record)]
    return kept, replace(selection, former=len(records) - len(kept))


def selected_folders(study: Path, tuning: Tuning) -> list[str]:
    """The folders that sweeps of ``study`` planned, but for those of former choices."""

    def former(entry: Mapping[str, Any]) -> bool:
        chosen = _chosen(str(entry.get("arm")), tuning)
        own = dict(str(text).partition("=")[::2] for text in entry.get("overrides", ()))
        written = {path: quoted(value) for path, value in (chosen or {}).items()}
        return chosen is not None and _differ(own, written)

    return [name for name, entry in planned_runs(study).items() if not former(entry)]


def _chosen(arm: str, tuning: Tuning) -> dict[str, Any] | None:
    """What was chosen for the tuned form ``arm``, nothing if the defaults have won by now.

    None if ``arm`` is no tuned form.
    """
    entry = tuning.arms.get(arm.removesuffix(TUNED))
    if entry is None or not arm.endswith(TUNED):
        return None
    if entry.tuned_arm != arm or entry.chosen is None:
        return {}
    return entry.chosen.parameters


def _differ(own: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    return not chosen or any(own.get(path, value) != value for path, value in chosen.items())


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
    return last, all(record.sealed or record.status == "failed" for record in records)


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
    rows = [*_tuning_rows(comparison.selection, seeds), ("test set", sealing(comparison.records))]
    if comparison.tuning.arms:
        rows.append(("test set and tuning", _looked_before(comparison)))
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
    if selection.former:
        left_out = f"{selection.former}: their parameters had been chosen with a smaller budget"
        rows.append(("runs left out", left_out))
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


def _looked_before(comparison: Comparison) -> str:
    """Whether the test set had been looked at before the last trial ended.

    What tuning chose follows from its trials, so it was not chosen before the last of them; when
    `tuning.json` was written says less, for the same command writes it again.
    """
    selection = comparison.selection
    done = [record for record in comparison.records if record.status == "done"]
    trained = [record for record in done if not isinstance(record, Derived)]
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
