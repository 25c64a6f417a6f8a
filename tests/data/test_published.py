"""Every dataset that torchvision has too: both read the same small files in the real formats.

The web is a folder here: torchvision's own code downloads from it, checks and unpacks.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
import yaml

from lossbench.data import sources
from lossbench.data.configured import prepared_data
from lossbench.data.sources import ImageDataset, mnist_family
from lossbench.errors import InputError
from tests.data.published_files import SAMPLES, Sample
from tests.data.test_data_configs import CONFIGS, composed

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
one_of_each = pytest.mark.parametrize(
    "sample", {sample.source: sample for sample in SAMPLES}.values(), ids=lambda one: one.source
)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sample], Path]:
    """``web(sample)`` puts the files of a sample where torchvision downloads from now."""
    folder = tmp_path / "web"
    folder.mkdir()

    def retrieve(url: str, filename: str) -> None:
        print("downloading", file=sys.stderr)
        shutil.copy(folder / url.rpartition("/")[2], filename)

    utils = torchvision.datasets.utils
    monkeypatch.setattr(utils, "_urlretrieve", retrieve)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
    for module in ("utils", "mnist", "cifar", "svhn"):
        place = f"torchvision.datasets.{module}.check_integrity"
        monkeypatch.setattr(place, lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr(mnist_family, "DEBIAN_FASHION_MNIST", tmp_path / "no-debian-package")

    def put(sample: Sample) -> Path:
        sample.write(folder)
        return folder

    return put


def read(sample: Sample, **location: object) -> ImageDataset:
    return getattr(sources, sample.source)(**sample.arguments, **location)


def same(first: ImageDataset, second: ImageDataset) -> bool:
    parts = ("train_images", "train_targets", "test_images", "test_targets", "class_names")
    return all(np.array_equal(getattr(first, part), getattr(second, part)) for part in parts)


@every_sample
def test_torchvision_reads_the_same_pixels_and_labels(
    sample: Sample, web: Callable[[Sample], Path], tmp_path: Path
) -> None:
    web(sample)
    ours = read(sample, root=tmp_path / "ours")
    reference = getattr(torchvision.datasets, sample.reference)
    for part, arguments in (("train", sample.train), ("test", sample.test)):
        theirs = reference(tmp_path / "theirs", download=True, **arguments)
        images = np.stack([np.atleast_3d(np.asarray(theirs[n][0])) for n in range(len(theirs))])
        channels_first = (
            images.transpose(0, 3, 2, 1) if sample.transposed else images.transpose(0, 3, 1, 2)
        )
        np.testing.assert_array_equal(getattr(ours, f"{part}_images"), channels_first)
        labels = np.array([theirs[n][1] for n in range(len(theirs))]) - sample.first_label
        np.testing.assert_array_equal(getattr(ours, f"{part}_targets"), labels)
    assert np.bincount(ours.train_targets).tolist() == [2] * sample.classes
    assert len(ours.class_names) == sample.classes
    names = getattr(theirs, "classes", None)
    if names is not None and sample.source != "mnist":  # theirs are "0 - zero", ours 0
        assert list(ours.class_names) == names[sample.first_label :]


@every_sample
def test_a_copy_is_found_wherever_it_may_lie(
    sample: Sample,
    web: Callable[[Sample], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, cache = web(sample), tmp_path / "cache"
    downloaded = read(sample, root=cache)
    assert downloaded.origin == f"downloaded by torchvision into {cache}"
    assert capsys.readouterr().err == ""  # nobody sees the progress bar, so there is none
    assert not list(cache.glob("download-*"))
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", pytest.fail)
    monkeypatch.setenv("LOSSBENCH_DATA", str(cache))
    again = read(sample)
    assert again.origin == f"torchvision's copy in {cache}"
    assert same(again, downloaded)
    file = next(folder.iterdir())
    whole = file.name.endswith((".zip", ".tar.gz"))
    places = [folder, cache, *([file] if whole else [])]  # torchvision's root is an archive as well
    for place in places:
        given = read(sample, archive=str(place))
        assert given.origin == f"data.archive={place}"
        assert same(given, downloaded)


def test_the_progress_bar_is_shown_on_a_terminal(
    web: Callable[[Sample], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    web(SAMPLES[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    sources.mnist(root=tmp_path / "cache")
    assert "downloading" in capsys.readouterr().err


@one_of_each
def test_a_failed_download_says_how_to_provide_the_files(
    sample: Sample,
    web: Callable[[Sample], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, cache = web(sample), tmp_path / "cache"
    last = max(folder.iterdir())
    last.unlink()  # the others arrive; without the last they are worth nothing
    with pytest.raises(InputError, match=r"cannot download .*data\.archive=FOLDER") as error:
        read(sample, root=cache)
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


@one_of_each
def test_files_with_other_content_are_refused_by_the_configured_checksums(
    sample: Sample, web: Callable[[Sample], Path]
) -> None:
    checksums = yaml.safe_load((CONFIGS / "data" / f"{sample.source}.yaml").read_text())[
        "checksums"
    ]
    folder = web(sample)
    with pytest.raises(
        InputError, match=r"is not the expected file.*data\.checksums=null"
    ) as error:
        read(sample, archive=folder, checksums=checksums)
    assert "\n" not in str(error.value)
    assert read(sample, archive=folder, checksums=dict.fromkeys(checksums)).train_targets.size


def test_the_configured_checksums_are_torchvisions() -> None:
    published = torchvision.datasets

    def configured(name: str) -> dict[str, str]:
        return yaml.safe_load((CONFIGS / "data" / f"{name}.yaml").read_text())["checksums"]

    assert configured("kmnist") == dict(published.KMNIST.resources)
    assert configured("emnist") == {"gzip.zip": published.EMNIST.md5}
    assert configured("svhn") == {
        file: md5 for part, (_, file, md5) in published.SVHN.split_list.items() if part != "extra"
    }
    for name, theirs in (("cifar10", published.CIFAR10), ("cifar100", published.CIFAR100)):
        files = dict([*theirs.train_list, *theirs.test_list])
        assert configured(name) == {**files, theirs.meta["filename"]: theirs.meta["md5"]}


@one_of_each
def test_every_data_file_prepares_a_run(sample: Sample, web: Callable[[Sample], Path]) -> None:
    folder = web(sample)
    overrides = (f"data.archive={folder}", "data.checksums=null", "data.validation_per_class=1")
    config = composed(
        f"data={sample.source}", "imbalance=none", *(f"+{override}" for override in overrides)
    )
    arguments = {"split": "balanced"} if sample.source == "emnist" else {}
    whole = getattr(sources, sample.source)(archive=folder, **arguments)
    prepared, settings = prepared_data(config)
    assert config["data"]["name"] == sample.source
    assert prepared.class_counts.tolist() == [1] * len(whole.class_names)
    np.testing.assert_array_equal(prepared.test.inputs, whole.test_images)
    colour_photographs = sample.source.startswith("cifar")
    assert settings.batch_size == 128
    assert settings.augmentation.flip is colour_photographs
    assert settings.augmentation.crop_padding == (4 if colour_photographs else 0)


def test_checksums_hold_for_every_packing_that_they_can_check(
    web: Callable[[Sample], Path], tmp_path: Path
) -> None:
    folder = web(SAMPLES[0])
    plain = {path.stem: gzip.decompress(path.read_bytes()) for path in folder.iterdir()}
    of_plain = {name: hashlib.md5(content).hexdigest() for name, content in plain.items()}
    of_packed = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    archive = Path(shutil.make_archive(str(tmp_path / "four"), "zip", folder))
    for place in (folder, archive):
        for checksums in (of_plain, of_packed, of_plain | of_packed):
            assert len(sources.mnist(archive=place, checksums=checksums).train_targets) == 20
    whole = {archive.name: hashlib.md5(archive.read_bytes()).hexdigest()}
    assert len(sources.mnist(archive=archive, checksums=whole).train_targets) == 20
    with pytest.raises(InputError, match=r"cannot be checked: data\.checksums has .* four\.zip"):
        sources.mnist(archive=folder, checksums=whole)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    for name, content in plain.items():
        (unpacked / name).write_bytes(content)
    with pytest.raises(InputError, match=r"has no file train-images-idx3-ubyte\.gz, the form that"):
        sources.mnist(archive=unpacked, checksums=of_packed)


@one_of_each
def test_damaged_files_are_named(
    sample: Sample, web: Callable[[Sample], Path], tmp_path: Path
) -> None:
    folder = web(sample)
    for path in folder.iterdir():
        intact = path.read_bytes()
        for damaged in (intact[: len(intact) // 2], b"", b"no such format" * 40):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=path.name.removesuffix(".gz")) as error:
                read(sample, archive=folder)
            assert "\n" not in str(error.value)
        path.write_bytes(intact)
        path.unlink()
        with pytest.raises(InputError, match=r"data\.archive=.* has no file .*name a folder"):
            read(sample, archive=folder)
        path.write_bytes(intact)
