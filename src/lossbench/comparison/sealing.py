"""Whether the test set had been looked at: what a comparison refuses, and what it says of it."""

from __future__ import annotations

from collections.abc import Sequence

from lossbench.comparison import formats, metrics
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.table import balanced_validation
from lossbench.errors import InputError
from lossbench.records import Opening, Record, read_openings, sealed_runs

OPEN = "The test set was not sealed: test numbers could be seen from the first finished run on."


def refuse_sealed(records: Sequence[Record], metric: str) -> None:
    """Raise `InputError` if ``metric`` is one of test and test is sealed in any finished run."""
    sealed = sealed_runs(records)
    if metrics.split_of(metric) != "test" or not sealed:
        return
    done = [record for record in records if record.status == "done"]
    how_many = "is" if len(sealed) == len(done) else f"is, in {len(sealed)} of {len(done)} runs,"
    study = sealed[0].study
    tag = f"val/{metric.partition('/')[2]}"
    known = any(record.metrics.get(tag) is not None for record in done)
    where = "balanced validation (oracle)" if balanced_validation(done[0]) else "validation"
    on = f"metric={tag} compares on {where}, and " if known else ""
    raise InputError(
        f"the test set of study {study} {how_many} sealed: {on}lossbench unseal study={study} "
        "opens it, which is recorded"
    )


def sealing(records: Sequence[Record]) -> str:
    """Whether anybody had looked at the test set before this comparison, in a few sentences."""
    finished = [record for record in records if record.status == "done"]
    done = [record for record in finished if not isinstance(record, Derived)]
    sealed = sealed_runs(done)
    try:
        openings = read_openings(done[0].folder.parent)
    except InputError as error:
        return f"When the test set was opened is not known: {error}."
    opened = {identity for opening in openings for identity in opening.runs}
    never = sum(not record.sealed and record.identity not in opened for record in done)
    told = [_opened(opening) for opening in openings]
    if len(sealed) == len(done):
        told.append("The test set has not been looked at: it is sealed in every run.")
    elif sealed:
        told.append(f"The test set is still sealed in {len(sealed)} of {len(done)} runs.")
    if never == len(done):
        told.append(OPEN)
    elif never:
        told.append(
            f"In {never} of {len(done)} runs it was never sealed, and their test numbers could be "
            "seen as soon as they were finished."
        )
    return " ".join(told)


def _opened(opening: Opening) -> str:
    """When the test set was opened and what was known by then."""
    chosen, runs = opening.selection["declared"], opening.selection["runs"]
    validation = opening.selection["validation"]
    margin = "no margin" if chosen["margin"] is None else f"margin {chosen['margin']:g}"
    declared = f"metric {chosen['metric']}, {margin}, baseline {chosen['baseline']}"
    through = f"{runs['done']} of {runs['planned']} planned runs were finished"
    early = f", {len(runs['unfinished'])} still to come" if runs["unfinished"] else ""
    ahead = {cell: found["ahead"] for cell, found in validation["cells"].items() if found["ahead"]}
    leads = (
        f"{formats.some(sorted(set(ahead.values())), 4)} had the best mean {validation['metric']}"
        if ahead
        else "no arm was ahead on validation"
    )
    return (
        f"The test set was sealed until {opening.moment}, when {declared} had been declared; "
        f"{through}{early}, and {leads}."
    )
