"""Pixels of image files: against torchvision's transforms, and the same however they are read."""

from __future__ import annotations

import logging
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from lossbench.data.configured import load_dataset, prepared_data
from lossbench.data.datamodule import LossbenchDataModule
from lossbench.data.decoding import UnreadableImageError, decode, read_header
from lossbench.data.imbalance import ImbalanceSettings
from lossbench.data.loader import BatchLoader
from lossbench.data.preparation import Augmentation, DataSettings, prepare
from lossbench.data.sources import ImageDataset
from lossbench.data.streaming import pixel_store
from lossbench.errors import InputError
from lossbench.seeding import derive_seed
from tests.data.image_folders import config, write_folder

CROPS = {"random_resized_crop": [0.3, 1.0], "flip": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("images") / "images")


def module(folder: Path, **data: object) -> LossbenchDataModule:
    settings = config(folder, **{"workers": 0, **data})
    prepared, chosen = prepared_data(settings)
    return LossbenchDataModule(prepared, chosen, settings["seed"])


def epochs_of(data: LossbenchDataModule, *epochs: int) -> list[tuple[Tensor, ...]]:
    """Every batch of training in these epochs, then of validation and test."""
    loader = data.train_dataloader()
    batches = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        batches += list(loader)
    batches += [*data.val_dataloader(), *data.test_dataloader(), *data.train_evaluation_loader()]
    data.close()
    return batches


