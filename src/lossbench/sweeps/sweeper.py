"""Our Hydra sweeper: plan, check, show, launch what is missing, sum up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lossbench.config import Config, Run, resolve
from lossbench.errors import InputError
from lossbench.records import run_state
from lossbench.sweeps.plan import Planned, make_plan, write_plan
from lossbench.sweeps.summary import print_plan, print_summary, say


class LossbenchSweeper(Sweeper):
    """Arms x cells x seeds, of which only what is not yet done is launched.

    ``params`` are sweeps from the config, such as ``seed: 0,1,2`` in an experiment; the command
    line overrides them. The folder is the state: starting the same sweep again does the rest.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra with the composed config; chooses the launcher."""
        self.hydra_context = hydra_context
        self.config = config
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
        origins = check_data(planned)
        check_writable(study)
        print_plan(planned, origins)
        write_plan(study, planned)
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
        texts = [f"{key}={value}" for key, value in self.params.items()] + arguments
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(texts)
        arms = OmegaConf.to_container(self.config.arms) if self.config.arms else None
        valid = isinstance(arms, dict) and all(isinstance(chosen, dict) for chosen in arms.values())
        if arms is not None and not valid:
            raise InputError(
                "arms must map labels to overrides, as in {focal_1: {loss: focal, loss.gamma: 1}}"
            )

        def compose(given: list[str]) -> Config:
            return resolve(loader.load_sweep_config(master, given))

        return make_plan(overrides, arms, compose)  # type: ignore[arg-type]


def launch(launcher: Launcher, to_do: list[Planned]) -> None:
    """Have ``to_do`` run; what the launcher or a job of it raises is said in a line.

    What became of the runs stands in their records, whatever a launcher returns or raises.
    """
    if not to_do:
        return
    try:
        jobs = launcher.launch([entry.overrides for entry in to_do], initial_job_idx=0)
    except InputError:
        raise
    except Exception as error:
        say(f"the launcher gave up: {in_a_line(error)}")
        return
    raised = [job._return_value for job in jobs if job.status == JobStatus.FAILED]
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


def check_data(planned: list[Planned]) -> list[str]:
    """Read and prepare the data of each cell once, so that a wrong count stops all before any.

    Returns where the data of the cells was read, and where it is not what was asked for, in words.
    """
    from lossbench.data.configured import notes, prepared_data

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
        prepared, _ = prepared_data(run.config)
        words += [prepared.origin, *notes(run.config, prepared)]
    return words


def check_writable(study: Path) -> None:
    """Raise `InputError` if the study's folder cannot be made or written."""
    from lossbench.training.outcome import make_folder

    make_folder(study)
