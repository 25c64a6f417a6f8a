"""Simulated studies with known truth: how often a verdict is wrong, and how often one is missed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.verdict import BETTER, WORSE
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


def textbook(script: ModuleType, scenario: Any, studies: int) -> np.ndarray:
    """(studies, arms) 1, -1, 0 for better, worse and neither, by scipy's test and Holm's steps."""
    rng = generator(0, "simulated studies", scenario.name, scenario.seeds)
    values = np.stack([script.drawn(scenario, rng) for _ in range(studies)])
    test = stats.ttest_rel(values[:, 1:], values[:, :1], axis=2)
    order = np.argsort(test.pvalue, axis=1)
    levels = 0.05 / np.arange(script.ARMS, 0, -1)
    going_on = np.logical_and.accumulate(np.take_along_axis(test.pvalue, order, 1) < levels, axis=1)
    decided = np.zeros(order.shape, dtype=int)
    np.put_along_axis(decided, order, going_on, axis=1)
    return decided * np.sign(test.statistic).astype(int)


def test_a_thousand_studies_by_the_textbook(script: ModuleType) -> None:
    for scenario in script.NULL:  # 5 % and two standard errors of 1,000 studies
        assert textbook(script, scenario, 1000).any(axis=1).mean() <= 0.064, scenario
    decided = textbook(script, script.FOUND, 1000)
    assert (decided[:, 0] == 1).mean() >= 0.95
    assert decided[:, 1:].any(axis=1).mean() <= 0.064


@pytest.mark.parametrize("name", ["NULL", "FOUND"])
def test_the_verdicts_are_those_of_the_textbook(script: ModuleType, name: str) -> None:
    scenario = script.FOUND if name == "FOUND" else script.NULL[1]
    studies = 40
    expected = textbook(script, scenario, studies)
    rng = generator(0, "simulated studies", scenario.name, scenario.seeds)
    together = script.judged(scenario, range(studies), rng)
    words = {BETTER: 1, WORSE: -1}
    found = {(verdict.context, verdict.label): words.get(verdict.word, 0) for verdict in together}
    for number, row in enumerate(expected):
        for place, decision in enumerate(row, start=1):
            assert found[f"study {number}", f"arm {place}"] == decision
    assert expected.any()


@pytest.mark.slow
def test_a_thousand_studies_by_what_the_report_says(script: ModuleType) -> None:
    for scenario in script.NULL:
        assert script.simulate(scenario, 1000).false <= 0.064, scenario
    shares = script.simulate(script.FOUND, 1000)
    assert shares.found >= 0.95
    assert shares.false <= 0.064  # on the arms that are equal to the baseline
