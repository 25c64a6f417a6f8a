"""Batches of samples: order, augmentation and normalisation of an epoch.

Images in memory are kept as uint8 on the CPU or, once moved, on the accelerator. A batch is picked,
augmented and normalised there with a few operations on the whole batch: no workers, no per-image
Python. Images in files come decoded from `lossbench.data.streaming`, the rest is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import pad

from lossbench.data.preparation import Augmentation
from lossbench.data.streaming import Stream
from lossbench.seeding import derive_seed

Batch = tuple[Tensor, Tensor, Tensor]
EpochOrder = Callable[[int], Tensor | None]


class BatchLoader:
    """Iterates over ``(inputs float32 normalised, targets int64, ids int64)``, batch by batch.

    With a ``seed`` the order and the augmentation of an epoch are drawn from generators of their
    own, seeded by (seed, "order" or "augmentation", epoch): they do not depend on the global
    generator, on earlier epochs or on how many batches were taken, and an interrupted run goes on
    with ``set_epoch``. Draws are made on the CPU, so every device sees the same batches. An
    image's augmentation is drawn by its place in ``images``, so the batch size does not change it.
    Without a ``seed``: stored order, no augmentation.

    Args:
        images: (N, C, H, W) uint8 or, on their way from files, a `Stream` of them; or features
            (N, F) float32.
        targets: (N,) int64.
        ids: (N,) int64.
        batch_size: images per batch; the last batch may be smaller. With a seed, which is to say in
            training, a last batch of one image joins the one before: of one, BatchNorm has no
            variance.
        mean: C values, of pixels in [0, 1]; None leaves the inputs as they are.
        std: C values, or None.
        augmentation: None changes nothing; needs ``seed``.
        seed: None means in order.
        order: from an epoch to (N,) int64 places in ``images`` on the CPU, among which a place may
            occur often or never, or to None for the seeded permutation. There an image's
            augmentation is drawn by its place in the epoch: each time it occurs has its own.
    """

    def __init__(
        self,
        images: Tensor | Stream,
        targets: Tensor,
        ids: Tensor,
        *,
        batch_size: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        order: EpochOrder | None = None,
    ) -> None:
        if augmentation is not None and seed is None:
            raise ValueError("augmentation is random: give a seed with it")
        self.images, self.targets, self.ids = images, targets, ids
        self.batch_size = batch_size
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.order = order
        self._scale = self._shift = None
        if mean is not None and std is not None:
            # (x / 255 - mean) / std, as one multiplication and one addition
            deviation = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
            centre = torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1)
            self._scale = (1 / (255 * deviation)).to(images.device, torch.float32)
            self._shift = (-centre / deviation).to(images.device, torch.float32)
        self._epoch = 0

    def to(self, device: torch.device | str) -> BatchLoader:
        """Move the data to ``device``, once; returns the loader itself."""
        for name in ("images", "targets", "ids", "_scale", "_shift"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def set_epoch(self, epoch: int) -> None:
        """Draw order and augmentation of ``epoch`` (from 0) at the next iteration."""
        self._epoch = epoch

    batch_sampler = None  # where Lightning finds a sampler, it asks for this too

    @property
    def sampler(self) -> BatchLoader:
        """Lightning calls ``loader.sampler.set_epoch(epoch)`` before every epoch."""
        return self

    def __len__(self) -> int:
        return len(self._cuts)

    @property
    def _cuts(self) -> list[slice]:
        """The batches, as parts of an epoch's order."""
        size = len(self.images)
        starts = list(range(0, size, self.batch_size))
        if self.seed is not None and len(starts) > 1 and size - starts[-1] == 1:
            starts.pop()
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]

    def __iter__(self) -> Iterator[Batch]:
        # a generator: the epoch is read at the first batch, not when the iterator is made
        for pixels, targets, ids in self.pixel_batches(self._epoch):
            yield self._normalised(pixels), targets, ids

    def _normalised(self, pixels: Tensor) -> Tensor:
        if self._scale is None or self._shift is None:
            return pixels
        return pixels.float().mul_(self._scale).add_(self._shift)

    def pixel_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of ``epoch`` as uint8 pixels, augmented but not normalised; or features."""
        cuts = self._cuts
        if self.seed is None:
            for cut, pixels in zip(cuts, self._pick(cuts, epoch), strict=True):
                yield pixels, self.targets[cut], self.ids[cut]
            return
        device = self.images.device
        given = None if self.order is None else self.order(epoch)
        order = _epoch_order(len(self.images), self.seed, epoch) if given is None else given
        # what an image's augmentation is drawn by: a sample drawn twice is augmented twice
        keys = order if given is None else torch.arange(len(order))
        draws = _epoch_draws(len(self.images), self.augmentation, self.seed, epoch)[keys].to(device)
        places = order.to(device)
        chosen = [places[cut] for cut in cuts]
        names = None if given is None else [keys[cut] for cut in cuts]
        picks = self._pick(chosen, epoch, names)
        for cut, picked, pixels in zip(cuts, chosen, picks, strict=True):
            augmented = augment(pixels, draws[cut], self.augmentation)
            yield augmented, self.targets.index_select(0, picked), self.ids.index_select(0, picked)

    def _pick(
        self,
        places: Sequence[Tensor | slice],
        epoch: int,
        keys: Sequence[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """The images at each of ``places``, in turn; random crops are drawn by ``keys``."""
        if isinstance(self.images, Tensor):
            images = self.images
            return (
                images[at] if isinstance(at, slice) else images.index_select(0, at) for at in places
            )
        scale = self.augmentation.random_resized_crop
        return self.images.batches(places, scale, self.seed, epoch, keys)


def _epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """(N,) int64 on the CPU: a permutation of the images."""
    draws = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(size, generator=draws)


def _epoch_draws(size: int, augmentation: Augmentation, seed: int, epoch: int) -> Tensor:
    """(N, 3) int64 on the CPU: crop row, crop column (0 to 2 crop_padding) and flip (0 or 1)."""
    draws = torch.Generator().manual_seed(derive_seed(seed, "augmentation", epoch))
    corners = torch.randint(2 * augmentation.crop_padding + 1, (size, 2), generator=draws)
    flips = torch.randint(2, (size, 1), generator=draws)
    return torch.cat((corners, flips), dim=1)


def augment(pixels: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Crop and flip every image of a batch by its own draws.

    Args:
        pixels: (B, C, H, W) uint8.
        draws: (B, 3) int64 on the same device: crop row, crop column, flip.
        augmentation: which of the two to do.

    Returns (B, C, H, W) uint8.
    """
    if augmentation.crop_padding:
        pixels = _crop(pixels, draws[:, 0], draws[:, 1], augmentation.crop_padding)
    if augmentation.flip:
        # picking each image from both versions copies whole images, unlike a masked choice
        size = len(pixels)
        both = torch.cat((pixels, pixels.flip(-1)))
        pixels = both.index_select(0, torch.arange(size, device=pixels.device) + draws[:, 2] * size)
    return pixels


def _crop(pixels: Tensor, rows: Tensor, columns: Tensor, padding: int) -> Tensor:
    """The window of the original size at (row, column) of each zero-padded image.

    A row of a window is one run of W bytes of the padded batch, so the windows are picked as
    B C H runs from a view that holds every run of W bytes.
    """
    batch, channels, height, width = pixels.shape
    padded = pad(pixels, (padding, padding, padding, padding))
    _, _, tall, wide = padded.shape
    device = pixels.device
    first = torch.arange(batch * channels, device=device).view(batch, channels, 1) * (tall * wide)
    lines = torch.arange(height, device=device) * wide
    starts = first + (rows * wide + columns).view(batch, 1, 1) + lines
    runs = padded.flatten().unfold(0, width, 1)
    return runs.index_select(0, starts.flatten()).view(pixels.shape)


def first_batches_fingerprint(loader: BatchLoader, batches: int = 4) -> str:
    """SHA-256 over ids and augmented pixels of the first ``batches`` batches of epoch 0."""
    digest = hashlib.sha256()
    for pixels, _, ids in islice(loader.pixel_batches(0), batches):
        digest.update(ids.cpu().numpy().tobytes())
        digest.update(pixels.cpu().numpy().tobytes())
    return digest.hexdigest()
