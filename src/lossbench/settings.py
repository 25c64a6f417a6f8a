"""What the values of a config may be, and the check that says which one is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lossbench.errors import InputError, unknown
from lossbench.losses import catalogue
from lossbench.parameters import Parameter
from lossbench.targets import check_allow, check_targets

Config = dict[str, Any]

PLUGGABLE = ("data", "imbalance", "model", "loss", "regime", "optimizer", "schedule")

SETTINGS = {
    parameter.name: parameter
    for parameter in (
        Parameter(name="seed", kind="integer", minimum=0),
        Parameter(name="study", kind="text", optional=True),
        Parameter(name="arm", kind="text", optional=True),
        Parameter(name="runs_dir", kind="text"),
        Parameter(name="seeds", kind="integer", minimum=1, maximum=10_000, optional=True),
        Parameter(name="workers", kind="integer", minimum=1, optional=True),
        Parameter(name="runs_per_gpu", kind="integer", minimum=1),
        Parameter(name="test", kind="choice", choices=("sealed",), optional=True),
        Parameter(name="on_error", kind="choice", choices=("continue", "stop")),
        Parameter(name="retry_failed", kind="boolean"),
        Parameter(name="rerun", kind="boolean"),
        Parameter(name="baseline", kind="text"),
        Parameter(name="metric", kind="text", optional=True),
        Parameter(name="margin", minimum=0, open_minimum=True, optional=True),
        Parameter(name="loss_scale", kind="choice", choices=("none", "match_ce")),
        Parameter(name="sample_history", kind="boolean", optional=True),
        Parameter(name="data.batch_size", kind="integer", minimum=1),
        Parameter(name="data.validation_per_class", kind="integer", minimum=0),
        Parameter(name="data.validation_prior", kind="choice", choices=("balanced", "training")),
        Parameter(name="data.archive", kind="text", optional=True),
        Parameter(name="data.workers", kind="integer", minimum=0, optional=True),
        Parameter(name="data.cache_mb", kind="integer", minimum=1, optional=True),
        Parameter(name="data.augmentation.crop_padding", kind="integer", minimum=0),
        Parameter(name="data.augmentation.flip", kind="boolean"),
        Parameter(name="imbalance.factor", minimum=1),
        Parameter(name="imbalance.counts", kind="integers", minimum=1),
        Parameter(name="imbalance.class_order", kind="choice", choices=("given", "random")),
        Parameter(name="imbalance.subset_order", kind="choice", choices=("seeded", "ldam")),
        Parameter(
            name="imbalance.minority_fraction",
            minimum=0,
            maximum=1,
            open_minimum=True,
            open_maximum=True,
        ),
        Parameter(name="imbalance.n_max", kind="integer", minimum=1, optional=True),
        Parameter(name="label_noise.rate", minimum=0, maximum=1, open_maximum=True),
        Parameter(name="model.head", kind="choice", choices=("linear", "cosine")),
        Parameter(name="regime.ema_decay", minimum=0, maximum=1, open_maximum=True, optional=True),
        Parameter(name="regime.start", minimum=0, maximum=1, open_minimum=True, open_maximum=True),
        Parameter(name="regime.beta", minimum=0, maximum=1, open_maximum=True),
        Parameter(
            name="regime.sampling",
            kind="choice",
            choices=("class_balanced", "square_root", "progressive"),
        ),
        Parameter(name="regime.tau", minimum=0, optional=True),
        Parameter(name="regime.alpha", minimum=0, open_minimum=True),
        Parameter(name="regime.kappa", minimum=1),
        Parameter(name="optimizer.lr", minimum=0, open_minimum=True),
        Parameter(name="optimizer.momentum", minimum=0, maximum=1, open_maximum=True),
        Parameter(name="optimizer.weight_decay", minimum=0),
        Parameter(name="schedule.warmup_epochs", kind="integer", minimum=0),
        Parameter(name="schedule.milestones", kind="numbers", minimum=0, maximum=1),
        Parameter(name="schedule.factor", minimum=0),
        Parameter(name="trainer.accelerator", kind="choice", choices=("cpu", "gpu", "auto")),
        Parameter(
            name="trainer.precision",
            kind="choice",
            choices=("32-true", "16-mixed", "bf16-mixed", "64-true"),
        ),
        Parameter(name="trainer.max_epochs", kind="integer", minimum=1),
        Parameter(name="trainer.threads", kind="integer", minimum=1),
        Parameter(name="trainer.devices", kind="integer", minimum=1),
    )
}

POSTHOC = (
    *("temperature", "vector", "logit_adjustment", "logit_adjustment_tuned"),
    *("tau_normalization", "thresholds"),
)  # what evaluation.posthoc does to a run's outputs after training


def check(config: Config) -> None:
    """Check what the config alone can tell; raises `InputError` (one line) if a value is wrong."""
    check_values(config)
    check_targets(config)


def check_values(config: Config) -> None:
    """`check`, but for the code that ``config`` names: of a config that is only read."""
    known = {name.partition(".")[0] for name in SETTINGS} | {
        *("arms", "posthoc", "zip", "exclude", "allow"),
        *PLUGGABLE,
    }
    for key in config:
        if key not in known:
            raise unknown("config key", key, known)
    for path, value in leaves(config):
        parameter = SETTINGS.get(path)
        if parameter is not None:
            parameter.check(value, path)
    check_study(config["study"])
    for part in PLUGGABLE:
        if not isinstance(config.get(part), dict) or not {"name", "_target_"} & set(config[part]):
            raise InputError(f"the {part} config has neither a name nor a _target_")
    if config.get("label_noise") is not None and "_target_" not in config["label_noise"]:
        raise InputError("the label_noise config has no _target_; choose label_noise=symmetric")
    check_allow(config.get("allow"))
    check_loss(config)
    check_posthoc(config.get("posthoc"))
    devices, batch = config["trainer"]["devices"], config["data"]["batch_size"]
    if devices > batch:
        raise InputError(
            f"trainer.devices={devices} is not allowed with data.batch_size={batch}: they share "
            "each batch; use fewer"
        )


def check_study(study: str | None) -> None:
    """Check that ``study`` is null or can be the name of a folder; raises `InputError`."""
    named = study is None or re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", study)
    if not named or study in (".", ".."):
        raise InputError(
            f"study={study!r} is not allowed: a folder's name of 1 to 100 characters, without /"
        )


def check_posthoc(methods: Any) -> None:
    """Check that ``methods`` is null or a list of post-hoc methods; raises `InputError`."""
    if methods is not None and not isinstance(methods, list):
        raise InputError(
            f"posthoc={methods} is not allowed: null or a list, as in posthoc=[{POSTHOC[0]}]"
        )
    for method in methods or ():
        if method not in POSTHOC:
            raise unknown("posthoc", method, POSTHOC)


def check_loss(config: Config) -> None:
    """Check the loss, its parameters and its head against the catalogue; a foreign one passes.

    A cosine head returns bare cosines, which a loss without a scale cannot separate; there,
    norm_softmax is cross-entropy with a scale, the control of the losses that need such a head.
    """
    loss = config["loss"]
    if "_target_" in loss:
        return
    parameters = {key: value for key, value in loss.items() if key != "name"}
    catalogue.check_parameters(loss["name"], parameters)
    heads, head = catalogue.facts(loss["name"]).heads, config["model"]["head"]
    if heads not in ("any", head):
        hint = ", or compare on it with loss=norm_softmax" if head == "cosine" else ""
        raise InputError(
            f"model.head={head} is not allowed for loss={loss['name']}: it needs a {heads} head; "
            f"add model.head={heads}{hint}; to sweep losses with different heads name arms (README)"
        )


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of ``config`` with its dotted path; lists are values."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value
