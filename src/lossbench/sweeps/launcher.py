"""Our Hydra launcher: the runs of a sweep on worker processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lossbench.config import Run, resolve
from lossbench.sweeps.pool import Pool
from lossbench.sweeps.progress import SweepProgress


class LocalLauncher(Launcher):
    """`workers` persistent processes; default: cores / trainer.threads.

    Everything that is worth keeping is in the records: a sweep whose processes were killed goes
    on when it is started again.
    """

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra with the composed config of the sweep."""
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; each return value is the outcome of a run, as plain values."""
        assert self.config is not None
        if not job_overrides:
            return []
        threads = self.config.trainer.threads
        size = min(self.config.workers or max(1, cores() // threads), len(job_overrides))
        with SweepProgress(len(job_overrides), size) as progress:
            pool = Pool(size, threads, progress.notice)
            order: list[str] = []
            ended = pool.run(self._runs(job_overrides, order))
        returns = []
        for identity, overrides in zip(order, job_overrides, strict=False):
            if identity in ended:
                value = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
                value.return_value = ended[identity]
                returns.append(value)
        return returns

    def _runs(self, job_overrides: Sequence[Sequence[str]], order: list[str]) -> Iterator[Run]:
        # composed one by one while the workers train, not all before the first starts
        assert self.hydra_context is not None
        assert self.config is not None
        for overrides in job_overrides:
            composed: Any = self.hydra_context.config_loader.load_sweep_config(
                self.config, list(overrides)
            )
            run = Run(resolve(composed))
            order.append(run.identity)
            yield run


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
