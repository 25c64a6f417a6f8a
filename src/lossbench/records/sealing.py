"""When the test set of a study was opened, and what had been decided by then: `unsealed.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.records import files
from lossbench.records.record import Record

UNSEALED = "unsealed.json"
SCHEMA = 1


@dataclass(frozen=True)
class Opening:
    """One look at the test set, written down before it.

    Attributes:
        when: ISO 8601, to the second, with the offset to UTC.
        runs: the identities of the runs that were opened.
        selection: what was known and declared at that moment: ``declared`` (baseline, metric,
            margin, posthoc), ``runs`` (planned, done, failed, unfinished), ``validation`` (metric,
            prior, and by cell the mean and the seeds of every arm and which was ahead), ``tuned``
            (the parameters chosen by `lossbench tune`), ``git`` and ``lossbench``.
    """

    when: str
    runs: tuple[str, ...]
    selection: dict[str, Any]

    @property
    def moment(self) -> str:
        """`when` in words, such as ``2026-11-22 18:40 UTC``."""
        moment = datetime.fromisoformat(self.when)
        return f"{moment:%Y-%m-%d %H:%M} {moment.tzname()}"


def read_openings(study: Path) -> list[Opening]:
    """The openings of the study in the folder ``study``, the oldest first; none if it had none.

    Raises `InputError` if `unsealed.json` cannot be read.
    """
    path = study / UNSEALED
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, this lossbench reads {SCHEMA}")
        for entry in content["opened"]:
            datetime.fromisoformat(entry["when"])
        return [
            Opening(entry["when"], tuple(entry["runs"]), dict(entry["selection"]))
            for entry in content["opened"]
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); it says when the test set was opened: restore it"
        ) from error


def add_opening(study: Path, opening: Opening) -> None:
    """Append ``opening`` to the study's `unsealed.json`; the caller holds the study's lock."""
    opened = [*read_openings(study), opening]
    content = {"schema": SCHEMA, "opened": [asdict(entry) for entry in opened]}
    files.remove_leftovers(study, of=UNSEALED)
    files.write_json(study / UNSEALED, content)


def sealed_runs(records: Iterable[Record]) -> list[Record]:
    """The finished ones of ``records`` whose test outputs nobody has looked at."""
    return [record for record in records if record.status == "done" and record.sealed]
