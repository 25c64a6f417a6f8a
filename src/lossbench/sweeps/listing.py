"""`lossbench sweep --plan`: what would run, where it stands, and how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lossbench.sweeps.estimate import SOURCES, Estimate, RunTime, duration, epochs_done
from lossbench.sweeps.plan import Planned

LISTED = 50  # runs, up to which every run has a line
STATES = ("done", "failed", "running", "interrupted", "to do")


def listing(estimate: Estimate) -> Iterator[str]:
    """A table of arms for each cell, then the runs: all of them, or those that are half done.

    Of more than `LISTED` runs only those that failed, run or were interrupted have a line, at most
    as many: what is done or to do is in the table.
    """
    pairs = list(zip(estimate.planned, estimate.times, strict=True))
    cells = dict.fromkeys(entry.run.cell for entry, _ in pairs)
    for cell in cells:
        yield ""
        yield cell
        yield from columns(arms_of([pair for pair in pairs if pair[0].run.cell == cell]))
    chosen = estimate.planned
    if len(chosen) > LISTED:
        chosen = [entry for entry in chosen if state_of(entry) not in ("done", "to do")]
    if chosen:
        yield ""
        yield from columns([run_line(entry, len(cells) > 1) for entry in chosen[:LISTED]])
    if len(chosen) > LISTED:
        yield f"  and {len(chosen) - LISTED} more that failed, run or were interrupted"


def arms_of(pairs: Sequence[tuple[Planned, RunTime | None]]) -> list[list[str]]:
    """The table of one cell: for each arm how many runs are in which state, and their time."""
    shown = [state for state in STATES if any(state_of(entry) == state for entry, _ in pairs)]
    rows = [["arm", "runs", *shown, "per run", "from finished runs of"]]
    for arm in dict.fromkeys(entry.run.arm for entry, _ in pairs):
        mine = [(entry, time) for entry, time in pairs if entry.run.arm == arm]
        numbers = Counter(state_of(entry) for entry, _ in mine)
        counts = [str(numbers[state] or "") for state in shown]
        time = mine[0][1]
        words = ["unknown", ""] if time is None else [duration(time.seconds), SOURCES[time.rank]]
        rows.append([arm, str(len(mine)), *counts, *words])
    return rows


def run_line(entry: Planned, with_cell: bool) -> list[str]:
    """State, arm, cell where there are several, seed and folder of one run."""
    where = [entry.run.cell] if with_cell else []
    return [detail(entry), entry.run.arm, *where, f"seed {entry.run.seed}", entry.run.folder.name]


def state_of(entry: Planned) -> str:
    """One of `STATES`; what is repeated from the start is to do."""
    state = entry.state.state
    if state in ("running", "interrupted"):
        return state
    return "to do" if entry.to_do else state


def detail(entry: Planned) -> str:
    """The state, and how far a half-trained run is."""
    state = state_of(entry)
    if entry.state.damage is not None:
        return f"{state} (its record is damaged)"
    if state == "to do" and entry.state.state != "missing":
        return f"to do again ({entry.state.state} before)"
    if state not in ("running", "interrupted"):
        return state
    epochs = entry.run.config["trainer"]["max_epochs"]
    return f"{state} at epoch {epochs_done(entry)} of {epochs}"


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """``rows`` in aligned columns; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [
        all(cell.isdecimal() or not cell for cell in column[1:]) and any(column[1:])
        for column in zip(*rows, strict=True)
    ]
    for row in rows:
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ]
        yield f"  {'  '.join(cells)}".rstrip()
