"""The batch loader against slow loops over single images, and against everything that must not
move its draws."""

from __future__ import annotations

import hashlib
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from lossbench.data.loader import BatchLoader, augment, first_batches_fingerprint
from lossbench.data.preparation import Augmentation
from lossbench.seeding import derive_seed

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (53, 2, 5, 7), dtype=np.uint8))
TARGETS = torch.arange(53) % 4
IDS = torch.arange(53) * 10 + 3
MEAN, STD = (0.3, 0.6), (0.2, 0.4)
BOTH = Augmentation(crop_padding=2, flip=True)


def make_loader(**changes: object) -> BatchLoader:
    arguments = {"batch_size": 8, "mean": MEAN, "std": STD, "augmentation": BOTH, "seed": 0}
    return BatchLoader(IMAGES, TARGETS, IDS, **{**arguments, **changes})


def in_order(**changes: object) -> BatchLoader:
    return make_loader(augmentation=None, seed=None, **changes)


def ids_of(loader: BatchLoader, epoch: int) -> list[int]:
    return torch.cat([ids for _, _, ids in loader.pixel_batches(epoch)]).tolist()


def same_batches(left: object, right: object) -> bool:
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def slow_augmentation(image: np.ndarray, row: int, column: int, flip: int, pad: int) -> np.ndarray:
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                at_y, at_x = y + row - pad, x + column - pad
                if 0 <= at_y < height and 0 <= at_x < width:
                    out[c, y, x] = image[c, at_y, at_x]
    return out[:, :, ::-1] if flip else out


@pytest.mark.parametrize("epoch", [0, 7])
@pytest.mark.parametrize(
    "augmentation", [BOTH, Augmentation(3, False), Augmentation(0, True), Augmentation()]
)
def test_every_image_is_augmented_by_its_own_draws(augmentation: Augmentation, epoch: int) -> None:
    draws = torch.Generator().manual_seed(derive_seed(5, "augmentation", epoch))
    corners = torch.randint(2 * augmentation.crop_padding + 1, (53, 2), generator=draws).tolist()
    flips = torch.randint(2, (53, 1), generator=draws).flatten().tolist()
    order = torch.randperm(
        53, generator=torch.Generator().manual_seed(derive_seed(5, "order", epoch))
    ).tolist()
    expected = [
        slow_augmentation(
            IMAGES[i].numpy(),
            *corners[i],
            augmentation.flip and flips[i],
            augmentation.crop_padding,
        )
        for i in order
    ]
    loader = make_loader(augmentation=augmentation, seed=5)
    pixels, targets, ids = (
        torch.cat(parts) for parts in zip(*loader.pixel_batches(epoch), strict=True)
    )
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels.numpy(), np.stack(expected))
    assert targets.tolist() == TARGETS[order].tolist()
    assert ids.tolist() == IDS[order].tolist()


def test_augmentation_leaves_its_input_alone_and_draws_reach_every_corner() -> None:
    before = IMAGES.clone()
    grid = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.arange(2))
    pixels = augment(IMAGES[:50], grid, BOTH)
    assert torch.equal(IMAGES, before)
    for image, (row, column, flip), result in zip(IMAGES, grid.tolist(), pixels, strict=False):
        expected = slow_augmentation(image.numpy(), row, column, flip, 2)
        np.testing.assert_array_equal(result.numpy(), expected)


def test_crops_are_uniform_and_half_of_the_images_are_flipped() -> None:
    # one bright pixel in the middle of each image tells where the window was and if it was flipped
    images = torch.zeros(5000, 1, 5, 6, dtype=torch.uint8)
    images[:, 0, 2, 2] = 255
    loader = BatchLoader(
        images,
        torch.zeros(5000, dtype=torch.int64),
        torch.arange(5000),
        batch_size=5000,
        mean=(0.0,),
        std=(1.0,),
        augmentation=Augmentation(1, True),
        seed=0,
    )
    ((pixels, _, _),) = loader.pixel_batches(0)
    places = pixels[:, 0].flatten(1).argmax(1)
    rows = torch.bincount(places // 6, minlength=5) / 5000
    assert rows.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0], abs=0.03)
    columns = torch.bincount(places % 6, minlength=6) / 5000
    # not flipped: 1, 2 or 3; flipped: 2, 3 or 4
    assert columns.tolist() == pytest.approx([0, 1 / 6, 1 / 3, 1 / 3, 1 / 6, 0], abs=0.03)


def test_images_are_normalised_per_channel() -> None:
    images = torch.cat([images for images, _, _ in in_order()])
    assert images.dtype == torch.float32
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    expected = (IMAGES.numpy() / 255.0 - mean) / std
    np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-6)


