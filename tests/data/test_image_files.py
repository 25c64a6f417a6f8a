"""image_folder and image_list: which files, which labels, and every way they can be wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from lossbench.data.configured import load_dataset, prepared_data
from lossbench.data.image_files import ImageFiles, image_folder, image_list
from lossbench.data.preparation import PreparedData
from lossbench.errors import InputError
from tests.data.image_folders import CLASSES, TEST, TRAIN, config, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_dataset.cache_clear()
    return write_folder(tmp_path / "images")


def paths_of(files: ImageFiles, train: bool = True) -> list[str]:
    count = len(files.train_targets)
    rows = range(count) if train else range(count, len(files.paths))
    return [files.path(row) for row in rows]


def test_files_and_labels_are_those_of_torchvision(folder: Path) -> None:
    nested = folder / "train" / "bee" / "more"
    nested.mkdir()
    shutil.copy(folder / "train" / "bee" / "0.jpg", nested / "0.JPEG")
    (folder / "train" / "bee" / "notes.txt").write_text("no image")
    (folder / "train" / "bee" / ".hidden.jpg").write_text("no image")
    ours = image_folder(folder)
    theirs = [ImageFolder(str(folder / part)) for part in ("train", "test")]
    expected = [sample for sample in theirs[0].samples if ".hidden" not in sample[0]]
    assert list(zip(paths_of(ours), ours.train_targets.tolist(), strict=True)) == expected
    assert list(zip(paths_of(ours, False), ours.test_targets, strict=True)) == theirs[1].samples
    assert ours.class_names == tuple(theirs[0].classes) == CLASSES
    assert ours.origin == f"31 images in {folder}; 1 other files passed over"


def test_without_a_test_part_a_share_of_each_class_is_taken_once_and_for_all(folder: Path) -> None:
    ours = image_folder(folder, test=None, test_share=0.3)
    assert np.bincount(ours.test_targets).tolist() == [2, 2, 1]  # floor(0.3 n)
    assert np.bincount(ours.train_targets).tolist() == [7, 5, 4]
    every = ImageFolder(str(folder / "train"))
    assert sorted(paths_of(ours) + paths_of(ours, False)) == [path for path, _ in every.samples]
    fixed, expected = np.random.RandomState(0), set()
    for label in range(3):
        members = [path for path, target in every.samples if target == label]
        expected |= {members[i] for i in fixed.permutation(len(members))[: int(0.3 * len(members))]}
    assert set(paths_of(ours, False)) == expected
    flat = image_folder(folder / "train", train=".", test=None, test_share=0.3)
    assert [Path(path) for path in paths_of(flat)] == [Path(path) for path in paths_of(ours)]


def test_links_are_followed_once_and_hidden_folders_are_not(folder: Path) -> None:
    before = image_folder(folder)
    ant = folder / "train" / "ant"
    shutil.copytree(ant, ant / ".ipynb_checkpoints")
    for name, target in {"self": ".", "up": "..", "top": "../..", "bee": "../bee"}.items():
        (ant / name).symlink_to(target)
    shutil.copytree(folder / "test" / "ant", folder.parent / "more")
    (ant / "more").symlink_to("../../../more")
    ours = image_folder(folder)
    assert paths_of(ours, False) == paths_of(before, False)
    added = [str(ant / "more" / f"{i}.png") for i in range(3)]
    assert sorted(paths_of(ours)) == sorted(paths_of(before) + added)
    assert np.bincount(ours.train_targets).tolist() == [TRAIN[0] + 3, *TRAIN[1:]]


def test_a_folder_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "train" / "ant" / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refused(place: str | Path) -> object:  # root may read every folder: chmod is not enough
        if Path(place) == closed:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"^cannot read the folder \S+/ant/closed \(Permission"):
        image_folder(folder)


def test_the_first_row_of_a_csv_is_no_header_for_want_of_a_suffix(folder: Path) -> None:
    for path in sorted((folder / "train" / "ant").iterdir()):
        path.rename(path.with_suffix(""))
    for names in ("ab", "01"):
        rows = [f"train/ant/{i},{names[i % 2]}\n" for i in range(6)]
        (folder / "bare.csv").write_text("".join(rows))
        assert len(image_list(folder, "bare.csv", test_share=0.2).paths) == 6
    (folder / "typo.csv").write_text("0.jpg,one\n" + "".join(rows))
    with pytest.raises(InputError, match=r"typo\.csv line 1: the label 'one' is not a whole"):
        image_list(folder, "typo.csv", test_share=0.2)


def write_lists(folder: Path, **lines: str) -> None:
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text(text)


def test_lists_in_every_form_give_the_same_files(folder: Path) -> None:
    samples = ImageFolder(str(folder / "train")).samples[::-1]
    elsewhere = folder.parent / "lists"
    elsewhere.mkdir()
    spaced = folder / "train" / "a b.jpg"
    shutil.copy(samples[0][0], spaced)
    samples.append((str(spaced), 2))
    relative = [(str(Path(path).relative_to(folder)), label) for path, label in samples]
    forms = {
        "plain.txt": "".join(f"{path} {label}\n" for path, label in relative),
        "absolute.txt": "# a comment\n\n" + "".join(f"{p}   {y}\r\n" for p, y in samples),
        "bare.csv": "".join(f"{path},{label}\n" for path, label in relative),
        "header.csv": "image,kind\n" + "".join(f'"{path}", {label}\n' for path, label in relative),
        "named.csv": "path,label\n" + "".join(f"{p},{CLASSES[y]}\n" for p, y in relative),
    }
    seen = set()
    for name, text in forms.items():
        (elsewhere / name).write_text(text)
        made = image_list(folder, str(elsewhere / name), test_share=0.2)
        assert made.class_names == (CLASSES if name == "named.csv" else ("0", "1", "2"))
        select = made.select(np.arange(3), np.arange(0))
        seen.add((*paths_of(made), *made.train_targets.tolist(), select.fingerprint))
    assert len(seen) == 1
    with_test = image_list(folder, str(elsewhere / "plain.txt"), str(elsewhere / "bare.csv"))
    assert paths_of(with_test) == paths_of(with_test, False) == [path for path, _ in samples]


def damage_nothing(folder: Path) -> None:
    pass


def one_class(folder: Path) -> None:
    for place in [*folder.glob("*/bee"), *folder.glob("*/cat")]:
        shutil.rmtree(place)


def not_utf8(folder: Path) -> None:
    (folder / "train" / "bee").rename(os.fsdecode(os.fsencode(folder) + b"/train/b\xe9"))


def empty_class(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()
    (folder / "train" / "dog" / "notes.txt").write_text("")


def only_in_test(folder: Path) -> None:
    shutil.copytree(folder / "test" / "ant", folder / "test" / "eel")


def only_in_train(folder: Path) -> None:
    shutil.rmtree(folder / "test" / "cat")


def two_broken(folder: Path) -> None:
    (folder / "train" / "bee" / "3.jpg").write_bytes(b"no image")
    (folder / "test" / "cat" / "1.png").write_bytes(b"")


def thirty_two_bits(folder: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.float32)).save(folder / "train" / "ant" / "0.tif")


FOLDER_ERRORS: list[tuple[Callable[[Path], None], dict, str]] = [
    (one_class, {}, r"\S+/train has one class, 'ant'; classification needs at least two"),
    (not_utf8, {}, r"\S+/train has a class folder 'b\\udce9', which is not UTF-8; rename it"),
    (damage_nothing, {"train": 5}, r"data\.train=5 must be a name; write data\.train=\./5 for"),
    (empty_class, {}, r"the class folder \S+/train/dog holds no image \(\.jpg,"),
    (only_in_test, {}, r"the class 'eel' of \S+/test is not one of the 3 of \S+/train \(3 test"),
    (only_in_train, {}, r"\S+/test has no folder for the class 'cat' of \S+/train"),
    (
        two_broken,
        {},
        r"2 of 30 images cannot be read, first \S+/train/bee/3\.jpg \(it is not an image",
    ),
    (thirty_two_bits, {}, r"1 of 31 images \S+ \S+ \S+ first \S+/0\.tif \(32-bit pixels"),
    (damage_nothing, {"train": "trian"}, r"there is no folder \S+/trian"),
    (damage_nothing, {"train": "train/ant"}, r"\S+/ant holds no folders"),
    (damage_nothing, {"test": "val"}, r"there is no test part \S+/val; .*data\.test_share=0\.2"),
    (
        damage_nothing,
        {"test_share": 0.2},
        r"data\.test_share=0\.2 .* there is \S+/test; add data\.t",
    ),
    (damage_nothing, {"test": None, "test_share": 1}, r"data\.test_share=1 must be .* below 1"),
    (damage_nothing, {"size": 0}, r"data\.size=0 must be a whole number of at least 1"),
    (damage_nothing, {"size": 32, "resize": 31}, r"data\.resize=31 .* at least data\.size=32"),
    (damage_nothing, {"channels": 4}, r"data\.channels=4 must be 3 \(colours\) or 1 \(grey\)"),
    (damage_nothing, {"mean": [0.5]}, r"data\.mean=\[0\.5\] must be null or a list of 3 numbers"),
]


@pytest.mark.parametrize(("damage", "arguments", "message"), FOLDER_ERRORS)
def test_a_wrong_folder_is_one_line(
    folder: Path, damage: Callable[[Path], None], arguments: dict, message: str
) -> None:
    damage(folder)
    with pytest.raises(InputError, match=f"^{message}") as caught:
        image_folder(folder, **arguments)
    assert "\n" not in str(caught.value)


GOOD = "".join(f"train/{name}/{i}.jpg {y}\n" for y, name in enumerate(CLASSES) for i in (0, 1))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            GOOD + "train/ant/2.jpg\n",
            GOOD,
            r"\S+train.txt line 7: .* is not a path and a label; 1 of 7 rows are bad",
        ),
        (
            "train/ant/2.jpg one\n" + GOOD + "train/ant/3.jpg -1\n",
            GOOD,
            r"\S+train.txt line 1: the label 'one' is not a whole number.*; 2 of 8 rows are bad",
        ),
        (
            GOOD,
            GOOD + "train/ant/77.jpg 0\nno.jpg 1\n",
            r"2 of 14 images cannot be read, first \S+test.txt line 7: \S+/train/ant/77.jpg \(there"
            " is no such file",
        ),
        (
            GOOD,
            GOOD + "train/ant/2.jpg 7\n",
            r"\S+test.txt line 7: the class '7' of \S+test.txt is",
        ),
        (
            GOOD + "train/ant/2.jpg 4000000000\n",
            GOOD + "train/ant/2.jpg 4000000000\n",
            r"class '3' has no image in \S+train.txt; .* and 3999999997 of these 4000000001 are",
        ),
        ("train/ant/2.jpg 0\n", GOOD, r"\S+train.txt has one class, '0'; .* needs at least two"),
        ("# nothing\n", GOOD, r"the list \S+train.txt has no rows"),
    ],
)
def test_a_wrong_list_names_the_line(folder: Path, train: str, test: str, message: str) -> None:
    write_lists(folder, train=train, test=test)
    with pytest.raises(InputError, match=f"^{message}"):
        image_list(folder, "train.txt", "test.txt")


def test_a_list_or_an_archive_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read the list \S+/none\.txt \(.*No such file"):
        image_list(folder, "none.txt", test_share=0.2)
    with pytest.raises(InputError, match=r"data\.archive=\S+/none is not a folder"):
        image_folder(folder / "none")
    write_lists(folder, one="train/ant/0.jpg ant\n" + "train/bee/0.jpg bee\n" * 2)
    with pytest.raises(InputError, match=r"class 'ant' has 1 sample and data\.test_share=0\.2"):
        image_list(folder, "one.txt", test_share=0.2)


def test_split_and_imbalance_choose_among_files_as_among_pixels(folder: Path) -> None:
    tail = {"_target_": "lossbench.data.imbalance.counts", "counts": [6, 4, 2]}
    prepared, _ = prepared_data(config(folder, imbalance=tail))
    assert prepared.class_counts.tolist() == [6, 4, 2]
    assert prepared.validation is not None
    assert np.bincount(prepared.validation.targets).tolist() == [2, 2, 2]
    assert len(prepared.test.ids) == sum(TEST)
    assert prepared.input_shape == (3, 16, 16)
    assert not set(prepared.train.ids) & set(prepared.validation.ids)
    labels = np.repeat([0, 1, 2], TRAIN)
    np.testing.assert_array_equal(prepared.train.targets, labels[prepared.train.ids])


def fingerprint(folder: Path, **changes: object) -> str:
    load_dataset.cache_clear()
    prepared: PreparedData = prepared_data(config(folder, **changes))[0]
    return prepared.subset_fingerprint


def test_the_fingerprint_is_of_names_sizes_labels_choice_and_decoding(folder: Path) -> None:
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)
    first = fingerprint(folder)
    assert fingerprint(moved) == first
    assert fingerprint(folder, mean=[0.5] * 3, batch_size=7) == first
    others = [
        fingerprint(folder, seed=1),
        fingerprint(folder, size=18),
        fingerprint(folder, resize=22),
        fingerprint(folder, channels=1),
        fingerprint(folder, imbalance={"_target_": "lossbench.data.imbalance.step", "factor": 2}),
    ]
    with open(moved / "test" / "ant" / "0.png", "ab") as file:
        file.write(b"\0")
    others.append(fingerprint(moved))
    (moved / "test" / "ant" / "0.png").rename(moved / "test" / "ant" / "00.png")
    others.append(fingerprint(moved))
    assert len({first, *others}) == 8
