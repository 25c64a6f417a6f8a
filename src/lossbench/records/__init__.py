"""What a run leaves behind: written once, read many times."""

from lossbench.records.lock import LockedError, LostLockError, RunLock, holder_of
from lossbench.records.record import DamagedRecordError, Record, read_record
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
    "LostLockError",
    "Record",
    "RunLock",
    "RunState",
    "chosen_study",
    "holder_of",
    "read_record",
    "read_study",
    "run_folders",
    "run_state",
    "studies",
]
