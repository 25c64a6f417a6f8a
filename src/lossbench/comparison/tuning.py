"""How the arms of a study were tuned: ``<study>/tuning/tuning.json``, of `lossbench tune`.

Read for the comparison, never run: the trials lie two levels below the study, so they are no runs
of its tables. Whatever is wrong with the file is said in one line, and the comparison goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Any

from lossbench.comparison import formats, metrics
from lossbench.comparison.columns import Columns, append, plain
from lossbench.comparison.posthoc import split_baseline
from lossbench.records.study import TRIALS

FILE = Path(TRIALS, "tuning.json")
SCHEMA = 1
TUNED = " (tuned)"
"""Behind the name of an arm with the parameters that tuning chose."""

PAIRED = "paired"
"""The sampler that draws what losses share alike for all, and every trial by itself."""

AS_RUN, OVER_ORDERS = "as run", "mean over orders"
"""The two views of a budget curve."""


@dataclass(frozen=True)
class Trial:
    """One trial: its ``number`` (0: the defaults), and the mean ``value`` or None if it failed.

    ``folders`` are the names of its runs in ``<study>/tuning``.
    """

    number: int
    parameters: dict[str, Any]
    value: float | None
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Tuned:
    """One tuned arm: what was searched, its trials by number, and the one that was chosen."""

    default_arm: str
    tuned_arm: str
    space: dict[str, Any]
    trials: tuple[Trial, ...]
    chosen: Trial | None

    @property
    def failed(self) -> int:
        """How many trials failed."""
        return sum(trial.value is None for trial in self.trials)


@dataclass(frozen=True)
class Tuning:
    """What `tuning.json` says; without ``arms`` nothing was tuned, or ``problem`` says why not."""

    arms: dict[str, Tuned] = field(default_factory=dict)
    objective: str = ""
    oracle: bool = False
    higher_is_better: bool = True
    sampler: str = PAIRED
    trial_seeds: tuple[int, ...] = ()
    problem: str = ""

    @property
    def where(self) -> str:
        """The split on which trials were judged, in words."""
        return "balanced validation (oracle)" if self.oracle else "validation (training prior)"

    @property
    def words(self) -> str:
        """The objective in words: ``balanced accuracy on balanced validation (oracle)``."""
        name = metrics.facts(self.objective).name if self.objective else "objective"
        return f"{name} on {self.where}"

    def budgets(self, arm: str) -> set[int]:
        """The numbers of trials that ``arm`` may be said to have had; {0}: it was not tuned.

        Defaults that won are both: an untuned arm, and the best of all trials.
        """
        plain_arm, _ = split_baseline(arm)
        roles = {t.default_arm: 0 for t in self.arms.values() if t.default_arm == plain_arm}
        found = set(roles.values())
        found |= {len(t.trials) for t in self.arms.values() if t.tuned_arm == plain_arm}
        return found or {0}

    def named(self, arm: str) -> str:
        """``arm``, or where it is the tuned form of one whose defaults won, that one."""
        base = arm.removesuffix(TUNED)
        own = self.arms.get(base)
        return own.tuned_arm if own and arm == f"{base}{TUNED}" else arm

    def tuned_by(self, arm: str) -> Tuned | None:
        """The entry of which ``arm`` is the default or the tuned form."""
        found = (t for t in self.arms.values() if arm in (t.default_arm, t.tuned_arm))
        return next(found, None)


def read_tuning(study: Path) -> Tuning:
    """The tuning of ``study``; an empty one if there was none, or if its file cannot be read."""
    path = study / FILE
    try:
        return _tuning(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return Tuning()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        told = formats.one_line(f"{path} cannot be read ({reason}): the tuning is not shown")
        return Tuning(problem=told)


def _tuning(content: Mapping[str, Any]) -> Tuning:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']!r}; this lossbench reads {SCHEMA}")
    objective = str(content["objective"])
    metrics.facts(objective)
    return Tuning(
        arms={str(arm): _tuned(entry) for arm, entry in content["arms"].items()},
        objective=objective,
        oracle=content["validation_prior"] == "balanced",
        higher_is_better=bool(content["higher_is_better"]),
        sampler=str(content["sampler"]),
        trial_seeds=tuple(int(seed) for seed in content["trial_seeds"]),
    )


def _tuned(entry: Mapping[str, Any]) -> Tuned:
    trials = {trial.number: trial for trial in map(_trial, entry["trials"])}
    chosen = entry["chosen"]
    return Tuned(
        default_arm=str(entry["default_arm"]),
        tuned_arm=str(entry["tuned_arm"]),
        space=dict(entry["space"]),
        trials=tuple(trials[number] for number in sorted(trials)),
        chosen=None if chosen is None else trials[int(chosen["number"])],
    )


def _trial(entry: Mapping[str, Any]) -> Trial:
    value = entry["value"]
    known = value is not None and math.isfinite(value)
    return Trial(
        number=int(entry["number"]),
        parameters=dict(entry["parameters"]),
        value=float(value) if known else None,
        folders=tuple(str(name) for name in entry["folders"]),
    )


def budget_curve(tuning: Tuning, places: Mapping[str, int]) -> Columns:
    """The columns of the figure ``budget``, a row per arm, view and trial.

    ``places`` are the numbers under which the arms of ``tuning.arms`` are drawn; others are left
    out. ``value`` is the trial's own, None if it failed; ``best`` the best so far; ``mark`` is
    ``chosen``, ``failed`` or "". Over orders a trial has neither a value nor a mark. Trial 0 has
    the defaults.
    """
    columns: Columns = {}
    for name, entry in tuning.arms.items():
        if name not in places or not entry.trials:
            continue
        values = [math.nan if t.value is None else t.value for t in entry.trials]
        sign = 1 if tuning.higher_is_better else -1
        signed = [sign * value for value in values]
        views = {AS_RUN: best_so_far(signed)}
        if tuning.sampler == PAIRED:  # an adaptive sampler's trials have one order only
            views[OVER_ORDERS] = expected_best(signed)
        for view, best in views.items():
            ends = plain(sign * value for value in best)
            for trial, value, reached in zip(entry.trials, plain(values), ends, strict=True):
                own = (value, _mark(trial, entry)) if view == AS_RUN else (None, "")
                row = {"arm": places[name], "view": view, "trial": trial.number, "best": reached}
                append(columns, **row, value=own[0], mark=own[1])
    return columns


def _mark(trial: Trial, entry: Tuned) -> str:
    if trial is entry.chosen:
        return "chosen"
    return "failed" if trial.value is None else ""


def best_so_far(values: Sequence[float]) -> list[float]:
    """The largest of ``values`` up to each; NaN is a failed trial, and what stands before any."""
    found, best = [], math.nan
    for value in values:
        best = value if math.isnan(best) else max(best, value)  # NaN is not larger
        found.append(best)
    return found


def expected_best(values: Sequence[float]) -> list[float]:
    """`best_so_far`, averaged over all orders of the trials after the first: the defaults stay.

    Random trials could have come in any order. Over all subsets of k of n, the value of rank i is
    the largest in C(i - 1, k - 1) of C(n, k). So the last is the best of all, and each is an
    unbiased estimate of what k random trials reach (Tang et al., ACL 2020); the estimate of Dodge
    et al. (EMNLP 2019), who brought in the curve, draws with replacement and is too low. A failed
    trial (NaN) improves nothing; where the defaults failed too, the mean is undefined (NaN) as long
    as all of k could have.
    """
    first, *drawn = values
    known = [value for value in drawn if not math.isnan(value)]
    if not math.isnan(first):
        known = [max(value, first) for value in known]
    ordered = [first] * (len(drawn) - len(known)) + sorted(known)
    found, n = [first], len(drawn)
    for k in range(1, n + 1):
        counts = [comb(below, k - 1) for below in range(n)]
        shares = ((count / comb(n, k), value) for count, value in zip(counts, ordered, strict=True))
        found.append(math.fsum(share * value for share, value in shares if share))
    return found
