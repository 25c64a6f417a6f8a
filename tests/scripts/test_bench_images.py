"""The benchmark of image files runs, and all its loaders give as many images."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_images.py"


def test_every_loader_gives_every_image_at_the_same_size(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("bench_images", SCRIPT)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    bench.write_images(tmp_path, 20, 24)
    epochs = [
        bench.plain(tmp_path, 14, 0),
        bench.ours(tmp_path, 14, 0, None),
        bench.ours(tmp_path, 14, 0, 1),
    ]
    for epoch in epochs:
        shapes = [tuple(batch[0].shape) for batch in epoch(0)]
        assert shapes == [(20, 3, 14, 14)]

    arguments = "bench_images --images 10 --side 24 --size 14 --workers 0 --rounds 1"
    monkeypatch.setattr("sys.argv", arguments.split())
    bench.main()
    table = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [name.strip() for name, _ in table[2:]] == [
        *("torchvision, 0 workers", "our stream, 0 workers", "our cache, 0 workers")
    ]
    assert all(int(speed) > 0 for _, speed in table[2:])
