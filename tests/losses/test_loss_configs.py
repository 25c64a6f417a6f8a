"""configs/loss and the catalogue say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lossbench.losses.catalogue import LOSSES

FOLDER = Path(__file__).parents[2] / "configs" / "loss"


def test_every_loss_has_a_config_and_every_config_a_loss() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*LOSSES, "custom"}


@pytest.mark.parametrize("name", LOSSES)
def test_a_config_has_the_parameters_and_defaults_of_the_catalogue(name: str) -> None:
    with initialize_config_dir(str(FOLDER.parent)):
        config = dict(compose(overrides=[f"+loss={name}"]).loss)
    assert config.pop("name") == name
    assert config == {parameter.name: parameter.default for parameter in LOSSES[name].parameters}