def test_normalisation_does_not_write_into_the_stored_images() -> None:
    before = IMAGES.clone()
    for images, _, _ in in_order():
        images.zero_()
    assert torch.equal(IMAGES, before)


def test_without_a_seed_the_order_is_the_stored_one() -> None:
    loader = in_order()
    batches = list(loader)
    assert [len(targets) for _, targets, _ in batches] == [8] * 6 + [5]
    assert torch.equal(torch.cat([ids for _, _, ids in batches]), IDS)
    assert torch.equal(torch.cat([targets for _, targets, _ in batches]), TARGETS)
    loader.set_epoch(3)
    assert same_batches(loader, batches)


@pytest.mark.parametrize(
    ("seed", "batch_size", "sizes"),
    [
        *((seed, 8, [8] * 6 + [5]) for seed in (0, None)),
        *((seed, 53, [53]) for seed in (0, None)),
        *((seed, 60, [53]) for seed in (0, None)),
        # one image alone has no variance for BatchNorm: in training it joins the batch before
        (0, 13, [13] * 3 + [14]),
        (None, 13, [13] * 4 + [1]),
        (0, 52, [53]),
    ],
)
def test_length_and_last_batch(seed: int | None, batch_size: int, sizes: list[int]) -> None:
    loader = make_loader(augmentation=None, seed=seed, batch_size=batch_size)
    assert [len(targets) for _, targets, _ in loader] == sizes
    assert len(loader) == len(sizes)


def test_an_epoch_shows_every_image_once_and_epochs_and_seeds_differ() -> None:
    orders = [ids_of(make_loader(seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == IDS.tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 6


def test_draws_depend_neither_on_the_global_generators_nor_on_what_was_taken_before() -> None:
    reference = make_loader()
    reference.set_epoch(2)
    expected = list(reference)

    torch.manual_seed(1)
    disturbed = make_loader()
    list(islice(disturbed, 3))  # an epoch left early
    disturbed.set_epoch(1)
    for _ in disturbed:
        torch.rand(3)
        np.random.rand(3)
    disturbed.set_epoch(2)
    assert same_batches(disturbed, expected)
    assert same_batches(disturbed, expected)  # the same epoch again

    state = torch.get_rng_state()
    list(disturbed)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_epoch_is_read_at_the_first_batch() -> None:
    # Lightning makes the iterator of the first epoch before it sets the epoch
    loader = make_loader()
    iterator = iter(loader)
    loader.sampler.set_epoch(4)
    assert torch.cat([ids for _, _, ids in iterator]).tolist() == ids_of(make_loader(), 4)


def test_the_order_does_not_change_with_the_augmentation() -> None:
    assert ids_of(make_loader(augmentation=None), 1) == ids_of(make_loader(), 1)


def test_the_batch_size_changes_no_augmentation() -> None:
    def by_id(batch_size: int) -> dict[int, bytes]:
        batches = make_loader(batch_size=batch_size).pixel_batches(1)
        return {
            int(one): image.numpy().tobytes()
            for pixels, _, ids in batches
            for one, image in zip(ids, pixels, strict=True)
        }

    assert by_id(8) == by_id(13)


def test_augmentation_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="give a seed"):
        make_loader(seed=None)


def test_the_fingerprint_is_a_hash_of_the_first_batches_of_epoch_zero() -> None:
    loader = make_loader()
    digest = hashlib.sha256()
    for pixels, _, ids in islice(make_loader().pixel_batches(0), 4):
        digest.update(ids.numpy().tobytes() + pixels.numpy().tobytes())
    assert first_batches_fingerprint(loader) == digest.hexdigest()
    loader.set_epoch(5)
    before = list(loader)
    assert first_batches_fingerprint(loader) == digest.hexdigest()
    assert same_batches(loader, before)


def test_the_fingerprint_tells_seeds_augmentations_and_batch_sizes_apart() -> None:
    loaders = [
        make_loader(),
        make_loader(seed=1),
        make_loader(augmentation=None),
        make_loader(augmentation=Augmentation(2, False)),
        make_loader(batch_size=9),
    ]
    assert len({first_batches_fingerprint(loader) for loader in loaders}) == len(loaders)
    short = first_batches_fingerprint(make_loader(), batches=2)
    assert short != first_batches_fingerprint(make_loader())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_an_accelerator_sees_the_same_batches() -> None:
    def on_cpu(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert all(part.is_cuda for part in parts)
        return tuple(part.cpu() for part in parts)

    moved = make_loader().to("cuda")
    assert same_batches(map(on_cpu, moved.pixel_batches(3)), make_loader().pixel_batches(3))
    for (ours, _, _), (theirs, _, _) in zip(moved, make_loader(), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=1e-6)
    assert first_batches_fingerprint(moved) == first_batches_fingerprint(make_loader())