def same(first: list[tuple[Tensor, ...]], second: list[tuple[Tensor, ...]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_evaluation_is_torchvisions_resize_and_centre_crop(folder: Path) -> None:
    transform = v2.Compose(
        [
            *(v2.Resize(20), v2.CenterCrop(16), v2.PILToTensor()),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    data = module(folder)
    for split, loader in (
        (data.prepared.train, data.train_evaluation_loader()),
        (data.prepared.test, data.test_dataloader()),
    ):
        ((images, targets, ids),) = loader
        np.testing.assert_array_equal(targets, split.targets)
        np.testing.assert_array_equal(ids, split.ids)
        files = split.inputs.files
        for row, image in zip(split.inputs.rows, images, strict=True):
            expected = transform(Image.open(files.path(int(row))))
            torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


def test_training_is_torchvisions_random_resized_crop_under_the_images_own_seed(
    folder: Path,
) -> None:
    data = module(folder, augmentation={"random_resized_crop": [0.3, 1.0]}, seed=5)
    loader = data.train_dataloader()
    before = torch.random.get_rng_state()
    batches = list(loader.pixel_batches(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    files = data.prepared.train.inputs.files
    crop = v2.RandomResizedCrop(16, (0.3, 1.0))
    for pixels, _, ids in batches:
        for image, row in zip(pixels, ids.tolist(), strict=True):
            resized = v2.Resize(20)(Image.open(files.path(row)))
            torch.manual_seed(derive_seed(5, "augmentation", 2, row))
            expected = crop(v2.functional.pil_to_tensor(resized))
            assert (image.int() - expected.int()).abs().max() <= 1  # rounding of another layout


@pytest.mark.parametrize("augmentation", [CROPS, {"crop_padding": 2, "flip": True}])
def test_batches_are_the_same_for_every_number_of_workers_and_every_cache(
    folder: Path, augmentation: dict, caplog: pytest.LogCaptureFixture
) -> None:
    def batches(**changes: object) -> list[tuple[Tensor, ...]]:
        return epochs_of(module(folder, augmentation=augmentation, **changes), 0, 1)

    plain = batches()
    assert same(batches(workers=2), plain)
    with caplog.at_level(logging.WARNING, "lossbench"):
        assert same(batches(cache_mb=1, workers=None), plain)
    assert not caplog.records
    assert not same(batches(seed=1), plain)
    first, second = (
        epochs_of(module(folder, augmentation=augmentation), epoch) for epoch in (0, 1)
    )
    assert not same(first, second)
    assert same(second[:4], plain[4:8])  # a resumed run begins where it stopped


def test_a_cache_that_is_too_small_keeps_what_fits_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = epochs_of(module(folder, augmentation=CROPS), 0)
    files = module(folder).prepared.train.inputs.files
    limit = 20 * 20 * 3 * 12  # a dozen square images; most are larger
    small = pixel_store.__wrapped__(files, 1)
    small._block = np.empty(limit, np.uint8)
    monkeypatch.setattr("lossbench.data.streaming.pixel_store", lambda files, cache_mb: small)
    with caplog.at_level(logging.WARNING, "lossbench"):
        data = module(folder, augmentation=CROPS, cache_mb=1, workers=2)
    kept = sum(row in small for row in range(30))
    assert 5 < kept < 12
    assert caplog.messages == [
        f"data.cache_mb=1 holds {kept} of 30 images; the others are decoded in each epoch"
    ]
    assert small._block.nbytes == limit
    assert same(epochs_of(data, 0), plain)


def test_without_a_random_crop_it_is_the_loader_of_images_in_memory(folder: Path) -> None:
    data = module(folder, augmentation={"crop_padding": 2, "flip": True})
    train = data.prepared.train
    ((plain, targets, ids),) = data.train_evaluation_loader().pixel_batches(0)
    in_memory = BatchLoader(
        *(plain, targets, ids),
        batch_size=4,
        mean=data.prepared.mean,
        std=data.prepared.std,
        augmentation=Augmentation(2, True),
        seed=0,
    )
    assert len(train.ids) == len(in_memory.images)
    assert same(list(in_memory), list(data.train_dataloader()))


def test_an_iteration_that_is_left_leaves_the_next_one_whole(folder: Path) -> None:
    data = module(folder, workers=2, augmentation=CROPS)
    expected = epochs_of(module(folder, augmentation=CROPS), 0)[:4]
    left = data.train_dataloader().pixel_batches(0)
    next(left)
    assert same(list(data.train_dataloader()), expected)
    with pytest.raises(RuntimeError, match="another part's batches were asked for"):
        list(left)
    data.close()


def test_an_image_that_cannot_be_decoded_is_named(folder: Path, tmp_path: Path) -> None:
    load_dataset.cache_clear()
    root = write_folder(tmp_path / "images")
    for name in ("ant/1.jpg", "bee/2.jpg"):
        path = root / "train" / name
        path.write_bytes(path.read_bytes()[:-60])  # the header is whole
    both = r"^2 of 30 images cannot be read, first \S+\.jpg \(.*trun.*\), \S+\.jpg \(.*trun"
    with pytest.raises(InputError, match=both):
        module(root, cache_mb=1)
    for workers in (0, 2):
        data = module(root, workers=workers)
        with pytest.raises(InputError, match=both):  # found at the first, counted all the same
            list(data.train_dataloader())
        data.close()


def test_an_image_that_cannot_be_decoded_for_a_moment_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = module(folder)
    failures = [UnreadableImageError("a.jpg (the disk is away)")]
    files, read = type(data.prepared.train.inputs.files), data.prepared.train.inputs.files.decode

    def decode_once(self: object, row: int) -> np.ndarray:
        if failures:
            raise failures.pop()
        return read(row)

    monkeypatch.setattr(files, "decode", decode_once)
    with pytest.raises(InputError, match=r"^a\.jpg \(the disk is away\)$"):
        list(data.train_dataloader())


def test_every_kind_of_image_becomes_rgb_or_grey(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    colours = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    rgb, alpha = Image.fromarray(colours), Image.fromarray(colours[..., 0])
    grey = Image.fromarray(colours[..., 1])
    with_alpha, palette = rgb.copy(), rgb.quantize(16)
    with_alpha.putalpha(alpha)
    three = np.asarray(grey)[..., None].repeat(3, axis=2)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256 + 77)
    see_through = Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P")
    cmyk = rgb.convert("CMYK")
    kinds = {
        "rgb.png": (rgb, colours),
        "rgba.png": (with_alpha, colours),
        "palette.png": (palette, np.asarray(palette.convert("RGB"))),
        "grey.png": (grey, three),
        "sixteen.png": (sixteen, three),
        "cmyk.tif": (cmyk, np.asarray(cmyk.convert("RGB"))),
        "bits.png": (Image.fromarray(colours[..., 0] > 99), 255 * (colours[..., :1] > 99)),
    }
    for name, (image, expected) in kinds.items():
        image.save(tmp_path / name)
        pixels = decode(str(tmp_path / name), 8, 3)
        np.testing.assert_array_equal(pixels, np.broadcast_to(expected, (8, 8, 3)), err_msg=name)
    see_through.save(tmp_path / "see_through.png", transparency=b"\1\2\3")
    assert decode(str(tmp_path / "see_through.png"), 8, 3).max() == 0
    assert (
        decode(str(tmp_path / "rgb.png"), 8, 1).tolist()
        == np.asarray(rgb.convert("L"))[..., None].tolist()
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_rotated_photo_stands_upright(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255  # bright on the left: on top, once turned by 90 degrees
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # "rotate 90 clockwise to see it upright"
    path = tmp_path / f"turned.{suffix}"
    image.save(path, exif=exif)
    header = read_header(str(path), 5)
    upright = decode(str(path), 5, 3)
    assert upright.shape == (header.height, header.width, 3) == (10, 5, 3)
    assert upright[:4].min() > 240
    assert upright[6:].max() < 15


def test_grey_of_16_bits_and_lab_become_grey(tmp_path: Path) -> None:
    pgm, lab = tmp_path / "16.pgm", tmp_path / "lab.tif"
    pgm.write_bytes(b"P5 4 4 65535\n" + bytes(range(32)))  # the upper byte comes first
    assert read_header(str(pgm), 4).height == 4
    assert decode(str(pgm), 4, 1).ravel().tolist() == list(range(0, 32, 2))
    Image.new("LAB", (4, 4), (128, 128, 128)).save(lab)  # 50 % lightness without a colour
    assert read_header(str(lab), 4).height == 4
    (value,) = np.unique(decode(str(lab), 4, 1))
    assert abs(int(value) - 119) <= 2  # sRGB of L* = 50


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"random_resized_crop": [0.5, 1.0], "crop_padding": 1}, "are both random crops"),
        ({"random_resized_crop": [0, 1]}, r"=\[0, 1\] must be null or two shares"),
        ({"random_resized_crop": [0.9, 0.5]}, "must be null or two shares"),
        ({"random_resized_crop": 0.5}, "must be null or two shares"),
    ],
)
def test_a_crop_that_makes_no_sense_is_refused(
    folder: Path, augmentation: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        module(folder, augmentation=augmentation)


def test_pixels_in_memory_have_no_random_resized_crop(small_dataset: ImageDataset) -> None:
    settings = DataSettings(4, 2, augmentation=Augmentation(random_resized_crop=(0.5, 1)))
    with pytest.raises(InputError, match="is for images in files"):
        prepare(small_dataset, settings, ImbalanceSettings(), 0)


def test_a_resampled_image_is_cropped_anew_each_time_it_is_drawn(folder: Path) -> None:
    settings = config(folder, workers=0, augmentation={"random_resized_crop": [0.3, 0.5]})
    prepared, chosen = prepared_data(settings)
    order = torch.full((len(prepared.train.ids),), 3)
    data = LossbenchDataModule(prepared, chosen, 0, lambda epoch: order)
    pixels, _, ids = next(data.train_dataloader().pixel_batches(0))
    assert len(set(ids.tolist())) == 1
    assert len({image.numpy().tobytes() for image in pixels}) == len(ids) == 4


def test_a_cache_allocates_no_more_than_its_limit(folder: Path) -> None:
    files = replace(module(folder).prepared.train.inputs.files, shapes=np.full((30, 2), 256))
    whole = 30 * 256 * 256 * 3
    tracemalloc.start()
    try:
        for limit, most in ((2, 2 * 2**20), (20, whole)):  # nor more than the images need
            before, _ = tracemalloc.get_traced_memory()
            store = pixel_store.__wrapped__(files, limit)
            held = tracemalloc.get_traced_memory()[0] - before
            assert most <= held < most + 50_000
            kept = store.fill(np.arange(30), lambda row: np.full((256, 256, 3), row, np.uint8))
            assert kept == most // (256 * 256 * 3)
            assert all((store[row] == row).all() for row in range(kept))
            del store
    finally:
        tracemalloc.stop()
