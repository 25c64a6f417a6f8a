"""Where configs live, which run a config describes, and what it is called."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import InputError
from lossbench.losses import catalogue
from lossbench.settings import Config, check
from lossbench.targets import call, find, source_digest

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What is not meant to change a result (DESIGN.md, Identity); all else is part of it.
NOT_IDENTITY = (
    *("study", "arm", "arms", "runs_dir", "workers", "runs_per_gpu", "baseline"),
    *("seeds", "zip", "exclude", "test", "allow"),
    *("on_error", "retry_failed", "rerun", "posthoc", "metric", "margin"),
    *("data.workers", "data.cache_mb"),
    *("data.archive", "data.root", "trainer.accelerator", "trainer.threads", "trainer.devices"),
    "regime.name",  # its class and parameters say it all
)

# Keys of the data that say how, not what: no part of a cell's label.
LOADING = (
    *("archive", "root", "checksums", "workers", "cache_mb"),
    *("batch_size", "validation_per_class", "validation_prior", "augmentation"),
)

# Values that are as good as null: no part of an identity either.
NEUTRAL = {
    "loss_scale": "none",
    "sample_history": False,
    "regime._target_": "lossbench.training.regimes.Plain",
}


def folder(name: str) -> Path:
    """The folder ``configs`` or ``experiments``: inside an installed wheel, else the checkout's."""
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


def experiments(own: Path | None = None) -> dict[str, Config]:
    """The named studies: NAME.yaml in experiments/, and in ``own``/experiments if given."""
    import yaml
    from omegaconf import OmegaConf

    found = {}
    for place in (folder("experiments"), *([own / "experiments"] if own else [])):
        for path in sorted(place.glob("*.yaml")):
            try:
                content = OmegaConf.to_container(OmegaConf.load(path))
            except yaml.YAMLError as error:
                raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
            if not isinstance(content, dict):
                raise InputError(f"{path} must map keys to values, like the files in configs/")
            check_hydra(content.get("hydra"), path)
            found[path.stem] = {"study": path.stem} | {str(k): v for k, v in content.items()}
    return found


def check_hydra(own: Any, path: Path) -> None:
    """Refuse an experiment that says more of Hydra than what is swept: a launcher runs commands."""
    sweeper = own.get("sweeper") if isinstance(own, dict) and len(own) == 1 else None
    if own is not None and not (isinstance(sweeper, dict) and set(sweeper) == {"params"}):
        raise InputError(
            f"{path}: of hydra an experiment may say sweeper.params alone; give hydra.launcher "
            "values on the command line, or in a launcher of your own (docs/scale_out.md)"
        )


def register_experiments(own: Path | None = None) -> None:
    """Make every named study a choice of Hydra's group `experiment`, at the top of the config."""
    from hydra.core.config_store import ConfigStore

    for name, content in experiments(own).items():
        ConfigStore.instance().store(
            group="experiment",
            name=name,
            node=content,
            package="_global_",
            provider="lossbench",
            replace=True,
        )


def resolve(config: DictConfig) -> Config:
    """The composed ``config`` as plain values, checked; `hydra` is left out.

    Raises `InputError` for the first value that is not allowed.
    """
    resolved = plain(config)
    check(resolved)
    return resolved


def plain(config: DictConfig) -> Config:
    """The composed ``config`` as plain values, not yet checked; `hydra` is left out.

    Raises `InputError` for a value that is missing or cannot be resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        values = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} must be given, as in {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@dataclass(frozen=True)
class Run:
    """One run: its resolved config, and what follows from it."""

    config: Config

    @property
    def study(self) -> str:
        """The name under which the results are kept."""
        return self.config["study"] or "default"

    @property
    def seed(self) -> int:
        """The seed from which every named draw follows."""
        return self.config["seed"]

    @property
    def sealed(self) -> bool:
        """Whether test outputs are only stored, until `lossbench unseal`."""
        return self.config.get("test") == "sealed"

    @property
    def loss(self) -> str:
        """The catalogue's key, or the name of a foreign loss."""
        loss = self.config["loss"]
        return loss.get("name") or loss["_target_"].rpartition(".")[2]

    @property
    def model(self) -> str:
        """The name of the backbone."""
        return name_of(self.config["model"])

    @property
    def arm(self) -> str:
        """The label of what is compared: given, or the loss with what is not its default."""
        return self.config["arm"] or arm_label(self.config)

    @property
    def cell(self) -> str:
        """The label of where it is compared: data, imbalance, backbone, epochs."""
        return cell_label(self.config)

    @cached_property
    def identity(self) -> str:
        """The hash of everything that is meant to change the result (64 hex digits)."""
        return digest(identity_of(self.config))

    @cached_property
    def configuration(self) -> str:
        """The hash of everything but the seed: equal for the repetitions of one configuration."""
        config = identity_of(self.config)
        del config["seed"]
        return digest(config)

    @property
    def folder(self) -> Path:
        """`<runs_dir>/<study>/<readable-slug>-<hash>`."""
        label = arm_label(self.config)  # not the given arm: a name is no part of the identity
        where = (name_of(self.config["data"]), imbalance_label(self.config))
        parts = (*where, *noise_label(self.config), self.model, label, f"s{self.seed}")
        slug = re.sub(r"[^A-Za-z0-9_.=+-]+", "-", "-".join(parts))
        return Path(self.config["runs_dir"]) / self.study / f"{slug[:100]}-{self.identity[:12]}"


