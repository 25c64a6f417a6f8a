"""What becomes of a run whose process dies, on this machine or another."""

from __future__ import annotations

from lossbench.config import Run
from lossbench.records.record import finished_epochs

MOST = 3  # deaths without a further epoch between them; then the run is to blame


class Deaths:
    """Counts the deaths of each run since its last finished epoch."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, int]] = {}  # finished epochs, deaths since

    def reason_to_give_up(self, run: Run, how: str) -> str | None:
        """Count one more death of ``run``, which was ``how``; says why the run has failed.

        None while it may go on in another process, from its last finished epoch.
        """
        finished = finished_epochs(run.folder)
        before, deaths = self._counted.get(run.identity, (finished, 0))
        deaths = deaths + 1 if before == finished else 1
        self._counted[run.identity] = finished, deaths
        if deaths < MOST:
            return None
        after_all = finished >= run.config["trainer"]["max_epochs"]
        where = "after its last epoch" if after_all else f"in epoch {finished + 1}"
        guess = "; out of memory?" if how.endswith("signal 9") else ""
        return f"{how}, {MOST} times {where}{guess}"
