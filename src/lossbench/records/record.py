"""What one run leaves behind, as `record.json` holds it."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.records import files

if TYPE_CHECKING:
    import numpy as np
    import pandas

SCHEMA = 1
STATUSES = ("running", "done", "failed")

RECORD, CONFIG, HISTORY = "record.json", "config.yaml", "history.csv"
ARRAYS, OUTPUTS, CHECKPOINT, LOCK, TENSORBOARD, TRACEBACK = (
    "arrays.npz",
    "outputs.npz",
    "checkpoint.ckpt",
    "lock",
    "tensorboard",
    "traceback.txt",
)


class DamagedRecordError(RuntimeError):
    """A run folder whose record cannot be read; the message names the file and the reason."""


@dataclass(frozen=True)
class Record:
    """One run. ``metrics`` holds nothing that depends on the clock or the machine.

    ``fingerprints`` are hashes of the training subset, the initial backbone weights and the first
    batches: what pairing is proved with. ``metrics`` maps ``split/group/metric`` to a number, or
    to None where the metric is undefined.
    """

    status: str
    study: str
    arm: str
    cell: str
    identity: str
    seed: int
    loss: str
    model: str
    reason: str | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)
    priors: dict[str, list[float] | None] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: str | None = None
    hardware: dict[str, Any] = field(default_factory=dict)
    origin: str = ""  # where the data was read, in words
    started: str = ""
    seconds: float = 0.0
    schema: int = SCHEMA
    folder: Path = field(default=Path(), compare=False)

    def write(self, folder: Path) -> None:
        """Write `record.json` into ``folder``, whole or not at all."""
        content = asdict(self)
        del content["folder"]
        files.write_json(folder / RECORD, content)

    def history(self) -> pandas.DataFrame:
        """The run's `history.csv`: a row per epoch, a column per metric tag."""
        import pandas

        return pandas.read_csv(self.folder / HISTORY)

    def arrays(self) -> dict[str, np.ndarray]:
        """The run's `arrays.npz`: confusion matrices, reliability bins and loss histograms."""
        import numpy as np

        path = self.folder / ARRAYS
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored.items())
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DamagedRecordError(f"{path}: {error}") from error

    def config(self) -> dict[str, Any]:
        """The run's resolved `config.yaml`."""
        import yaml

        return yaml.safe_load((self.folder / CONFIG).read_text())


def read_record(folder: Path) -> Record:
    """Read the record of one run folder.

    Raises `DamagedRecordError` if it is not one, or if a run that is done lacks a readable file,
    and FileNotFoundError if the folder holds no `record.json`.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise DamagedRecordError(f"{path} is not JSON: {error}") from error
    known = {entry.name for entry in fields(Record)} - {"folder"}
    missing = (
        {"status", "study", "arm", "cell", "identity", "seed"} - set(content)
        if isinstance(content, dict)
        else known
    )
    if missing or content["status"] not in STATUSES:
        raise DamagedRecordError(f"{path} is not a run's record (missing: {sorted(missing)})")
    if content.get("schema") != SCHEMA:
        raise DamagedRecordError(
            f"{path} has schema {content.get('schema')!r}; this lossbench reads {SCHEMA}"
        )
    if content["status"] == "done":
        _check_files(folder)
    chosen = {key: value for key, value in content.items() if key in known}
    return Record(**{"loss": "", "model": ""} | chosen, folder=folder)


def _check_files(folder: Path) -> None:
    for name in (ARRAYS, OUTPUTS):
        if not zipfile.is_zipfile(folder / name):
            raise DamagedRecordError(f"{folder / name} is missing or not readable")
    try:
        with (folder / HISTORY).open(newline="") as stream:
            readable = next(csv.reader(stream), None) is not None
    except (OSError, UnicodeDecodeError, csv.Error):
        readable = False
    if not readable or not (folder / CONFIG).is_file():
        raise DamagedRecordError(f"{folder}: history.csv or config.yaml is missing")
