"""What arms and cells are called: all that makes them differ, and nothing else."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("overrides", "arm"),
    [
        ((), "cross_entropy"),
        (("regime=ema",), "cross_entropy, ema(0.999)"),
        (("regime.ema_decay=0.999",), "cross_entropy, ema(0.999)"),
        (("regime=ema", "regime.ema_decay=null"), "cross_entropy"),
        (("regime=tau_norm", "regime.tau=null"), "cross_entropy, tau_norm(tau=null)"),
        (("regime=crt", "regime.ema_decay=0.9"), "cross_entropy, crt(ema_decay=0.9)"),
        (
            ("regime._target_=tests.training.own_regime.Mirrored", "+regime.power=2"),
            "cross_entropy, Mirrored(power=2)",
        ),
    ],
)
def test_an_arm_names_its_regime_by_class_and_parameters(make_run, overrides, arm) -> None:
    assert make_run(*overrides).arm == arm


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ((), "digits | exponential 10 | mlp"),
        (("model=convnet", "model.width=4"), "digits | exponential 10 | convnet(width=4)"),
        (
            ("model=torchvision", "model.architecture=resnet18", "model.weights=DEFAULT"),
            "digits | exponential 10 | torchvision_resnet18(weights=DEFAULT)",
        ),
        (("model=resnet20",), "digits | exponential 10 | resnet20"),
        (("data.batch_size=8",), "digits | exponential 10 | mlp"),
        (
            ("data=emnist", "data.split=letters"),
            "emnist(split=letters) | exponential 10 | mlp",
        ),
        (
            ("label_noise=symmetric", "label_noise.rate=0.4"),
            "digits | exponential 10 | symmetric noise 0.4 | mlp",
        ),
    ],
)
def test_a_cell_names_what_is_not_its_files(make_run, overrides, place) -> None:
    assert make_run(*overrides).cell.rpartition(" | ")[0] == place


def test_equal_identities_have_one_folder(make_run) -> None:
    runs = [make_run("regime=ema"), make_run("regime.ema_decay=0.999")]
    assert runs[0].identity == runs[1].identity
    assert runs[0].folder == runs[1].folder
