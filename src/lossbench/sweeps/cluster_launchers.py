"""Our Hydra launchers for other systems: `hydra/launcher=submitit_slurm`, `submitit_local`, `ray`.

They submit plain configs, so that no Hydra is needed where a run is trained, and follow the runs in
their records: whatever becomes of a job, of its node or of this process, the same command does what
is missing.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lossbench.config import Config, Run
from lossbench.errors import InputError
from lossbench.sweeps.jobs import Job, Jobs, RunJob
from lossbench.sweeps.launcher import RunLauncher
from lossbench.sweeps.pool import Slot
from lossbench.sweeps.progress import SweepProgress
from lossbench.sweeps.slots import worker_slots
from lossbench.sweeps.summary import say

# submitit's names for every cluster; the others belong to Slurm alone
GENERIC = (
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"),
    *("name", "stderr_to_stdout"),
)
NOT_FORWARDED = ("max_num_timeout", "python")


class ClusterLauncher(RunLauncher):
    """What the launchers of other systems share: the runs, and what the user sees of them."""

    seconds = 1.0  # between two looks at the records
    package = ""
    extra = ""
    system = ""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra with the composed config; raises `InputError` if the extra is missing."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if find_spec(self.package) is None:
            raise InputError(
                f"this launcher needs {self.package}, which is not installed; "
                f'pip install "lossbench[{self.extra}]", or leave hydra/launcher out'
            )

    def train(self, runs: Sequence[Run]) -> None:
        """Have ``runs`` done as jobs; says what killed those that never came to their run."""
        slots = self.slots(len(runs))[: len(runs)]
        words = f"{len(slots)} jobs at a time on {self.system}; the first takes a while to begin"
        with SweepProgress(len(runs), len(slots), words) as progress:
            died = Jobs(self.submit, slots, progress.notice, self.seconds).run(runs)
        for reason, number in Counter(answer["reason"] for answer in died).items():
            log = next(answer["log"] for answer in died if answer["reason"] == reason)
            jobs = "a job" if number == 1 else f"{number} jobs"
            say(f"{jobs} died: {reason}" + (f"; log: {log}" if log else ""))

    def slots(self, count: int) -> list[dict[str, str]]:
        """A place for each of the jobs that may be submitted at a time; by default as `workers`."""
        return [{}] * (self.config.workers or count)

    def submit(self, chosen: Sequence[tuple[Run, Slot]]) -> Sequence[Job]:
        """Submit a job for each run."""
        raise NotImplementedError


class SubmititJob:
    """A job of submitit."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def ended(self) -> bool:
        """Whether there is a result, or the queue knows it no more."""
        return bool(self.job.done())

    def answer(self) -> dict[str, Any]:
        """Its result; of a dead one the last line of its error log, and where the log is."""
        if self.job.exception() is None:
            return dict(self.job.result())
        log = Path(self.job.paths.stderr)
        text = log.read_text(errors="replace") if log.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1] if lines else "it left no word"
        return {"state": "died", "reason": last, "log": f"{log} ({self.job.state.lower()})"}

    def cancel(self) -> None:
        """Ask the queue to end it."""
        self.job.cancel(check=False)


