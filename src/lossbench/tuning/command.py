"""`lossbench tune`: the same number of trials for every loss, chosen on validation alone."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from lossbench.errors import InputError, unknown
from lossbench.parameters import Parameter

OBJECTIVE = "val/cls/balanced_accuracy"
FIRST_TRIAL_SEED = 1_000_000
"""Seeds of trials begin here and those of the final runs end before."""

HELP = """\
lossbench tune arms=focal,ldam,cross_entropy budget=20 [any override of lossbench train]

Searches the parameters of every arm on the validation set, then trains the defaults and the
winners with fresh seeds. The same command goes on after a stop; a larger budget extends it.

  arms=A,B          arms of the experiment (default: all of them), else losses
  budget=20         trials of every arm; trial 0 has the defaults
  sampler=paired    paired: what losses share is drawn alike for all. tpe: adaptive, unpaired
  objective=val/cls/balanced_accuracy   a metric of the validation set
  trial_seeds=1     seeds of every trial; the mean counts
  seeds=5           fresh seeds for the defaults and the winners
  tune_seed=0       every draw follows from it
  storage=URL       a database for Optuna, such as sqlite:///tuning.db; default: a file in the study

Search spaces are in configs/search/, your own in search/ of --config-dir. See docs/tuning.md.
"""

SETTINGS = {
    parameter.name: parameter
    for parameter in (
        Parameter(name="budget", kind="integer", minimum=1, default=20),
        Parameter(name="sampler", kind="choice", choices=("paired", "tpe"), default="paired"),
        Parameter(name="objective", kind="text", default=OBJECTIVE),
        Parameter(name="trial_seeds", kind="integer", minimum=1, maximum=100, default=1),
        Parameter(name="tune_seed", kind="integer", minimum=0, default=0),
        Parameter(name="seeds", kind="integer", minimum=1, maximum=FIRST_TRIAL_SEED, default=5),
        Parameter(name="storage", kind="text", optional=True),
    )
}


@dataclass(frozen=True)
class Settings:
    """The keys of `lossbench tune` itself; ``arms`` is None for all of the experiment's."""

    arms: list[str] | None
    budget: int
    sampler: str
    objective: str
    trial_seeds: int
    tune_seed: int
    seeds: int
    storage: str | None

    @property
    def seeds_of_trials(self) -> list[int]:
        """The seeds that every trial is trained with."""
        return [FIRST_TRIAL_SEED + number for number in range(self.trial_seeds)]

    @property
    def final_seeds(self) -> list[int]:
        """The seeds of the defaults and the winners, which no trial has seen."""
        return list(range(self.seeds))


def tune_command(arguments: list[str]) -> int:
    """Tune as ``arguments`` say; returns the exit code. `InputError` comes before any file."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    settings, overrides = read(arguments)
    if importlib.util.find_spec("optuna") is None:
        raise InputError('tune needs Optuna: pip install "lossbench[tune]"')
    check_objective(settings.objective)
    from hydra.core.plugins import Plugins

    from lossbench.application import run_application
    from lossbench.sweeps.plan import quoted
    from lossbench.tuning.sweeper import TuneSweeper

    Plugins.instance().register(TuneSweeper)
    chosen = [f"hydra.sweeper.{key}={quoted(value)}" for key, value in vars(settings).items()]
    return run_application("tune", [*overrides, "hydra/sweeper=tune", *chosen])


def read(arguments: list[str]) -> tuple[Settings, list[str]]:
    """The settings among ``arguments``, checked, and all other arguments."""
    given: dict[str, Any] = {}
    rest = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if key.lstrip("+").partition(".")[0] == "loss":
            raise InputError(
                f"{argument} is not for lossbench tune: name the losses with arms=; arms with "
                "parameters of their own are an experiment's (README)"
            )
        if equals and (key in SETTINGS or key == "arms"):
            given[key] = value_of(argument, text)
        else:
            rest.append(argument)
    arms = given.pop("arms", None)
    if arms is not None:
        arms = [str(arm) for arm in (arms if isinstance(arms, list) else [arms])]
        if not arms or len(set(arms)) < len(arms):
            raise InputError(f"arms={','.join(arms)} is not allowed: names, each of them once")
    values = {
        name: parameter.check(given.get(name, parameter.default), name)
        for name, parameter in SETTINGS.items()
    }
    return Settings(arms=arms, **values), rest  # type: ignore[arg-type]


def value_of(argument: str, text: str) -> Any:
    """``text`` in Hydra's grammar, in which A,B and [A,B] are lists."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    if argument.startswith("storage="):
        return None if text == "null" else text
    try:
        (override,) = OverridesParser.create().parse_overrides([argument])
    except OverrideParseException as error:
        raise InputError(f"the override {argument!r} cannot be read; write KEY=VALUE") from error
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    value = override.value()
    return [str(entry) for entry in value] if isinstance(value, list) else value


def check_objective(tag: str) -> None:
    """Refuse what is no metric of the validation set with a direction that all losses share."""
    from lossbench.comparison.metrics import FACTS

    if tag.startswith("val/recall/"):
        return  # whether there is such a class is seen when the data are read
    groups = ("cls", "cal", "cal_adjusted", "ranking", "selective")
    known = [name for name in FACTS if name.partition("/")[0] in groups]
    known += [f"cal_adjusted/{name[4:]}" for name in known if name.startswith("cal/")]
    allowed = [f"val/{name}" for name in (*known, "loss/cross_entropy")]
    if tag not in allowed:
        usual = [OBJECTIVE, "val/loss/cross_entropy", "others of val/cls, val/cal and val/recall"]
        raise unknown("objective", tag, allowed, usual)
