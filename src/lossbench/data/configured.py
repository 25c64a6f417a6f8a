"""The data of a run, from its config; no torch, so that checks and `inspect` answer at once."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

from lossbench import targets
from lossbench.data.imbalance import ImbalanceSettings, shortfall
from lossbench.data.label_noise import Noise
from lossbench.data.preparation import Augmentation, DataSettings, PreparedData, prepare
from lossbench.data.selection import Dataset
from lossbench.data.sources import ImageDataset
from lossbench.errors import InputError

DATA_KEYS = (
    *("batch_size", "validation_per_class", "validation_prior", "augmentation"),
    *("workers", "cache_mb"),
)
IMBALANCE_KEYS = ("class_order", "subset_order")


def prepared_data(config: dict[str, Any]) -> tuple[PreparedData, DataSettings]:
    """The dataset of ``config["data"]``, split, made imbalanced and noisy for ``config["seed"]``.

    Raises `InputError` if the data is missing or damaged, or a class has too few images.
    """
    data, imbalance = config["data"], config["imbalance"]
    arguments = targets.arguments_of(data, *DATA_KEYS)
    allow = tuple(config.get("allow") or ())
    dataset = load_dataset(data["_target_"], json.dumps(arguments, sort_keys=True), allow)
    settings = DataSettings(
        data["batch_size"],
        data["validation_per_class"],
        data["validation_prior"],
        Augmentation(**(data.get("augmentation") or {})),
        data.get("workers"),
        data.get("cache_mb"),
    )
    profile = targets.find(imbalance["_target_"], "imbalance", allow)
    parameters = targets.arguments_of(imbalance, *IMBALANCE_KEYS)
    targets.bind(profile, "imbalance", parameters, "available")
    chosen = ImbalanceSettings(
        lambda available: profile(available, **parameters),
        imbalance["class_order"],
        imbalance["subset_order"],
    )
    noise = chosen_noise(config.get("label_noise"), allow)
    return prepare(dataset, settings, chosen, config["seed"], noise), settings


def chosen_noise(config: dict[str, Any] | None, allow: tuple[str, ...]) -> Noise | None:
    """The label noise of ``config["label_noise"]``; None where there is none."""
    if config is None:
        return None
    found = targets.find(config["_target_"], "label_noise", allow)
    parameters = targets.arguments_of(config)
    targets.bind(found, "label_noise", parameters, "class_names")
    return partial(targets.call, found, "label_noise", **parameters)


def notes(config: dict[str, Any], prepared: PreparedData) -> list[str]:
    """Where the data of ``config`` are not what was asked for, in sentences; mostly none."""
    said = shortfall(config["imbalance"].get("factor"), prepared.image_counts)
    return [] if said is None else [said]


@cache
def load_dataset(
    target: str, arguments: str, allow: tuple[str, ...] = ()
) -> Dataset | ImageDataset:
    """The dataset; a worker process reads it once for all its runs."""
    found = targets.find(target, "data", allow)
    made = targets.call(found, "data", **targets.bind(found, "data", json.loads(arguments)))
    if not isinstance(made, ImageDataset) and not hasattr(made, "select"):
        raise InputError(
            f"data: {target} returned a {type(made).__name__}; it must return a "
            "lossbench.data.sources.ImageDataset"
        )
    return made