class SubmititLauncher(ClusterLauncher):
    """Jobs of Slurm, or processes of this machine in the same form, to try the way out.

    ``parameters`` are submitit's, without the prefix that it puts before those of one cluster.
    """

    package = "submitit"
    extra = "slurm"

    def __init__(self, cluster: str, submitit_folder: str | None, **parameters: Any) -> None:
        self.cluster = cluster
        self.system = "this machine" if cluster == "local" else cluster
        self.folder = submitit_folder
        self.parameters = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }
        self.executor: Any = None
        self.places: list[dict[str, str]] = []

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra; raises `InputError` where there is no submitit, no Slurm, no room."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if self.cluster == "local":
            self.places = worker_slots(config)
        elif which("sbatch") is None:
            raise InputError(
                "there is no Slurm here (no sbatch on the PATH): start the sweep on a login node, "
                "or try hydra/launcher=submitit_local"
            )

    def slots(self, count: int) -> list[dict[str, str]]:
        """On this machine as many as it has room for; Slurm has a queue of its own."""
        return self.places if self.cluster == "local" else [{}] * count

    def submit(self, chosen: Sequence[tuple[Run, Slot]]) -> Sequence[Job]:
        """One job array for all of ``chosen``."""
        if self.executor is None:
            self.executor = self._executor(chosen[0][0].folder.parent)
        job = RunJob()
        with self.executor.batch():
            jobs = [self.executor.submit(job, run.config, dict(slot)) for run, slot in chosen]
        return [SubmititJob(job) for job in jobs]

    def _executor(self, study: Path) -> Any:
        submitit = import_module("submitit")
        logging.getLogger("submitit").setLevel(logging.ERROR)
        trainer = self.config.trainer
        resources: dict[str, Any] = {
            "cpus_per_task": trainer.threads * trainer.devices,
            "gpus_per_node": trainer.devices if trainer.accelerator == "gpu" else None,
        }
        if self.cluster == "slurm" and self.config.workers:
            resources["array_parallelism"] = self.config.workers
        given = {key: value for key, value in self.parameters.items() if value is not None}
        if {"gres", "gpus_per_task", "cpus_per_gpu"} & set(given):
            del resources["gpus_per_node"]
        prefix = f"{self.cluster}_"
        folder = Path(self.folder or study / ".submitit")
        try:
            executor = submitit.AutoExecutor(
                folder=folder,
                cluster=self.cluster,
                **{prefix + key: given[key] for key in NOT_FORWARDED if key in given},
            )
            executor.update_parameters(
                **{
                    key if key in GENERIC else prefix + key: value
                    for key, value in (resources | given).items()
                    if key not in NOT_FORWARDED and value is not None
                }
            )
        except (RuntimeError, NameError, AssertionError, ValueError, TypeError) as error:
            raise InputError(f"submitit: {' '.join(str(error).split())}") from error
        return executor


def carry_out(job: RunJob, config: Config, slot: Slot) -> dict[str, Any]:
    """A task of Ray, which takes functions only."""
    return job(config, slot)


class RayJob:
    """A task of Ray."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray = ray
        self.reference = reference

    def ended(self) -> bool:
        """Whether its answer, or the error in place of it, is there."""
        return bool(self.ray.wait([self.reference], timeout=0)[0])

    def answer(self) -> dict[str, Any]:
        """Its result; of a dead one what Ray says of it."""
        try:
            return dict(self.ray.get(self.reference))
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            last = lines[-1] if lines else "it left no word"
            return {"state": "died", "reason": f"{type(error).__name__}: {last}", "log": ""}

    def cancel(self) -> None:
        """End its process, or take it out of the queue."""
        self.ray.cancel(self.reference, force=True)


class RayLauncher(ClusterLauncher):
    """Tasks of a Ray cluster: one that runs already, or one started here for the sweep.

    ``ray`` has what `ray.init` takes under ``init``, what `ray.remote` takes under ``remote``.
    """

    package = extra = system = "ray"

    def __init__(self, ray: DictConfig) -> None:
        self.settings: Any = OmegaConf.to_container(ray, resolve=True)
        self.ray: Any = None
        self.task: Any = None

    def train(self, runs: Sequence[Run]) -> None:
        """Have ``runs`` done on the cluster; raises `InputError` if none is at the address."""
        # Ray reads these when it is imported: nothing is reported to anyone, and no task without a
        # GPU has the variable that hides them emptied, of which Ray warns
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self.settings["init"].get("address") == "local":
            # so Ray calls a cluster beyond this machine; without it, it listens on 127.0.0.1 alone
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        self.ray = import_module("ray")
        try:
            self.ray.init(**self.settings["init"])
        except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
            address = self.settings["init"].get("address")
            raise InputError(
                f"ray.init with address={address}: {' '.join(str(error).split())}"
            ) from error
        try:
            self.task = self.ray.remote(**self._resources())(carry_out)
            super().train(runs)
        finally:
            self.ray.shutdown()

    def submit(self, chosen: Sequence[tuple[Run, Slot]]) -> Sequence[Job]:
        """A task for each run; Ray finds the nodes."""
        job = RunJob()
        tasks = [self.task.remote(job, run.config, slot) for run, slot in chosen]
        return [RayJob(self.ray, task) for task in tasks]

    def _resources(self) -> dict[str, Any]:
        trainer = self.config.trainer
        resources: dict[str, Any] = {"num_cpus": trainer.threads * trainer.devices}
        with_gpus = trainer.accelerator == "auto" and self.ray.cluster_resources().get("GPU")
        if trainer.accelerator == "gpu" or with_gpus:
            shared = self.config.runs_per_gpu
            resources["num_gpus"] = trainer.devices / shared if shared > 1 else trainer.devices
        return resources | self.settings["remote"]
