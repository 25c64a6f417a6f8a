"""What Optuna keeps: paired draws, and a search that goes on from wherever it was killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from lossbench.errors import InputError
from lossbench.tuning.space import Dimension, Space
from lossbench.tuning.store import ArmStudy, database, journal

SHARED: Space = {
    "optimizer.lr": Dimension(0.005, 0.5, log=True),
    "optimizer.weight_decay": Dimension(1e-5, 5e-3, log=True),
}
FOCAL: Space = {"loss.gamma": Dimension(0.0, 5.0)} | SHARED
OTHER: Space = SHARED | {
    "loss.p": Dimension(choices=("a", "b")),
    "loss.m": Dimension(1, 4, integer=True),
}
DEFAULTS = {
    "optimizer.lr": 0.05,
    "optimizer.weight_decay": 0.0,  # outside of its logarithmic range
    "loss.gamma": 2.0,
    "loss.p": "c",  # not among the choices
    "loss.m": 2,
}


def study_of(
    storage: BaseStorage, name: str, space: Space, sampler: str = "paired", seed: int = 0
) -> ArmStudy:
    study = ArmStudy(
        storage,
        name,
        space=space,
        defaults={path: DEFAULTS[path] for path in space},
        sampler=sampler,
        tune_seed=seed,
        higher_is_better=True,
        setup={"sampler": sampler, "objective": "val/cls/accuracy"},
    )
    study.open()
    return study


@given(st.integers(0, 5), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_shared_draws_are_equal_and_a_further_parameter_moves_none(seed: int, trials: int) -> None:
    storage = InMemoryStorage()
    drawn = {
        name: [study_of(storage, name, space, seed=seed).values(k) for k in range(trials)]
        for name, space in (("focal", FOCAL), ("shared", SHARED), ("other", OTHER))
    }
    assert drawn["other"][0] == {path: DEFAULTS[path] for path in OTHER}
    for path in SHARED:
        columns = [[values[path] for values in drawn[name]] for name in drawn]
        assert columns[0] == columns[1] == columns[2]
    assert len({values["optimizer.lr"] for values in drawn["shared"]}) == trials


def worth(values: dict[str, Any]) -> float | None:
    """A made-up objective with a failure where the learning rate is large."""
    return None if values["optimizer.lr"] > 0.3 else -abs(values["optimizer.lr"] - 0.02)


def search(storage: BaseStorage, sampler: str, trials: int) -> list[dict[str, Any]]:
    study = study_of(storage, "s/focal", FOCAL, sampler)
    found = []
    for number in range(trials):
        found.append(study.values(number))
        study.tell(number, worth(found[-1]))
    return found


# a database takes Optuna a hundred times as long as a journal: few trials, one kill
@pytest.mark.parametrize(
    ("kind", "sampler", "trials", "kills"),
    [
        # before any trial, between two draws, after the last draw, after it was told
        ("journal", "paired", 12, ((0, 0, False), (7, 1, False), (7, 3, False), (7, 3, True))),
        ("journal", "tpe", 12, ((0, 0, False), (7, 1, False), (7, 3, False), (7, 3, True))),
        ("database", "tpe", 8, ((7, 1, False),)),
    ],
)
def test_a_search_goes_on_from_any_kill(
    kind: str, sampler: str, trials: int, kills: tuple[tuple[int, int, bool], ...], tmp_path: Path
) -> None:
    def storage(name: str) -> BaseStorage:
        place = tmp_path / name
        return journal(place) if kind == "journal" else database(f"sqlite:///{place}")

    whole = search(storage("whole"), sampler, trials)
    for number, draws, told in kills:
        place = f"{number}-{draws}-{told}"
        search(storage(place), sampler, number)
        study = study_of(storage(place), "s/focal", FOCAL, sampler)
        trial = study.study.ask()
        for path in list(FOCAL)[:draws]:
            study._suggest(trial, path)
        if told:
            study.tell(number, worth(study.values(number)))
        assert search(storage(place), sampler, trials) == whole
    kept = optuna.load_study(study_name="s/focal", storage=storage("whole")).get_trials()
    assert [trial.value for trial in kept] == [worth(values) for values in whole]
    assert {trial.state for trial in kept} == {TrialState.COMPLETE, TrialState.FAIL}


def test_tpe_is_adaptive_and_the_paired_sampler_is_not() -> None:
    def after(sampler: str, values: Callable[[int], float]) -> dict[str, Any]:
        study = study_of(InMemoryStorage(), "s/focal", FOCAL, sampler)
        for number in range(12):
            study.values(number)
            study.tell(number, values(number))
        return study.values(12)

    rising, falling = (lambda number: float(number)), (lambda number: -float(number))
    assert after("paired", rising) == after("paired", falling)
    assert after("tpe", rising) != after("tpe", falling)


def test_an_adaptive_search_stays_in_its_space_though_the_default_lies_outside() -> None:
    for values in search(InMemoryStorage(), "tpe", 12)[1:]:
        assert all(FOCAL[path].low <= value <= FOCAL[path].high for path, value in values.items())


def test_a_failed_trial_that_was_repeated_is_told_anew(tmp_path: Path) -> None:
    study = study_of(journal(tmp_path / "log"), "s/focal", FOCAL)
    drawn = [study.values(number) for number in range(3)]
    study.tell(0, 0.5)
    study.tell(1, None)
    study.tell(1, 0.7)  # retry_failed=true; trial 2 is still running
    again = study_of(journal(tmp_path / "log"), "s/focal", FOCAL)
    trials = again.study.get_trials()
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.value for trial in trials] == [0.5, 0.7, None]
    assert [again.values(number) for number in range(3)] == drawn
    again.tell(2, 0.1)
    assert again.study.best_value == 0.7


def test_what_a_killed_writer_left_in_the_journal_does_not_block(tmp_path: Path) -> None:
    file = tmp_path / "log"
    drawn = [study_of(journal(file), "s/focal", FOCAL).values(number) for number in range(2)]
    whole = file.read_bytes()
    (tmp_path / "log.lock").symlink_to(file)  # Optuna would wait half a minute for it
    file.write_bytes(whole + bytes(9) + b'\n{"op_code": 4, "tri')  # and never read past damage
    study = study_of(journal(file), "s/focal", FOCAL)
    assert [study.values(number) for number in range(2)] == drawn
    study.tell(0, 0.5)
    assert file.read_bytes().startswith(whole)
    assert study_of(journal(file), "s/focal", FOCAL).study.get_trials()[0].value == 0.5


def test_another_search_under_the_same_name_is_refused(tmp_path: Path) -> None:
    study_of(journal(tmp_path / "log"), "s/focal", FOCAL)
    before = (tmp_path / "log").read_bytes()
    with pytest.raises(InputError, match=r"^s/focal was tuned with another sampler \(paired, now"):
        study_of(journal(tmp_path / "log"), "s/focal", FOCAL, "tpe")
    assert (tmp_path / "log").read_bytes() == before
    with pytest.raises(InputError, match=r"^storage=nothing cannot be opened"):
        database("nothing")
    (tmp_path / "log").write_bytes(b"no journal\n" + before)
    with pytest.raises(InputError, match="cannot be read"):
        journal(tmp_path / "log")
