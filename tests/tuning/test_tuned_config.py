"""A tuned config may come out of somebody else's archive: it says nothing of code or places."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.errors import InputError
from lossbench.tuning.tuned_config import register

FOCAL = "# @package _global_\ndefaults:\n- override /loss: focal\n- _self_\nloss:\n  gamma: 1.5\n"


def registered(tmp_path: Path, text: str) -> None:
    place = tmp_path / "s" / "tuning" / "tuned"
    place.mkdir(parents=True)
    (place / "focal.yaml").write_text(text)
    register(["+tuned=s/focal", f"runs_dir={tmp_path}"], None)


def test_what_tune_writes_is_a_choice(tmp_path: Path) -> None:
    from lossbench.application import compose

    registered(tmp_path, FOCAL)
    assert compose(["+tuned=s/focal", f"runs_dir={tmp_path}"])["loss"]["gamma"] == 1.5


def test_another_optimiser_is_refused_wherever_the_file_names_its_own(tmp_path: Path) -> None:
    registered(tmp_path, FOCAL.replace("- _self_", "- _self_\n- override /optimizer: sgd"))
    with pytest.raises(InputError, match="for optimizer=sgd, not for optimizer=adamw"):
        register(["+tuned=s/focal", f"runs_dir={tmp_path}", "optimizer=adamw"], None)


@pytest.mark.parametrize(
    "more",
    [
        "allow: [os]",
        "runs_dir: /tmp",
        "hydra: {launcher: {_target_: os.system}}",
        "model: {_target_: os.system}",
        "arms: {a: {loss: focal}}",
    ],
)
def test_what_tune_does_not_write_is_refused(tmp_path: Path, more: str) -> None:
    with pytest.raises(InputError, match=r"focal\.yaml is not what lossbench tune writes"):
        registered(tmp_path, f"{FOCAL}{more}\n")


@pytest.mark.parametrize(
    "text",
    [
        "defaults:\n- override /hydra/launcher: ray\n- _self_\n",
        FOCAL.replace("- _self_", "- override /hydra/launcher: ray"),
        FOCAL.replace("- _self_", "- 7"),
        "- loss",
        "loss: {gamma: 1}",
        "a: [",
    ],
)
def test_what_is_no_tuned_config_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"focal\.yaml is not what lossbench tune writes"):
        registered(tmp_path, text)
