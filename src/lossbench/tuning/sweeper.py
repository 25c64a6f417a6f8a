"""The search as a sweeper of Hydra: the same launchers run it, and the records are its state."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lossbench.comparison.metrics import facts
from lossbench.comparison.tuning import TUNED
from lossbench.config import Config, Run, resolve
from lossbench.data.configured import prepared_data
from lossbench.errors import InputError, unknown
from lossbench.records import LockedError, RunLock
from lossbench.records.record import LOCK
from lossbench.sweeps.grid import split_overrides
from lossbench.sweeps.plan import Planned
from lossbench.sweeps.summary import overview, print_summary, say
from lossbench.sweeps.sweeper import (
    LossbenchSweeper,
    check_data,
    check_place,
    check_writable,
    composed,
    launch,
    outcome_of,
    prepare_study,
)
from lossbench.tuning import tuned_config
from lossbench.tuning.command import Settings
from lossbench.tuning.result import as_json, check_terms, print_result, prior, write_result
from lossbench.tuning.search import FOLDER, Trial, TunedArm, best, choose_arms, judged, trial_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

TELL_SECONDS = 5.0
JOURNAL = "optuna.log"


class TuneSweeper(LossbenchSweeper):
    """Draws the trials, launches their runs, tells Optuna, then trains defaults and winners."""

    def __init__(self, params: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(params)
        arms = settings.pop("arms")
        self.settings = Settings(arms=None if arms is None else list(arms), **settings)

    def sweep(self, arguments: list[str]) -> Any:
        """Tune as ``arguments`` say; exits with 1 if not every run could be ended."""
        from lossbench.tuning.store import database, journal

        try:
            arms = self.arms(arguments)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the tuning cannot be composed: {error}") from error
        check_validation(arms, self.settings.objective)
        folder = Path(arms[0].config["runs_dir"]) / Run(arms[0].config).study / FOLDER
        check_terms(folder, arms, self.settings)
        check_place(folder)
        storage = database(self.settings.storage) if self.settings.storage else None
        check_writable(folder)
        try:
            with RunLock(folder / LOCK):
                code = self.tune(arms, folder, storage or journal(folder / JOURNAL))
        except LockedError as error:
            say(f"lossbench: {error}; wait for it, or stop it")
            code = 1
        if code:
            sys.exit(code)

    def arms(self, arguments: list[str]) -> list[TunedArm]:
        """The arms that are tuned, checked; writes nothing."""
        assert self.config is not None
        assert self.hydra_context is not None
        master, loader = self.config, self.hydra_context.config_loader
        base = base_overrides(self.params, arguments, loader)
        listed: Any = OmegaConf.to_container(master.arms) if master.arms else {}

        def compose(given: list[str]) -> tuple[Config, Mapping[str, str]]:
            config = composed(loader, master, given)
            return resolve(config), dict(config.hydra.runtime.choices)

        losses = loader.get_group_options("loss", ObjectType.CONFIG)
        sources = master.hydra.runtime.config_sources
        own = [Path(source.path) for source in sources if source.provider == "command-line"]
        return choose_arms(
            self.settings.arms, listed, losses, base, compose, own[0] if own else None
        )

    def tune(self, arms: list[TunedArm], folder: Path, storage: BaseStorage) -> int:
        """Search, write what was found, train the winners; returns the exit code."""
        found = self.search(arms, folder, storage)
        if found is None:
            return 1
        settings, seeds = self.settings, self.settings.final_seeds
        direction = facts(settings.objective).higher_is_better
        chosen = {arm.name: best(found[arm.name], direction) for arm in arms}
        result = as_json(arms, found, chosen, settings)
        write_result(folder, result, arms)
        for arm in arms:
            tuned_config.write(folder, arm, chosen[arm.name], result)
        final = []
        for seed in seeds:
            for arm in arms:
                final.append(arm.run({}, seed, arm.label))
                winner = chosen[arm.name]
                if winner is not None and winner.number > 0:
                    final.append(arm.run(winner.parameters, seed, f"{arm.label}{TUNED}"))
        for line in overview(final, check_data(final), (), ""):
            say(line)
        self.train(final)
        failed = print_summary(final, [outcome_of(entry) for entry in final if entry.to_do])
        print_result(arms, found, chosen, settings.objective, folder.parent.name)
        return 1 if failed else 0

    def search(
        self, arms: list[TunedArm], folder: Path, storage: BaseStorage
    ) -> dict[str, list[Trial]] | None:
        """Every trial of every arm, with its value; None if some could not be ended."""
        from lossbench.tuning.store import ArmStudy

        settings = self.settings
        direction = facts(settings.objective).higher_is_better
        studies = {
            arm.name: ArmStudy(
                storage,
                f"{Run(arm.config).study}/{arm.name}",
                space=arm.space,
                defaults=arm.defaults,
                sampler=settings.sampler,
                tune_seed=settings.tune_seed,
                higher_is_better=direction,
                setup=setup(arm, settings),
            )
            for arm in arms
        }
        for study in studies.values():
            study.open()
        print_search(arms, settings, folder)
        numbers = range(settings.budget)
        # an adaptive sampler needs the values of the trials before
        batches = [[number] for number in numbers] if settings.sampler == "tpe" else [numbers]
        found: dict[str, list[Trial]] = {arm.name: [] for arm in arms}
        for batch in batches:
            trials = [
                (arm, trial_of(arm, studies[arm.name], number, settings.seeds_of_trials))
                for number in batch
                for arm in arms
            ]

            def tell(trials: list[tuple[TunedArm, Trial]] = trials) -> list[Trial | None]:
                known = [judged(trial, settings.objective) for _, trial in trials]
                for (arm, _), trial in zip(trials, known, strict=True):
                    if trial is not None:
                        studies[arm.name].tell(trial.number, trial.value)
                return known

            planned = [entry for _, trial in trials for entry in trial.planned]
            check_data(planned)
            with repeated(tell):
                self.train(planned)
            for (arm, _), trial in zip(trials, tell(), strict=True):
                if trial is None:
                    say("not every trial has ended; the same command goes on from here")
                    return None
                found[arm.name].append(trial)
        return found

    def train(self, planned: list[Planned]) -> None:
        """Train what is not done of ``planned``, which are runs of one folder."""
        assert self.launcher is not None
        prepare_study(planned[0].run.folder.parent, planned)
        launch(self.launcher, [entry for entry in planned if entry.to_do])


@contextmanager
def repeated(tell: Callable[[], object]) -> Iterator[None]:
    """Call ``tell`` every few seconds meanwhile, so that Optuna's dashboard shows what has ended.

    What it raises ends that; the call after the launch raises it again.
    """
    over = threading.Event()

    def again() -> None:
        with suppress(Exception):
            while not over.wait(TELL_SECONDS):
                tell()

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def base_overrides(params: Mapping[str, Any], arguments: list[str], loader: Any) -> list[str]:
    """The overrides that all arms have; refuses several values, a loss and seeds."""
    texts = [f"{key}={value}" for key, value in params.items()]
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides(arguments)
    fixed, swept = split_overrides([*parser.parse_overrides(texts), *parsed])
    instead = {
        "arm": "arms have names",
        "seed": "see seeds= and trial_seeds=",
        "zip": "it tunes one cell",
        "exclude": "it tunes one cell",
    }
    for override in parsed:
        if (key := override.key_or_group) in instead:
            raise InputError(f"{override.input_line} is not for lossbench tune: {instead[key]}")
    swept.pop("seed", None)
    fixed.pop("seed", None)
    for key, values in swept.items():
        raise InputError(
            f"{key}={','.join(values)} are several cells or arms; tune one of them at a time, each "
            "with its own study=NAME"
        )
    return [f"{key}={value}" for key, value in fixed.items()]


def check_validation(arms: list[TunedArm], objective: str) -> None:
    """Refuse data without a validation set, and the recall of a class that they do not have."""
    for arm in arms:
        prepared, _ = prepared_data(arm.config)
        if prepared.validation is None:
            raise InputError(
                "tuning chooses on the validation set, and there is none; "
                "give data.validation_per_class=N"
            )
        if objective.startswith("val/recall/"):
            allowed = [f"val/recall/{name}" for name in prepared.class_names]
            if objective not in allowed:
                raise unknown("objective", objective, allowed)


def setup(arm: TunedArm, settings: Settings) -> dict[str, Any]:
    """What must be the same when a search goes on."""
    return {
        "config": Run(arm.config).configuration,
        "objective": settings.objective,
        "sampler": settings.sampler,
        "tune_seed": settings.tune_seed,
        "trial_seeds": settings.trial_seeds,
        "search_space": {path: entry.plain() for path, entry in arm.space.items()},
    }


def print_search(arms: list[TunedArm], settings: Settings, folder: Path) -> None:
    """What is searched, on what it is chosen, and which arms got another head."""
    seeds = settings.trial_seeds
    each = f"{settings.budget} trials each" + (f" with {seeds} seeds" if seeds > 1 else "")
    runs = len(arms) * settings.budget * seeds
    say(f"tuning {folder.parent.name}: {len(arms)} arms, {each}: {runs} runs in {folder}")
    words = {"paired": "paired: what arms share is drawn alike", "tpe": "TPE: adaptive, unpaired"}
    oracle = {"balanced": "balanced validation (oracle)", "training": "validation as in training"}
    say(f"  chosen by {settings.objective}, {oracle[prior(arms[0].config)]}")
    say(f"  draws     {words[settings.sampler]}, tune_seed={settings.tune_seed}")
    for arm in arms:
        head = ", on a cosine head, which it needs" if "model.head" in arm.given else ""
        say(f"  {arm.label}: {', '.join(arm.space)}{head}")
