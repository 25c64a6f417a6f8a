"""Every file in configs/data and configs/imbalance, composed by Hydra and used."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from lossbench.data.imbalance import ImbalanceSettings
from lossbench.data.preparation import Augmentation, DataSettings, prepare
from lossbench.data.sources import ImageDataset

CONFIGS = Path(__file__).parents[2] / "configs"
FRAMEWORK = {field.name for field in fields(DataSettings)} | {"name"}
ORDERS = {"name", "class_order", "subset_order"}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS)):
        return compose(overrides=[f"+{override}" for override in overrides])


def without(config: DictConfig, keys: set[str]) -> dict[str, object]:
    return {key: value for key, value in config.items() if key not in keys}


def call(config: dict[str, object]) -> object:
    return instantiate(config, _execution_whitelist_=[config["_target_"]])


def settings_from(config: DictConfig) -> DataSettings:
    chosen = {key: config[key] for key in FRAMEWORK - {"name", "augmentation"}}
    return DataSettings(**chosen, augmentation=Augmentation(**config.augmentation))


def imbalance_from(config: DictConfig) -> ImbalanceSettings:
    profile = call({**without(config, ORDERS), "_partial_": True})
    return ImbalanceSettings(profile, config.class_order, config.subset_order)


def test_the_data_files_load_their_datasets_and_have_their_own_names(
    real_fashion_mnist: ImageDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path))
    defaults = {"digits": (32, 20), "fashion_mnist": (128, 500)}
    assert {path.stem for path in (CONFIGS / "data").glob("*.yaml")} == set(defaults)
    for name, (batch_size, validation_per_class) in defaults.items():
        config = composed(f"data={name}").data
        settings = settings_from(config)
        assert config.name == name
        assert (settings.batch_size, settings.validation_per_class) == (
            batch_size,
            validation_per_class,
        )
        dataset = call(without(config, FRAMEWORK))
        prepared = prepare(dataset, settings, ImbalanceSettings(), 0)
        assert prepared.validation is not None
    np.testing.assert_array_equal(dataset.test_images, real_fashion_mnist.test_images)


@pytest.mark.parametrize(
    ("override", "extra", "expected"),
    [
        ("none", (), [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]),
        ("exponential", ("imbalance.factor=10",), [140, 108, 83, 64, 50, 38, 30, 23, 18, 14]),
        ("step", ("imbalance.factor=10",), [140] * 5 + [14] * 5),
        ("counts", ("imbalance.counts=[9,8,7,6,5,4,3,2,1,1]",), [9, 8, 7, 6, 5, 4, 3, 2, 1, 1]),
    ],
)
def test_the_imbalance_files_make_their_profiles(
    real_digits: ImageDataset, override: str, extra: tuple[str, ...], expected: list[int]
) -> None:
    config = composed(f"imbalance={override}", *(f"+{one}" for one in extra)).imbalance
    assert config.name == override
    prepared = prepare(real_digits, DataSettings(32, 0), imbalance_from(config), 0)
    assert prepared.class_counts.tolist() == expected


def test_profiles_take_a_factor_of_one_hundred_by_default() -> None:
    files = {path.stem for path in (CONFIGS / "imbalance").glob("*.yaml")}
    assert files == {"none", "exponential", "step", "counts"}
    for name in ("exponential", "step"):
        assert composed(f"imbalance={name}").imbalance.factor == 100
    assert set(composed("imbalance=none").imbalance) == ORDERS | {"_target_"}
