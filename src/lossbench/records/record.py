"""What one run leaves behind, as `record.json` holds it."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import machine_fault
from lossbench.records import files

if TYPE_CHECKING:
    import numpy as np

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
SAMPLE_HISTORY, SUSPICIOUS_LABELS = "sample_history.npz", "suspicious_labels.csv"


class DamagedRecordError(RuntimeError):
    """A run folder whose record cannot be read; the message names the file and the reason."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(reason)
        self.folder = folder


@dataclass(frozen=True)
class Record:
    """One run. ``metrics`` holds nothing that depends on the clock or the machine.

    ``fingerprints`` are hashes of the training subset, the initial backbone weights and the first
    batches: what pairing is proved with. ``metrics`` maps ``split/group/metric`` to a number, or
    to None where the metric is undefined. Of a ``sealed`` run nothing is measured on test: its
    outputs are stored, and `lossbench unseal` opens them.
    """

    status: str
    study: str
    arm: str
    cell: str
    identity: str
    seed: int
    loss: str
    model: str
    configuration: str = ""  # hash of the config without the seed: what a label stands for
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
    notes: list[str] = field(default_factory=list)  # where the data are not what was asked for
    started: str = ""  # of an interrupted run later by the interruptions: it ends ``seconds`` after
    seconds: float = 0.0
    sealed: bool = False
    energy_joules: float | None = None  # of the whole GPU meanwhile; None where NVML cannot tell
    schema: int = SCHEMA
    folder: Path = field(default=Path(), compare=False)

    def write(self, folder: Path) -> None:
        """Write `record.json` into ``folder``, whole or not at all."""
        content = asdict(self)
        del content["folder"]
        files.write_json(folder / RECORD, content)

    def history(self, columns: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The columns of `history.csv`, or those of ``columns`` that it has, and ``epoch``.

        float64, a value per epoch, NaN where it was not computed. Raises `DamagedRecordError`.
        """
        import numpy as np

        with self._reading(HISTORY) as path, path.open(newline="") as stream:
            head, *rows = csv.reader(stream)
            wanted = head if columns is None else ["epoch", *columns]
            places = {name: head.index(name) for name in wanted if name in head}
            return {
                name: np.array([float(row[place] or "nan") for row in rows])
                for name, place in places.items()
            }

    def arrays(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays of `arrays.npz`, or those of ``names`` that it has.

        Confusion matrices, reliability bins and loss histograms. Raises `DamagedRecordError`.
        """
        return self._stored(ARRAYS, names)

    def outputs(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays of `outputs.npz`, or those of ``names`` that it has.

        Logits, targets and sample ids of validation and test. Raises `DamagedRecordError`.
        """
        return self._stored(OUTPUTS, names)

    def image_counts(self) -> list[int]:
        """(C,) training images of each true class: what ranks the classes.

        ``class_counts`` are those of the labels given, which differ under label noise. Raises
        `DamagedRecordError`.
        """
        import numpy as np

        true = self.arrays(["label_noise/clean"]).get("label_noise/clean")
        if true is None:
            return self.class_counts
        return np.bincount(true, minlength=len(self.class_names)).tolist()

    def config(self) -> dict[str, Any]:
        """The run's resolved `config.yaml`. Raises `DamagedRecordError`."""
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # nine times as fast, where it is
        with self._reading(CONFIG) as path:
            config = yaml.load(path.read_text(), loader)
            if not isinstance(config, dict):
                raise ValueError("it is no mapping")
            return config

    def _stored(self, file: str, names: Collection[str] | None) -> dict[str, np.ndarray]:
        import numpy as np

        with self._reading(file) as path, np.load(path, allow_pickle=False) as stored:
            wanted = stored.files if names is None else [n for n in names if n in stored.files]
            return {name: stored[name] for name in wanted}

    @contextmanager
    def _reading(self, name: str) -> Iterator[Path]:
        path = self.folder / name
        try:
            yield path
        except Exception as error:  # a damaged zip, CSV or YAML raises whatever its reader likes
            if machine_fault(error) or isinstance(error, PermissionError | MemoryError):
                raise  # the file may be sound
            raise DamagedRecordError(self.folder, f"{path} cannot be read: {error}") from error


def read_record(folder: Path) -> Record:
    """Read the record of one run folder.

    Raises `DamagedRecordError` if it is not one, or if a run that is done lacks a readable file,
    and FileNotFoundError if the folder holds no `record.json`.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise DamagedRecordError(folder, f"{path} is not JSON: {error}") from error
    known = {entry.name for entry in fields(Record)} - {"folder"}
    missing = (
        {"status", "study", "arm", "cell", "identity", "seed"} - set(content)
        if isinstance(content, dict)
        else known
    )
    if missing or content["status"] not in STATUSES:
        raise DamagedRecordError(
            folder, f"{path} is not a run's record (missing: {sorted(missing)})"
        )
    if content.get("schema") != SCHEMA:
        raise DamagedRecordError(
            folder, f"{path} has schema {content.get('schema')!r}; this lossbench reads {SCHEMA}"
        )
    if content["status"] == "done":
        _check_files(folder)
    chosen = {key: value for key, value in content.items() if key in known}
    return Record(**{"loss": "", "model": ""} | chosen, folder=folder)


def finished_epochs(folder: Path) -> int:
    """The epochs after which the run in ``folder`` continues; 0 if it has no checkpoint."""
    if not (folder / CHECKPOINT).is_file():
        return 0
    try:
        return max(0, (folder / HISTORY).read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as stream:  # of a path `is_zipfile` hides that it cannot be opened
            return zipfile.is_zipfile(stream)
    except FileNotFoundError:
        return False


def _check_files(folder: Path) -> None:
    for name in (ARRAYS, OUTPUTS):
        if not _is_zip(folder / name):
            raise DamagedRecordError(folder, f"{folder / name} is missing or not readable")
    try:
        with (folder / HISTORY).open(newline="") as stream:
            readable = next(csv.reader(stream), None) is not None
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        readable = False
    if not readable or not (folder / CONFIG).is_file():
        raise DamagedRecordError(folder, f"{folder}: history.csv or config.yaml is missing")