def name_of(group: Config) -> str:
    """The name of a chosen part: its own, or that of its target."""
    return group.get("name") or str(group.get("_target_", "?")).rpartition(".")[2]


def arm_label(config: Config) -> str:
    """The loss, its parameters that are not the catalogue's defaults, a cosine head, the scale."""
    loss = config["loss"]
    name = loss.get("name") or loss["_target_"].rpartition(".")[2]
    defaults = (
        {} if "_target_" in loss else {p.name: p.default for p in catalogue.facts(name).parameters}
    )
    changed = {
        key: value
        for key, value in loss.items()
        if key not in ("name", "_target_") and value is not None and value != defaults.get(key)
    }
    inside = ", ".join(f"{key}={value}" for key, value in changed.items())
    words = [f"{name}({inside})" if inside else name]
    words += [f"{config['model']['head']} head"] if config["model"]["head"] != "linear" else []
    words += regime_words(config.get("regime") or {})
    words += ["matched scale"] if config["loss_scale"] == "match_ce" else []
    return ", ".join(words)


def regime_words(regime: Config) -> list[str]:
    """The regime with what its file says otherwise; nothing for plain training.

    All follows from what is part of the identity: the class and its parameters, not the name.
    """
    if not regime:
        return []
    file = own_file("regime", regime.get("_target_", ""))
    name = file.stem if file else name_of(regime | {"name": None})
    words = name + changes(regime, file)
    return [] if words == "plain" else [words.replace("plain(ema_decay=", "ema(")]


def model_label(config: Config) -> str:
    """The backbone with what its file says otherwise, such as ``convnet(width=4)``."""
    model = config["model"]
    file = own_file("model", model.get("_target_", ""), model.get("name"))
    return name_of(model) + (changes(model, file, "head") if file else "")


def data_label(config: Config) -> str:
    """The dataset with what its source is told otherwise: ``emnist(split=letters)``.

    Data of one's own is called by its place too: ``table creditcard``.
    """
    data = config["data"]
    file = own_file("data", data.get("_target_", ""), data.get("name"))
    if file is None:
        return name_of(data)
    place = f" {Path(data['archive']).stem}" if shipped(file).get("archive") == "???" else ""
    return name_of(data) + place + changes(data, file, *LOADING)


@cache
def own_file(group: str, target: str, name: str | None = None) -> Path | None:
    """The file in configs/``group`` called ``name``, or else the one that brings in ``target``."""
    files = sorted((folder("configs") / group).glob("*.yaml"))
    same = [file for file in files if shipped(file).get("_target_") == target]
    named = [file for file in same if file.stem == name]
    first = [file for file in same if "_target_" in written(file)]
    return next(iter(named or first), None)


def changes(chosen: Config, file: Path | None, *silent: str) -> str:
    """The keys that ``file`` has not so, in brackets; of a part without a file all keys.

    A value that is in the part's name is not said again.
    """
    defaults = shipped(file) if file else {}
    name = name_of(chosen)
    changed = {
        key: "null" if value is None else value
        for key, value in chosen.items()
        if key not in ("name", "_target_", *silent)
        and value != defaults.get(key)
        and (not file or f"_{value}" not in name)
    }
    return f"({', '.join(f'{key}={value}' for key, value in changed.items())})" if changed else ""


