"""configs/loss and the catalogue say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lossbench.losses.catalogue import LOSSES

FOLDER = Path(__file__).parents[2] / "configs" / "loss"


def test_every_loss_has_a_config_and_every_config_a_loss() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*LOSSES, "custom"}


@pytest.mark.parametrize("name", LOSSES)
def test_a_config_has_the_parameters_and_defaults_of_the_catalogue(name: str) -> None:
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert config.pop("name") == name
    assert config == {parameter.name: parameter.default for parameter in LOSSES[name].parameters}
