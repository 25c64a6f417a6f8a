"""Runs with a regime go on bit for bit, also when killed where a stage begins or after the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.training.run import execute
from tests.conftest import run_of
from tests.training.test_resume import (
    Stopped,
    assert_same_run,
    stop_after,
    stop_in_the_middle_of,
)

CONVNET = ("model=convnet", "model.width=4")
CASES = {
    "crt and an average, killed at the border and in the second stage": (
        *CONVNET, "regime=crt", "regime.start=0.25", "regime.ema_decay=0.5",
    ),
    "lws with features": ("regime=lws", "regime.start=0.75", "loss=large_margin_softmax"),
    "drw and a matched scale": ("regime=drw", "regime.start=0.5", "loss_scale=match_ce"),
    "mixup and an average": ("regime=mixup", "regime.ema_decay=0.9", "loss=seesaw"),
    "progressive draws, augmented": (
        "regime=resample", "regime.sampling=progressive", "data.augmentation.crop_padding=1",
    ),
    "tau chosen after the last step": ("regime=tau_norm", "regime.tau=null"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_killed_often_it_ends_like_an_undisturbed_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("model.hidden=[16]", *CASES[case])
    if CONVNET[0] in overrides:
        overrides = overrides[1:]
    reference, run = (run_of(tmp_path / name, *overrides) for name in ("one", "other"))
    assert execute(reference).state == "done"
    with pytest.raises(Stopped):
        execute(run, stop_after(1))
    stop_in_the_middle_of(run, 3, monkeypatch)
    for epoch in (3, 4):
        with pytest.raises(Stopped):
            execute(run, stop_after(epoch))
    assert execute(run).state == "done"
    assert_same_run(reference.folder, run.folder)