@cache
def written(file: Path) -> Config:
    """What stands in a file of our configs."""
    import yaml

    content: Config = yaml.safe_load(file.read_text())
    return content


@cache
def shipped(file: Path) -> Config:
    """The values that a file of our configs gives, those of the files it inherits from included."""
    content = dict(written(file))
    values: Config = {}
    for parent in content.pop("defaults", []):
        if parent != "_self_":
            values |= shipped(file.with_name(f"{parent}.yaml"))
    return values | content


def imbalance_label(config: Config) -> str:
    """The profile with its factor or counts, such as ``exponential 100``."""
    imbalance = config["imbalance"]
    words = [name_of(imbalance)]
    if "factor" in imbalance:
        words.append(f"{imbalance['factor']:g}")
    if "minority_fraction" in imbalance:
        words.append(f"minority {imbalance['minority_fraction']:g}")
    if imbalance.get("n_max") is not None:
        words.append(f"n_max {imbalance['n_max']}")
    if "counts" in imbalance:
        words.append("-".join(map(str, imbalance["counts"])))
    if imbalance.get("class_order") == "random":
        words.append("random order")
    return " ".join(words)


def noise_label(config: Config) -> list[str]:
    """The label noise with its rate, such as ``symmetric noise 0.2``; nothing if there is none."""
    noise = config.get("label_noise")
    return [f"{name_of(noise)} noise {noise.get('rate', '')}".rstrip()] if noise else []


def cell_label(config: Config) -> str:
    """`data | imbalance | backbone | epochs`, the place of a comparison."""
    epochs = config["trainer"]["max_epochs"]
    return " | ".join(
        (
            data_label(config),
            imbalance_label(config),
            *noise_label(config),
            model_label(config),
            f"{epochs} epoch{'s' * (epochs != 1)}",
        )
    )


def identity_of(config: Config) -> Config:
    """``config`` without what is not meant to change a result and without nulls.

    A foreign target is accompanied by a hash of its source. Data locations are dropped: the
    checksums that the content must have are part of the data config and stay.
    """

    allow = config.get("allow")

    def prune(group: Config, prefix: str) -> Config:
        kept: Config = {}
        for key, value in group.items():
            path = f"{prefix}{key}"
            if value is None or path in NOT_IDENTITY or NEUTRAL.get(path) == value:
                continue
            inner = prune(value, f"{path}.") if isinstance(value, dict) else value
            if inner != {} or value == {}:  # a group of which nothing is left says nothing
                kept[key] = inner
        if isinstance(group.get("_target_"), str):
            source = source_digest(group["_target_"], prefix.rstrip("."), allow)
            kept |= {"_source_": source} if source else {}
        if prefix == "data." and group.get("archive") and not group.get("checksums"):
            kept |= _content_of(group, allow)
        return kept

    return prune(config, "")


def _content_of(data: Config, allow: list[str] | None) -> Config:
    """What stands for the locations in the group ``data``: the content of what is read there.

    A source whose function has the attribute ``content_digests`` says it itself, by key.
    """
    source = find(data["_target_"], "data", allow)
    if (digests := getattr(source, "content_digests", None)) is not None:
        return dict(call(digests, "data", **data))
    if not isinstance(data["archive"], str):
        return {"archive": data["archive"]}  # of a foreign source, and no location
    archive = Path(data["archive"]).expanduser()
    read = content if archive.is_file() else names_and_sizes
    kept: Config = {"_content_": read(archive)}
    folder = archive.parent if archive.is_file() else archive
    for part in ("train", "test"):
        name = data.get(part)
        if isinstance(name, str) and (place := folder / Path(name).expanduser()).is_file():
            kept[part] = content(place)
    return kept


@cache
def content(file: Path) -> str:
    """SHA-256 of a file, which is read once in a process."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@cache
def names_and_sizes(place: Path) -> str:
    """A hash of the names and sizes of the files below ``place``, for data without checksums.

    The folder is walked once in a process, for a sweep asks for every run.
    """
    listed = [
        [str(file.relative_to(place)), file.stat().st_size]
        for file in sorted(place.rglob("*"))
        if file.is_file()
    ]
    return digest({"files": listed})


def digest(config: Config) -> str:
    """SHA-256 of ``config`` as canonical JSON, in which 2 and 2.0 are the same number."""

    def canonical(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): canonical(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [canonical(entry) for entry in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
