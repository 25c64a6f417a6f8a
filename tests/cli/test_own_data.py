"""Data of one's own from the command line: image_folder, image_list, table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lossbench.application import compose
from lossbench.cli import main
from lossbench.config import Run, digest, identity_of
from lossbench.data.configured import load_dataset
from lossbench.data.image_files import part_digest
from lossbench.records import read_study
from tests.cli.test_sweep_command import run_command
from tests.data.image_folders import CLASSES, write_folder

QUICK = ("trainer.max_epochs=1", "data.validation_per_class=1", "study=s")
SMALL = ("data=image_folder", "data.archive=images", "data.size=12")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    load_dataset.cache_clear()
    write_folder(tmp_path / "images")
    return tmp_path


@pytest.mark.slow
def test_a_sweep_trains_on_a_folder_of_images_with_processes_of_its_own(place: Path) -> None:
    code, said = run_command(
        *("sweep", *SMALL, *QUICK, "loss=cross_entropy,focal", "data.workers=2", "workers=1"),
        where=place,
    )
    assert code == 0, said
    records = read_study(place / "runs" / "s")
    assert [record.status for record in records] == ["done", "done"]
    assert records[0].fingerprints == records[1].fingerprints
    assert records[0].class_names == list(CLASSES)


def test_lists_and_tables_are_inspected_and_trained(
    place: Path, capfd: pytest.CaptureFixture
) -> None:
    rows = [(f"{name}/{i}.jpg", y) for y, name in enumerate(CLASSES) for i in range(5)]
    (place / "train.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))
    frame = pd.DataFrame({"x": range(60), "kind": ["a", "b", None] * 20, "y": ["n", "n", "p"] * 20})
    frame.to_csv(place / "rows.csv", index=False)
    lists = ("data=image_list", "data.archive=images/train", "data.size=12", "data.test_share=0.4")
    kinds = {
        (*lists, f"data.train={place / 'train.txt'}", "data.cache_mb=1"): "25 images",
        ("data=table", "data.archive=rows.csv", "data.target=y"): "4 features",
    }
    for arguments in kinds:
        assert main(["inspect", *arguments, *QUICK]) == 0
        assert "training images" in capfd.readouterr().out
        assert main(["train", *arguments, *QUICK]) == 0
    records = {len(record.class_names): record for record in read_study(place / "runs" / "s")}
    assert {record.status for record in records.values()} == {"done"}
    assert records[3].class_names == ["0", "1", "2"]
    assert records[2].class_names == ["n", "p"]
    assert "rows.csv; test part: 0.2 of each class; 4 features" in records[2].origin


def test_an_image_that_cannot_be_decoded_ends_the_run_with_its_name(
    place: Path, capfd: pytest.CaptureFixture
) -> None:
    broken = place / "images" / "test" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:-80])
    assert main(["train", *SMALL, *QUICK, "data.workers=0"]) == 1
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert "the run failed: 1 of 30 images cannot be read" in said
    assert "first images/test/bee/1.png (image file is truncated" in said
    assert main(["train", *SMALL, *QUICK, "data.cache_mb=1", "retry_failed=true"]) == 2
    said = capfd.readouterr().err
    assert "1 of 30 images cannot be read, first images/test/bee/1.png" in said
    assert "Traceback" not in said


def test_a_model_that_cannot_take_a_table_is_refused(
    place: Path, capfd: pytest.CaptureFixture
) -> None:
    (place / "rows.csv").write_text("x,y\n" + "1,a\n2,b\n" * 9)
    arguments = ("data=table", "data.archive=rows.csv", "data.target=y", "model=convnet")
    assert main(["train", *arguments, *QUICK]) == 2
    assert "a sample of this data has shape (1,); use model=mlp" in capfd.readouterr().err
    assert not (place / "runs").exists()


def identity(*overrides: str) -> str:
    import lossbench.config

    lossbench.config.content.cache_clear()
    lossbench.config.names_and_sizes.cache_clear()
    part_digest.cache_clear()
    return Run(compose(list(overrides))).identity


def test_identity_is_of_the_content_and_not_of_where_and_how_it_is_read(place: Path) -> None:
    images = write_folder(place / "elsewhere" / "images")
    first = identity(*SMALL)
    same = (f"data.archive={images}", "data.workers=3", "data.cache_mb=9")
    assert identity(*SMALL, *same) == first
    (images / "train" / "ant" / "0.jpg").unlink()
    assert identity(*SMALL, *same) != first

    for where in (place, images.parent):
        (where / "rows.csv").write_text("x,y\n1,a\n")
        (where / "tests.csv").write_text("x,y\n2,a\n")
    table = ("data=table", "data.target=y")
    here, there = (
        (*table, f"data.archive={where / 'rows.csv'}", f"data.test={where / 'tests.csv'}")
        for where in (place, images.parent)
    )
    first = identity(*here)
    assert identity(*there) == first
    (images.parent / "tests.csv").write_text("x,y\n3,a\n")  # as long as before
    assert identity(*there) != first
    (images.parent / "tests.csv").write_text("x,y\n2,a\n")
    (images.parent / "rows.csv").write_text("x,y\n0,a\n")
    assert identity(*there) != first


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def test_identity_of_images_is_of_all_that_is_read_and_of_nothing_else(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, other = place / "images", write_folder(place / "other")
    (images / "train" / "ant").rename(place / "ants")
    (images / "train" / "ant").symlink_to(place / "ants")
    folders = (*SMALL, f"data.test={other / 'test'}")
    first = identity(*folders)
    grow(other / "test" / "bee" / "0.png")
    second = identity(*folders)
    grow(place / "ants" / "0.jpg")
    assert len({first, second, identity(*folders)}) == 3

    rows = [f"{other}/train/{name}/{i}.jpg {name}\n" for name in CLASSES for i in range(3)]
    (place / "rows.txt").write_text("".join(rows))
    lists = (*SMALL, "data=image_list", f"data.train={place / 'rows.txt'}", "data.test_share=0.4")
    first = identity(*lists)
    grow(other / "train" / "cat" / "3.jpg")  # in no list
    assert identity(*lists) == first
    grow(other / "train" / "cat" / "2.jpg")
    assert identity(*lists) != first

    monkeypatch.chdir(images)
    here = (*SMALL, "data.archive=.")
    first = identity(*here)
    (images / "runs" / "s").mkdir(parents=True)
    for name in ("runs/s/0.png", "train/bee/.DS_Store", "train/bee/notes.txt", "test/0.png"):
        (images / name).write_bytes(b"0")
    assert identity(*here) == first


def anything(archive: object, train: object, test: object) -> None:
    """A foreign source."""


def test_keys_of_a_foreign_source_are_no_names_of_files(place: Path) -> None:
    def of(archive: object, train: object) -> str:
        source = {"_target_": f"{__name__}.anything", "archive": archive, "train": train}
        return digest(identity_of({"data": source | {"test": True}, "allow": [__name__]}))

    assert len({of(str(place), 0.8), of(str(place), 0.7), of(5, 0.8), of(6, 0.8)}) == 4


def test_a_part_that_is_a_number_is_one_line(place: Path, capfd: pytest.CaptureFixture) -> None:
    assert main(["train", *SMALL, *QUICK, "data.train=5"]) == 2
    said = capfd.readouterr().err.strip()
    assert "data.train=5 must be a name; write data.train=./5" in said
    assert "\n" not in said
    assert not (place / "runs").exists()
