"""Our Hydra launcher: the runs of a sweep on worker processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lossbench.config import Run, resolve
from lossbench.sweeps.pool import Pool
from lossbench.sweeps.progress import SweepProgress
from lossbench.sweeps.slots import worker_slots


class LocalLauncher(Launcher):
    """Persistent processes, one in each place that `worker_slots` finds for them.

    Everything that is worth keeping is in the records: a sweep whose processes were killed goes
    on when it is started again.
    """

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.slots: list[dict[str, str]] = []

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra with the composed config of the sweep.

        Raises `InputError` for more workers than the GPUs have room for.
        """
        self.hydra_context = hydra_context
        self.config = config
        self.slots = worker_slots(config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; each return value is the outcome of a run, as plain values."""
        assert self.config is not None
        if not job_overrides:
            return []
        slots = self.slots[: len(job_overrides)]
        with SweepProgress(len(job_overrides), len(slots)) as progress:
            pool = Pool(slots, self.config.trainer.threads, progress.notice)
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
