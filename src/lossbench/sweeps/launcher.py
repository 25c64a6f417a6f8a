"""Our Hydra launcher: the runs of a sweep on worker processes of this machine."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lossbench.config import Run, resolve
from lossbench.sweeps.pool import Pool
from lossbench.sweeps.progress import SweepProgress
from lossbench.sweeps.slots import worker_slots


class RunLauncher(Launcher):
    """A launcher that takes runs as they were planned, and not only overrides to compose."""

    hydra_context: HydraContext
    config: DictConfig

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra with the composed config of the sweep; raises `InputError`."""
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Hydra's way to have runs done; what became of them is in their records."""
        loader = self.hydra_context.config_loader
        composed = [loader.load_sweep_config(self.config, list(given)) for given in job_overrides]
        self.train([Run(resolve(config)) for config in composed])
        return []

    def train(self, runs: Sequence[Run]) -> None:
        """Have ``runs`` done; what became of them is in their records."""
        raise NotImplementedError


class LocalLauncher(RunLauncher):
    """Persistent processes, one in each place that `worker_slots` finds for them.

    Everything that is worth keeping is in the records: a sweep whose processes were killed goes
    on when it is started again.
    """

    def __init__(self) -> None:
        self.slots: list[dict[str, str]] = []

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra; raises `InputError` for more workers than the GPUs have room for."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.slots = worker_slots(config)

    def train(self, runs: Sequence[Run]) -> None:
        """Have ``runs`` done by the workers."""
        slots = self.slots[: len(runs)]
        with SweepProgress(len(runs), len(slots)) as progress:
            Pool(slots, self.config.trainer.threads, progress.notice).run(runs)
