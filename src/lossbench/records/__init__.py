"""What a run leaves behind: written once, read many times."""

from lossbench.records.lock import LockedError, RunLock, holder_of
from lossbench.records.record import DamagedRecordError, Record, read_record
from lossbench.records.sealing import Opening, read_openings, sealed_runs
from lossbench.records.study import (
    RunState,
    chosen_study,
    read_study,
    run_folders,
    run_state,
    studies,
)

__all__ = [
    "DamagedRecordError",
    "LockedError",
    "Opening",
    "Record",
    "RunLock",
    "RunState",
    "chosen_study",
    "holder_of",
    "read_openings",
    "read_record",
    "read_study",
    "run_folders",
    "run_state",
    "sealed_runs",
    "studies",
]
