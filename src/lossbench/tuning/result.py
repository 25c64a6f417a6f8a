"""What a tuning found: `tuning.json` for compare, and a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lossbench.comparison.metrics import facts
from lossbench.comparison.tuning import TUNED
from lossbench.config import Config, Run
from lossbench.errors import InputError
from lossbench.records import files
from lossbench.tuning.command import Settings
from lossbench.tuning.search import Trial, TunedArm

RESULT = "tuning.json"
TERMS = ("cell", "objective", "validation_prior", "sampler", "study_seed", "trial_seeds")
"""On what an arm was tuned, which a study does not change once it has seen a result."""

SAME = (*TERMS, "budget")
"""What all arms of a study's tuning have in common."""

Found = Mapping[str, Sequence[Trial]]
Chosen = Mapping[str, Trial | None]


def conditions(settings: Settings, config: Config) -> dict[str, Any]:
    """The head of tuning.json; ``config`` is that of any arm."""
    return {
        "cell": Run(config).cell,
        "objective": settings.objective,
        "validation_prior": prior(config),
        "higher_is_better": facts(settings.objective).higher_is_better,
        "sampler": settings.sampler,
        "budget": settings.budget,
        "study_seed": settings.tune_seed,
        "trial_seeds": settings.seeds_of_trials,
        "final_seeds": settings.final_seeds,
    }


def prior(config: Config) -> str:
    """The class prior of the validation set: balanced, or training (where that is balanced too)."""
    untouched = config["imbalance"].get("name") == "none"
    return "training" if untouched else str(config["data"]["validation_prior"])


def as_json(
    arms: Sequence[TunedArm], found: Found, chosen: Chosen, settings: Settings
) -> dict[str, Any]:
    """The content of tuning.json, without the arms that an earlier command tuned."""
    entries = {}
    for arm in arms:
        winner = chosen[arm.name]
        tuned = winner is not None and winner.number > 0
        entries[arm.label] = {
            "space": {path: entry.plain() for path, entry in arm.space.items()},
            "trials": [trial.plain() for trial in found[arm.name]],
            "chosen": winner
            and {
                "number": winner.number,
                "parameters": winner.parameters,
                "value": winner.value,
            },
            "default_arm": arm.label,
            "tuned_arm": f"{arm.label}{TUNED}" if tuned else arm.label,
        }
    written = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "schema": 1,
        "written": written,
        **conditions(settings, arms[0].config),
        "arms": entries,
    }


def others(folder: Path, arms: Sequence[TunedArm]) -> dict[str, Any]:
    """What an earlier command found for other arms: its tuning.json, only with these."""
    content = read_result(folder)
    mine = {arm.label for arm in arms}
    return content | {"arms": {k: v for k, v in content["arms"].items() if k not in mine}}


def read_result(folder: Path) -> dict[str, Any]:
    """The tuning.json in ``folder``, with no arms if there is none; raises `InputError`."""
    try:
        content = json.loads((folder / RESULT).read_text())
        for entry in content["arms"].values():
            len(entry["trials"])
        return dict(content)
    except FileNotFoundError:
        return {"arms": {}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / RESULT} cannot be read ({error}); remove it, the trials are not affected"
        ) from error


def check_terms(folder: Path, arms: Sequence[TunedArm], settings: Settings) -> None:
    """Refuse to tune on other terms than before, or to hide trials that were made."""
    content, now = read_result(folder), conditions(settings, arms[0].config)
    spaces = {arm.label: {path: entry.plain() for path, entry in arm.space.items()} for arm in arms}
    for label, entry in content["arms"].items():
        own = label in spaces
        made = len(entry["trials"])
        if own and made > settings.budget:
            raise InputError(
                f"budget={settings.budget} is not allowed: {label} of this study has had {made} "
                f"trials, of which none may be left out; budget={made} or more, or another "
                "study=NAME"
            )
        if own and entry.get("space") != spaces[label]:
            raise InputError(
                f"{label} of this study was tuned with another search space; choose another "
                "study=NAME"
            )
        for key in TERMS if own else SAME:
            if key in content and content[key] != now[key]:
                way = "choose" if own else "name all of them in arms=, or choose"
                raise InputError(
                    f"{label} of this study was tuned with {key}={content[key]}, not {now[key]}; "
                    f"{way} another study=NAME"
                )


def write_result(folder: Path, result: Mapping[str, Any], arms: Sequence[TunedArm]) -> None:
    """Write tuning.json; arms that an earlier command tuned stay in it."""
    entries = {**others(folder, arms)["arms"], **result["arms"]}
    files.write_json(folder / RESULT, {**result, "arms": entries})


def print_result(
    arms: Sequence[TunedArm], found: Found, chosen: Chosen, objective: str, study: str
) -> None:
    """Print a line for every arm: its default, its best trial, and how to use what was found."""
    rows = [["arm", "default", "best", "trial", "failed", "parameters"]]
    for arm in arms:
        trials, winner = found[arm.name], chosen[arm.name]
        values = winner.parameters.items() if winner is not None and winner.number else ()
        rows.append(
            [
                arm.label,
                digits(trials[0].value),
                digits(None if winner is None else winner.value),
                "none" if winner is None else str(winner.number),
                str(sum(trial.value is None for trial in trials)),
                " ".join(f"{path}={value}" for path, value in values) or "the defaults",
            ]
        )
    print(f"{objective} of {len(found[arms[0].name])} trials each:")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  " + "  ".join([*cells, row[-1]]))
    example = next((arm for arm in arms if chosen[arm.name] is not None), None)
    if example is not None:
        loss = example.choices["loss"]
        print(f"train with them: lossbench train loss={loss} +tuned={study}/{example.file_name}")


def digits(value: float | None) -> str:
    """Four digits, or that there is no value."""
    return "failed" if value is None else f"{value:.4f}"
