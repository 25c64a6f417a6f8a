"""`lossbench inspect`, and what a run says and records of its data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lossbench.cli import main
from lossbench.data.configured import prepared_data
from lossbench.data.imbalance import order_classes
from lossbench.records import read_record
from lossbench.training.single import train

PROFILES = Path(__file__).parents[2] / "docs" / "profiles.md"


def inspected(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    assert main(["inspect", *overrides]) == 0
    return capsys.readouterr().out


def rows() -> Iterator[object]:
    """The rows of docs/profiles.md; of the factors, all but 100 are slow."""
    for line in PROFILES.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if len(cells) == 4 and len(cells[3]) == 64:
            fast = "factor" not in cells[0] or cells[0].endswith("=100")
            yield pytest.param(*cells, id=cells[0], marks=[] if fast else pytest.mark.slow)


@pytest.mark.parametrize(("overrides", "counts", "total", "sha256"), [*rows()])
def test_the_profiles_on_fashion_mnist_are_as_documented(
    overrides: str, counts: str, total: str, sha256: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = inspected(
        capsys, "data=fashion_mnist", "data.validation_per_class=0", *overrides.split()
    )
    listed = [line.split()[-3] for line in said.splitlines()[3:13]]
    assert " ".join(listed) == counts
    assert f"\n{total} training images" in said
    assert f"sha256 {sha256}\n" in said


def test_all_profiles_are_documented() -> None:
    assert len(list(rows())) == 6 * 4 + 2


def test_inspect_says_how_to_get_the_published_counts(capsys) -> None:
    fashion = ("data=fashion_mnist", "imbalance=ldam_exponential")
    said = inspected(capsys, *fashion, "label_noise=symmetric")
    assert "data.validation_per_class=0" in said
    assert "6000 3596 2156 1292 774 464 278 166 100 60\n" in said
    published = inspected(capsys, "data=fashion_mnist", "imbalance=gamo")  # asks for less anyway
    assert "validation_per_class" not in published


def test_inspect_shows_hash_order_noise_and_shortfall(capsys, make_run: Callable) -> None:
    choices = (
        "imbalance=buda_linear",
        "imbalance.factor=500",
        "label_noise=asymmetric",
        "label_noise.rate=0.25",
        "label_noise.mapping={1: 7}",
        "seed=4",
    )
    said = inspected(capsys, "data=digits", *choices)
    prepared, _ = prepared_data(make_run(*choices).config)
    order = order_classes("random", 10, 4)
    assert f"from the head to the tail: {', '.join(map(str, order))}\n" in said
    true = {int(label): int(n) for label, n in enumerate(prepared.image_counts)}
    assert [true[label] for label in order] == [120, 106, 93, 80, 66, 53, 40, 26, 13, 1]
    flipped = int(true[1] * 0.25 + 0.5)
    assert f"label noise asymmetric: {flipped} of {sum(true.values())} training labels" in said
    assert f"\n  1 -> 7 {flipped}\n" in said
    assert prepared.class_counts[7] == true[7] + flipped
    assert (
        "imbalance.factor=500 cannot be met: the largest class keeps 120 images and every class at"
        " least 1, so the factor is 120\n" in said
    )
    ids = np.array(sorted(prepared.train.ids.tolist()), dtype="<i8").tobytes()
    assert f"sha256 {hashlib.sha256(ids).hexdigest()}\n" in said


def test_a_run_says_and_records_its_order_noise_and_shortfall(make_run: Callable, capsys) -> None:
    run = make_run(
        "imbalance=buda_linear",
        "imbalance.factor=500",
        "label_noise=symmetric",
        "label_noise.rate=0.45",
        "trainer.max_epochs=1",
        "seed=47",
    )
    assert train(run) == 0
    record = read_record(run.folder)
    (note,) = record.notes
    assert note.startswith("imbalance.factor=500 cannot be met")
    assert note in capsys.readouterr().err
    clean, _ = prepared_data(run.config | {"label_noise": None})
    noisy, _ = prepared_data(run.config)
    assert record.class_counts == np.bincount(noisy.train.targets, minlength=10).tolist()
    assert record.class_counts != clean.class_counts.tolist()
    assert record.fingerprints["subset"] == noisy.subset_fingerprint != clean.subset_fingerprint
    assert record.image_counts() == clean.class_counts.tolist()
    # head, mid and tail are those of the images: neither of the labels given nor of the indices
    ranked = np.argsort(-clean.class_counts, kind="stable")
    assert set(ranked[:3]) != {0, 1, 2}
    given = np.argsort(-noisy.class_counts, kind="stable")
    assert set(ranked[:3]) != set(given[:3])
    assert set(ranked[7:]) != set(given[7:])
    metrics, arrays, history = record.metrics, record.arrays(), record.history()
    recalls = np.array([metrics[f"test/recall/{label}"] for label in range(10)])
    tests = arrays["confusion/test"].sum(axis=1)
    unlearnt = tests * arrays["overfitting/by_class"][:, -1]
    for group, members in zip(("head", "mid", "tail"), np.split(ranked, [3, 7]), strict=True):
        assert metrics[f"test/cls/{group}_recall"] == pytest.approx(recalls[members].mean())
        assert metrics[f"val/cls/{group}_recall"] == history[f"val/cls/{group}_recall"][-1]
        share = metrics[f"test/overfitting_{group}/share_above_chance"]
        assert share == pytest.approx(unlearnt[members].sum() / tests[members].sum())
        if group != "mid":  # one temperature for all changes no decision
            found = metrics[f"test/posthoc_temperature/{group}_recall"]
            assert found == metrics[f"test/cls/{group}_recall"]
    forward = 50 ** (-np.arange(10) / 9)
    expected = recalls[ranked] @ forward / forward.sum()
    assert metrics["test/shifted/accuracy_forward_50"] == pytest.approx(expected)
    shots = {"many": clean.class_counts > 100, "few": clean.class_counts < 20}
    assert (shots["many"] != (noisy.class_counts > 100)).any()
    for group, members in shots.items():
        assert metrics[f"test/cls/{group}_recall"] == pytest.approx(recalls[members].mean())
