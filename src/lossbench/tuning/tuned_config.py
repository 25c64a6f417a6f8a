"""The chosen values as a config: `lossbench train loss=focal +tuned=STUDY/focal`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.config import Run, folder
from lossbench.errors import InputError, unknown
from lossbench.records import files
from lossbench.settings import PLUGGABLE
from lossbench.tuning.search import FOLDER, Trial, TunedArm

PLACE = "tuned"  # the group, and its folder
PARTS = {*PLUGGABLE, "label_noise", "trainer", "loss_scale", "sample_history"}
"""What a tuned config may choose or set."""


def write(place: Path, arm: TunedArm, winner: Trial | None, result: Mapping[str, Any]) -> None:
    """Write `<place>/tuned/<arm>.yaml`; without a winner, remove what was there."""
    path = place / PLACE / f"{arm.file_name}.yaml"
    if winner is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    files.write_text(path, text(arm, winner, result))


def text(arm: TunedArm, winner: Trial, result: Mapping[str, Any]) -> str:
    """The file: where the values come from, the groups of the arm, then the values."""
    import yaml

    prior = {"balanced": "balanced, oracle", "training": "as in training"}
    seeds = ", ".join(map(str, result["trial_seeds"]))
    lines = [
        "# @package _global_",
        f"# {arm.label}: trial {winner.number} of {result['budget']} of lossbench tune "
        f"({result['sampler']} draws, tune_seed {result['study_seed']})",
        f"# {result['objective']} {winner.value:.4f}, seeds {seeds}; "
        f"validation prior: {prior[result['validation_prior']]}",
        f"# {Run(arm.config).cell}; {result['written']}",
    ]
    values = {**arm.given, **winner.parameters}
    given = {key: value for key, value in arm.given.items() if (folder("configs") / key).is_dir()}
    # the values of an optimiser mean nothing to another one
    groups = {**given, "optimizer": arm.choices["optimizer"]}
    content: dict[str, Any] = {
        "defaults": [*({f"override /{key}": value} for key, value in groups.items()), "_self_"]
    }
    for path, value in values.items():
        *parents, key = path.split(".")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        if path not in groups:
            place[key] = value
    return "\n".join(lines) + "\n" + yaml.safe_dump(content, sort_keys=False)


def register(arguments: list[str], own: Path | None) -> None:
    """Make the file that ``+tuned=STUDY/ARM`` names a choice of Hydra's group `tuned`.

    It is looked for in configs/, in the ``own`` folder, and in the study. Raises `InputError` for
    a name that none of them has, and for another loss or optimiser than it holds values for.
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    name = given.get("+tuned", given.get("tuned"))
    if name is None:
        return
    if "+tuned" not in given:
        raise InputError(f"tuned={name} needs a plus: +tuned={name}")
    runs = Path(given.get("runs_dir", "runs"))
    kept = {
        f"{path.parents[2].name}/{path.stem}": path
        for path in sorted(runs.glob(f"*/{FOLDER}/{PLACE}/*.yaml"))
    }
    shipped = {
        f"{path.parent.name}/{path.stem}": path
        for place in (folder("configs"), *([own] if own else []))
        for path in sorted((place / PLACE).glob("*/*.yaml"))
    }
    if name not in kept | shipped:
        raise unknown("tuned config", name, kept | shipped)
    content = load(shipped.get(name) or kept[name])
    chosen = [entry for entry in content["defaults"] if entry != "_self_"]
    for group, own in (choice for entry in chosen for choice in entry.items()):
        key = group.removeprefix("override /")
        if given.get(key, own) != own and key in ("loss", "optimizer"):
            raise InputError(
                f"+tuned={name} holds values for {key}={own}, not for {key}={given[key]}; "
                "leave out one of the two"
            )
    if name not in shipped:
        _store(name, content)


def load(path: Path) -> dict[str, Any]:
    """The content of a tuned config; raises `InputError` if it is none.

    It may come out of an archive: it chooses parts of lossbench and gives them values, and says
    nothing about code, places or the sweep.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
        groups = [group for entry in content["defaults"] if entry != "_self_" for group in entry]
        chosen = {group.removeprefix("override /") for group in groups}
        ours = chosen | set(content) - {"defaults"} <= PARTS and not foreign(content)
        if ours and content["defaults"][0]["override /loss"]:
            return dict(content)
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
    ):
        pass
    raise InputError(f"{path} is not what lossbench tune writes; repeat the command that wrote it")


def foreign(content: Any) -> bool:
    """Whether some key of ``content`` is one of Hydra's own, such as `_target_`."""
    if isinstance(content, dict):
        return any(str(key).startswith("_") or foreign(value) for key, value in content.items())
    return False


def _store(name: str, content: dict[str, Any]) -> None:
    from hydra.core.config_store import ConfigStore

    study, _, arm = name.rpartition("/")
    ConfigStore.instance().store(
        group=f"{PLACE}/{study}",
        name=arm,
        node=content,
        package="_global_",
        provider="lossbench",
        replace=True,
    )
