"""Every file in configs/data and configs/imbalance, composed by Hydra and prepared for a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lossbench.config import digest, identity_of, imbalance_label
from lossbench.data.configured import prepared_data
from lossbench.data.sources import ImageDataset
from lossbench.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS)):
        config = compose(overrides=[f"+{override}" for override in (*overrides, "seed=0")])
    return OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    ("name", "batch_size", "validation_per_class"),
    [("digits", 32, 20), ("fashion_mnist", 128, 500)],
)
def test_the_data_files_load_their_datasets(
    name: str,
    batch_size: int,
    validation_per_class: int,
    real_digits: ImageDataset,
    real_fashion_mnist: ImageDataset,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path))
    config = composed(f"data={name}", "imbalance=none")
    prepared, settings = prepared_data(config)
    assert config["data"]["name"] == name
    assert settings.batch_size == batch_size
    assert prepared.validation is not None
    assert np.bincount(prepared.validation.targets).tolist() == [validation_per_class] * 10
    source = {"digits": real_digits, "fashion_mnist": real_fashion_mnist}[name]
    np.testing.assert_array_equal(prepared.test.inputs, source.test_images)


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("none", (), [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]),
        ("exponential", ("imbalance.factor=10",), [140, 108, 83, 64, 50, 38, 30, 23, 18, 14]),
        ("exponential", (), [140, 83, 50, 30, 18, 10, 6, 3, 2, 1]),  # the default factor is 100
        (
            "exponential",
            ("imbalance.factor=10", "imbalance.n_max=100"),
            [100, 77, 59, 46, 35, 27, 21, 16, 12, 10],
        ),
        ("step", ("imbalance.factor=10",), [140] * 5 + [14] * 5),
        ("step", (), [140] * 5 + [1] * 5),
        ("counts", ("imbalance.counts=[9,8,7,6,5,4,3,2,1,1]",), [9, 8, 7, 6, 5, 4, 3, 2, 1, 1]),
        ("ldam_exponential", (), [140, 83, 50, 30, 18, 10, 6, 3, 2, 1]),
        ("ldam_step", ("imbalance.factor=10",), [140] * 5 + [14] * 5),
        ("ldam_step", ("imbalance.factor=10", "imbalance.n_max=50"), [50] * 5 + [5] * 5),
        # in the random order of seed 0: 4, 8, 1, 6, 9, 5, 7, 2, 3, 0
        ("buda_linear", ("imbalance.factor=14",), [10, 111, 38, 24, 140, 67, 96, 53, 125, 82]),
        ("buda_step", ("imbalance.n_max=100",), [1, 100, 1, 1, 100, 1, 100, 1, 100, 100]),
    ],
)
def test_the_imbalance_files_make_their_profiles(
    name: str, overrides: tuple[str, ...], expected: list[int]
) -> None:
    validation = "data.validation_per_class=0"
    config = composed(
        f"imbalance={name}", "data=digits", f"+{validation}", *(f"+{one}" for one in overrides)
    )
    assert config["imbalance"]["name"] == name
    assert prepared_data(config)[0].class_counts.tolist() == expected


@pytest.mark.parametrize("name", ["exponential", "step", "ldam_exponential", "ldam_step"])
def test_a_head_without_a_cap_is_no_part_of_the_identity(make_run: Callable, name: str) -> None:
    run = make_run(f"imbalance={name}")
    before = {key: value for key, value in run.config["imbalance"].items() if key != "n_max"}
    assert digest(identity_of(run.config | {"imbalance": before})) == run.identity
    capped = make_run(f"imbalance={name}", "imbalance.n_max=100")
    assert capped.identity != run.identity
    assert imbalance_label(run.config) == f"{name} 100"
    assert imbalance_label(capped.config) == f"{name} 100 n_max 100"


def test_every_imbalance_file_is_tried_above() -> None:
    files = {path.stem for path in (CONFIGS / "imbalance").glob("*.yaml")}
    ours = {"none", "exponential", "step", "counts"}
    # gamo asks for more than digits have: tests/cli/test_inspect_command.py
    published = {"ldam_exponential", "ldam_step", "gamo", "gamo_cifar", "buda_linear", "buda_step"}
    assert files == ours | published
    published = {"mnist", "kmnist", "emnist", "svhn", "cifar10", "cifar100"}  # test_published
    own = {"image_folder", "image_list", "table"}  # tests/cli/test_own_data.py
    data = {path.stem for path in (CONFIGS / "data").glob("*.yaml")}
    assert data == {"digits", "fashion_mnist", *published, *own}


def test_orders_and_prior_reach_the_data() -> None:
    def ids(*overrides: str) -> tuple[list[int], list[int]]:
        added = (f"+{one}" for one in ("imbalance.factor=10", *overrides))
        prepared = prepared_data(composed("imbalance=exponential", "data=digits", *added))[0]
        assert prepared.validation is not None
        return prepared.train.ids.tolist(), prepared.validation.ids.tolist()

    train, validation = ids()
    assert ids("imbalance.subset_order=ldam")[0] != train
    assert ids("imbalance.class_order=random")[0] != train
    assert len(ids("data.validation_prior=training")[1]) < len(validation)


def test_counts_must_be_given() -> None:
    with pytest.raises(InputError, match=r"imbalance\.counts=None must be a list of 10 numbers"):
        prepared_data(composed("imbalance=counts", "data=digits"))
