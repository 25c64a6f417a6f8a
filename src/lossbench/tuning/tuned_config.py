"""The chosen values as a config: `lossbench train loss=focal +tuned=STUDY/focal`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.config import Run, folder
from lossbench.records import files
from lossbench.tuning.search import Trial, TunedArm

PLACE = "tuned"


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
