"""Our Hydra sweeper: plan, check, show, launch what is missing, sum up."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lossbench.config import Config, Run, plain
from lossbench.errors import InputError
from lossbench.records import LockedError, run_state
from lossbench.records.study import PLAN, planned_folders
from lossbench.settings import SETTINGS
from lossbench.sweeps.cluster_launchers import RayLauncher, SubmititLauncher
from lossbench.sweeps.estimate import estimate
from lossbench.sweeps.exclusion import read_entries
from lossbench.sweeps.grid import SWEEP_KEYS, written
from lossbench.sweeps.launcher import LocalLauncher, RunLauncher
from lossbench.sweeps.listing import listing
from lossbench.sweeps.plan import Planned, make_plan, write_plan
from lossbench.sweeps.summary import given_up, overview, print_summary, say

WORKER_KEYS = ("workers", "runs_per_gpu", "trainer.threads", "trainer.devices")


class LossbenchSweeper(Sweeper):
    """Arms x cells x seeds, of which only what is not yet done is launched.

    ``params`` are sweeps from the config, such as ``seed: 0,1,2`` in an experiment; the command
    line overrides them. The folder is the state: starting the same sweep again does the rest.
    With ``plan`` (`lossbench sweep --plan`) the runs are listed on stdout; nothing is written.
    """

    def __init__(self, params: dict[str, Any] | None = None, plan: bool = False) -> None:
        self.params = dict(params or {})
        self.only_plan = plan
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra with the composed config; chooses the launcher."""
        self.hydra_context = hydra_context
        self.config = config
        for key in WORKER_KEYS:  # of which the launcher makes its workers
            SETTINGS[key].check(OmegaConf.select(config, key), key)
        for launcher in (SubmititLauncher, RayLauncher):
            Plugins.instance().register(launcher)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that ``arguments`` describe; exits with 1 if a run failed."""
        assert self.config is not None
        assert self.launcher is not None
        try:
            planned = self.plan(arguments)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Hydra's grammar and defaults lists raise these for values they cannot use
            raise InputError(f"the sweep cannot be composed: {error}") from error
        study = planned[0].run.folder.parent
        origins = check_data(planned, download=not self.only_plan)
        check_place(study)
        before = planned_folders(study)
        time = estimate(planned, study.parent, self.workers(planned))
        left_out = [written(entry) for entry in read_entries(self.plain("exclude"))]
        lines = [*overview(planned, origins, left_out, time.sentence), given_up(planned, before)]
        if self.only_plan:
            print("\n".join([*filter(None, lines), *listing(time)]))
            return None
        for line in filter(None, lines):
            say(line)
        prepare_study(study, planned)
        to_do = [entry for entry in planned if entry.to_do]
        launch(self.launcher, to_do)
        outcomes = [outcome_of(entry) for entry in to_do]
        failed = print_summary(planned, outcomes)
        if failed:
            sys.exit(1)
        return outcomes

    def plan(self, arguments: list[str]) -> list[Planned]:
        """The runs that ``arguments`` and the experiment's ``params`` describe."""
        assert self.config is not None
        assert self.hydra_context is not None
        master, loader = self.config, self.hydra_context.config_loader
        arms = self.plain("arms") or None
        valid = isinstance(arms, dict) and all(isinstance(chosen, dict) for chosen in arms.values())
        if arms is not None and not valid:
            raise InputError(
                "arms must map labels to overrides, as in {focal_1: {loss: focal, loss.gamma: 1}}"
            )
        parser = OverridesParser.create(config_loader=loader)
        typed = parser.parse_overrides(arguments)
        seeds = checked_seeds(self.plain("seeds"))
        params, seeds = settle_seeds({o.key_or_group for o in typed}, self.params, seeds)
        overrides = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])

        def compose(given: list[str]) -> Config:
            return plain(composed(loader, master, given))

        return make_plan(
            [*overrides, *typed],
            arms,
            compose,
            seeds=seeds,
            zips=self.plain("zip"),
            exclude=self.plain("exclude"),
        )

    def plain(self, key: str) -> Any:
        """The value of ``key`` in the composed config, as plain lists and mappings."""
        assert self.config is not None
        value = self.config.get(key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def workers(self, planned: list[Planned]) -> int | None:
        """How many runs our launcher trains at once; None where another one decides that."""
        if not isinstance(self.launcher, LocalLauncher):
            return None
        return min(len(self.launcher.slots), sum(entry.to_do for entry in planned))


def composed(loader: ConfigLoader, master: DictConfig, given: list[str]) -> DictConfig:
    """The config of a run; raises `InputError` if it allows itself more than the command line."""
    config = loader.load_sweep_config(master, given)
    if config.allow != master.allow:
        raise InputError(
            f"allow={config.allow} is no part of an arm: say it once, on the command line"
        )
    return config


def checked_seeds(seeds: Any) -> int | None:
    """``seeds`` of the config, a number of at least 1 or None; raises `InputError`."""
    SETTINGS["seeds"].check(seeds, "seeds")
    return None if seeds is None else int(seeds)


def settle_seeds(
    typed: Collection[str], params: dict[str, Any], seeds: int | None
) -> tuple[dict[str, Any], int | None]:
    """Which of ``seed`` and ``seeds`` counts: what the command line says, before the experiment.

    ``typed`` are the keys on the command line. Returns the params and the number of seeds that
    are left. Raises `InputError` if one place says both.
    """
    for key in SWEEP_KEYS:
        if key in params:
            raise InputError(
                f"{key} in hydra.sweeper.params is not read; write it at the top of the experiment"
            )
    if seeds is None or ("seed" in typed and "seeds" not in typed):
        return params, None
    if "seed" in typed or ("seed" in params and "seeds" not in typed):
        raise InputError(
            f"seed= and seeds={seeds} both say which seeds; give one of them "
            f"(seeds={seeds} are the seeds 0 to {seeds - 1})"
        )
    return {key: value for key, value in params.items() if key != "seed"}, seeds


def prepare_study(study: Path, planned: list[Planned]) -> None:
    """Make the folder, move damaged records aside, add to `plan.json`; or exit with 1."""
    check_writable(study)
    for entry in planned:
        if entry.state.damage is not None:
            run_state(entry.run.folder)
    try:
        write_plan(study, planned)
    except LockedError as error:  # only a process that hangs holds it for long
        say(f"lossbench: {study / PLAN}: {error}; stop that process; nothing was started")
        sys.exit(1)


def launch(launcher: Launcher, to_do: list[Planned]) -> None:
    """Have ``to_do`` run; what the launcher or a job of it raises is said in a line.

    What became of the runs stands in their records, whatever a launcher returns or raises.
    """
    if not to_do:
        return
    try:
        if isinstance(launcher, RunLauncher):  # ours: composing each once more costs 0.1 s a run
            launcher.train([entry.run for entry in to_do])
            return
        jobs = launcher.launch([entry.overrides for entry in to_do], initial_job_idx=0)
        raised = [job._return_value for job in jobs if job.status == JobStatus.FAILED]
    except InputError:
        raise
    except Exception as error:
        say(f"the launcher gave up: {in_a_line(error)}")
        return
    for reason in dict.fromkeys(map(in_a_line, raised)):
        say(f"a job died: {reason}")


def outcome_of(entry: Planned) -> dict[str, Any]:
    """How a planned run ended, as its record says; ``new`` is False if this sweep ended nothing.

    ``state`` is done, failed, running (another process has it), interrupted or missing. A record
    that is still the one from before the sweep says nothing about this sweep: interrupted.
    """
    now = run_state(entry.run.folder)
    new = now.record != entry.state.record
    state = now.state if new or now.state not in ("done", "failed") else "interrupted"
    reason = now.record.reason if now.record else None
    return {"state": state, "folder": str(entry.run.folder), "reason": reason, "new": new}


def in_a_line(error: BaseException) -> str:
    """The type and the last line of what ``error`` says: the cause, where it holds a traceback."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1].strip()}"


def check_data(planned: list[Planned], download: bool = True) -> list[str]:
    """Read and prepare the data of each cell once, so that a wrong count stops all before any.

    Returns where the data of the cells was read, and where it is not what was asked for, in words.
    Without ``download``, data that are not on this machine stay unread, and that is said.
    """
    from lossbench.data.configured import notes, prepared_data
    from lossbench.data.sources.published import AbsentError, no_downloads

    cells: dict[str, Run] = {}
    for entry in planned:
        if entry.to_do:
            config = entry.run.config
            # where the order of the classes is drawn, what is available differs from seed to seed
            drawn = config["imbalance"].get("class_order") == "random"
            groups = (config["data"], config["imbalance"], config.get("label_noise"))
            cells.setdefault(str((groups, config["seed"] if drawn else None)), entry.run)
    words = []
    for run in cells.values():
        try:
            with nullcontext() if download else no_downloads():
                prepared, _ = prepared_data(run.config)
        except AbsentError as error:
            words.append(str(error))
        else:
            words += [prepared.origin, *notes(run.config, prepared)]
    return words


def check_writable(study: Path) -> None:
    """Make the study's folder; raise `InputError` if it cannot be made or written."""
    from lossbench.training.outcome import make_folder

    make_folder(study)


def check_place(study: Path) -> None:
    """Raise `InputError` if the study's folder could not be made or written; makes nothing."""
    place = study
    while not place.exists():
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return
    reason = os.strerror(errno.EACCES if place.is_dir() else errno.ENOTDIR)
    raise InputError(
        f"runs_dir: {study} cannot be made or written ({reason}); "
        "choose a folder that can be written with runs_dir=FOLDER"
    )
