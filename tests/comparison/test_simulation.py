"""Simulated studies with known truth: how often a verdict is wrong, and how often one is missed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lossbench.seeding import generator

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_verdicts.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_verdicts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate_verdicts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_hundred_studies(script: ModuleType) -> None:
    # 5 % and two standard errors of 100 studies; without Holm's rule it would be about 20 %
    assert script.simulate(script.NULL[1], 100).false <= 0.094
    shares = script.simulate(script.FOUND, 40)
    assert shares.found >= 0.95


def test_studies_judged_together_are_judged_one_by_one(script: ModuleType) -> None:
    rng = generator(0, "simulated studies", script.FOUND.name, script.FOUND.seeds)
    alone = [
        verdict.word
        for number in range(4)
        for verdict in script.judged(script.FOUND, range(number, number + 1), rng)
    ]
    rng = generator(0, "simulated studies", script.FOUND.name, script.FOUND.seeds)
    together = script.judged(script.FOUND, range(4), rng)
    by_study = sorted(together, key=lambda verdict: verdict.context)
    assert [verdict.word for verdict in by_study] == alone


@pytest.mark.slow
def test_a_thousand_studies_keep_what_the_report_promises(script: ModuleType) -> None:
    for scenario in script.NULL:  # 5 % and two standard errors
        assert script.simulate(scenario, 1000).false <= 0.064, scenario
    shares = script.simulate(script.FOUND, 1000)
    assert shares.found >= 0.95
    assert shares.false <= 0.064  # on the arms that are equal to the baseline
