"""Optuna keeps the trials: their values are drawn once, and its dashboard shows them.

What a trial is worth is in the records of its runs; here it is only told. Optuna is an optional
extra: this module is imported by functions only.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lossbench.errors import InputError
from lossbench.seeding import derive_seed
from lossbench.tuning.space import Dimension, Space, draw

STARTUP = 5  # trials before TPE looks at what the earlier ones were worth


class PairedSampler(optuna.samplers.BaseSampler):
    """Trial k draws parameter p from a hash of (seed, p, k), and trial 0 has the defaults.

    What two losses share is drawn alike, and a further parameter moves no other draw.
    """

    def __init__(self, tune_seed: int, space: Space, defaults: Mapping[str, Any]) -> None:
        self.tune_seed = tune_seed
        self.space = space
        self.defaults = defaults

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is drawn together."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value that ``trial`` has for ``param_name``, whatever the other trials have."""
        if trial.number == 0:
            return self.defaults[param_name]
        return draw(self.tune_seed, param_name, trial.number, self.space[param_name])


class ArmStudy:
    """The Optuna study of one arm: draws its trials, and is told what they were worth."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        space: Space,
        defaults: Mapping[str, Any],
        sampler: str,
        tune_seed: int,
        higher_is_better: bool,
        setup: Mapping[str, Any],
    ) -> None:
        self.storage = storage
        self.name = name
        self.direction = StudyDirection.MAXIMIZE if higher_is_better else StudyDirection.MINIMIZE
        self.paired = PairedSampler(tune_seed, space, defaults)
        self.adaptive = sampler == "tpe"
        self.setup = json.loads(json.dumps(setup))
        self.check()

    def check(self) -> None:
        """Refuse to go on with a search that was another one; writes nothing."""
        if self.name not in optuna.get_all_study_names(self.storage):
            return
        study = optuna.load_study(study_name=self.name, storage=self.storage)
        before = study.user_attrs.get("lossbench", self.setup)
        for key, value in self.setup.items():
            if before.get(key) != value:
                raise InputError(
                    f"{self.name} was tuned with another {key.replace('_', ' ')} "
                    f"({_short(before.get(key))}, now {_short(value)}); choose another study=NAME"
                )

    def open(self) -> None:
        """Make the study, or load it."""
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            direction=self.direction,
            sampler=self.paired,
            load_if_exists=True,
        )
        if "lossbench" not in self.study.user_attrs:
            self.study.set_user_attr("lossbench", self.setup)

    def values(self, number: int) -> dict[str, Any]:
        """What trial ``number`` has for every path: drawn now, or drawn before and kept."""
        while len(self.study.get_trials(deepcopy=False)) <= number:
            self.study.ask()
        stored = self.study.get_trials(deepcopy=False)[number]
        if stored.state.is_finished():
            return dict(stored.params)
        trial = optuna.Trial(self.study, stored._trial_id)
        return {path: self._suggest(trial, path) for path in self.paired.space}

    def _suggest(self, trial: optuna.Trial, path: str) -> Any:
        default = self.paired.defaults[path]
        kind = distribution(self.paired.space[path], default, wide=trial.number == 0)
        # a sampler for each draw: what it gives does not depend on where a process was killed
        self.study.sampler = self.paired
        if self.adaptive and trial.number > 0:
            seed = derive_seed(self.paired.tune_seed, "tune", path, trial.number) % 2**32
            # one value at a time, from trials that have ended: whatever was running when
            self.study.sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=STARTUP, multivariate=False, constant_liar=False
            )
        if isinstance(kind, CategoricalDistribution):
            return trial.suggest_categorical(path, kind.choices)
        if isinstance(kind, IntDistribution):
            return trial.suggest_int(path, kind.low, kind.high, log=kind.log)
        assert isinstance(kind, FloatDistribution)
        return trial.suggest_float(path, kind.low, kind.high, log=kind.log)

    def tell(self, number: int, value: float | None) -> None:
        """Trial ``number`` was worth ``value``; None for one that failed."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        trial = self.study.get_trials(deepcopy=False)[number]
        if not trial.state.is_finished():
            self.study.tell(number, value, state=state)
        elif (trial.state, trial.value) != (state, value):  # a failed one was repeated
            self._replace(number, state, value)

    def _replace(self, number: int, state: TrialState, value: float | None) -> None:
        # what has ended cannot be changed in Optuna: the study is written again
        trials = self.study.get_trials()
        optuna.delete_study(study_name=self.name, storage=self.storage)
        self.open()
        for trial in trials:
            if trial.number == number:
                trial.state, trial.values = state, None if value is None else [value]
            self.study.add_trial(trial)


def distribution(entry: Dimension, default: Any, wide: bool) -> BaseDistribution:
    """The range of ``entry`` for Optuna; where it is ``wide``, the ``default`` lies in it too.

    Optuna wants the same choices, and the same scale, of all trials: a default that is none of
    the choices is one for all, and one without a logarithm makes the scale linear.
    """
    if entry.choices:
        extra = () if default in entry.choices else (default,)
        return CategoricalDistribution((*entry.choices, *extra))
    assert entry.low is not None
    assert entry.high is not None
    ends = (entry.low, entry.high, *([default] if wide else []))
    low, high, log = min(ends), max(ends), entry.log and default > 0
    if entry.integer:
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def database(url: str) -> BaseStorage:
    """The database at ``url``; raises `InputError` if it cannot be opened."""
    _quiet()
    try:
        return RDBStorage(url)
    except Exception as error:  # SQLAlchemy and its drivers raise whatever they like
        reason = " ".join(str(error).split())
        raise InputError(f"storage={url} cannot be opened: {reason}") from error


def journal(file: Path) -> BaseStorage:
    """The journal in ``file``, which the caller alone writes.

    Raises `InputError` if it cannot be read.
    """
    _quiet()
    # absolute, for Optuna's lock is a link to it, and waits forever for one that leads nowhere
    path = file.resolve()
    try:
        mend(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # a line that is damaged raises whatever reading it does
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file} cannot be read: {reason}; remove it, the trials are drawn again as they were"
        ) from error


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")


def mend(journal: Path) -> None:
    """Remove what a process that was killed while it wrote has left: its lock and its line."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    content = journal.read_bytes() if journal.exists() else b""
    lines = content.splitlines(keepends=True)
    while lines and not _whole(lines[-1]):
        lines.pop()
    if (length := sum(map(len, lines))) < len(content):
        os.truncate(journal, length)


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
