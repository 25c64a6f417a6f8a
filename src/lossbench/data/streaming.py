"""Pixels of image files, decoded by worker processes or taken from memory.

Nothing is random here but the random resized crop, whose seed depends on (seed, epoch, image): the
pixels are the same for every number of workers and whether or not they were kept in memory.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from lossbench.data.decoding import (
    Pixels,
    PixelStore,
    UnreadableImageError,
    in_threads,
    refuse,
)
from lossbench.data.image_files import ImageFiles
from lossbench.data.selection import FileRows
from lossbench.seeding import derive_seed

log = logging.getLogger("lossbench")

MOST_WORKERS = 8
Scale = tuple[float, float]  # least and most share of the area
Draw = tuple[Scale, int, int]  # scale, seed, epoch
Request = tuple[NDArray[np.int64], NDArray[np.int64], Draw | None]  # rows, keys of their draws


class _Batches(Dataset[Any]):
    """From a request for images to their pixels (B, C, size, size) uint8; runs in the workers."""

    def __init__(self, files: ImageFiles, store: PixelStore | None) -> None:
        self.files = files
        self.store = store

    def __getitem__(self, request: Request) -> Tensor | UnreadableImageError:
        rows, keys, draw = request
        try:
            pairs = zip(rows.tolist(), keys.tolist(), strict=True)
            # contiguous, whatever the layout of a crop: the same arithmetic for every batch
            return torch.stack([self._image(row, key, draw) for row, key in pairs]).contiguous()
        except UnreadableImageError as error:  # raised here, it would come with a traceback
            return error

    def _image(self, row: int, key: int, draw: Draw | None) -> Tensor:
        kept = self.store is not None and row in self.store
        pixels: Pixels = self.store[row] if kept else self.files.decode(row)  # type: ignore[index]
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        size = self.files.format.size
        if draw is None:
            return v2.functional.center_crop(image, [size, size])
        scale, seed, epoch = draw
        return random_resized_crop(
            image, size, scale, derive_seed(seed, "augmentation", epoch, key)
        )


def random_resized_crop(image: Tensor, size: int, scale: Scale, seed: int) -> Tensor:
    """torchvision's ``v2.RandomResizedCrop(size, scale)``, drawn from ``seed`` alone.

    Args:
        image: (C, H, W) uint8.
        size: height and width of the result.
        scale: least and most share of the area; the window's sides are 3:4 to 4:3.
        seed: the global generator is left where it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        cropped: Tensor = _crop(size, scale)(image)
    return cropped


_crop = cache(v2.RandomResizedCrop)  # building it takes a seventh of the time of a crop


class Decoder:
    """Decodes the image files of a run; its worker processes serve all parts, one at a time.

    Args:
        parts: the files of the run, training first; all of one `ImageFiles`.
        cache_mb: mebibytes of decoded images to keep in memory; None keeps none. Those that fit
            are decoded here, and raise `InputError` where that fails.
        workers: processes; 0 decodes in this one. None takes one per core that is not the
            trainer's, at most 8, and none where all images are in memory.
    """

    def __init__(
        self, parts: Sequence[FileRows], cache_mb: int | None, workers: int | None
    ) -> None:
        self._files = files = parts[0].files
        self._rows = rows = np.concatenate([part.rows for part in parts])
        kept = 0
        store = None
        if cache_mb is not None:
            store = pixel_store(files, cache_mb)
            kept = store.fill(rows, files.decode)
            if kept < len(rows):
                log.warning(
                    "data.cache_mb=%d holds %d of %d images; the others are decoded in each epoch",
                    *(cache_mb, kept, len(rows)),
                )
        if workers is None:
            workers = 0 if kept == len(rows) else _spare_cores()
        self.workers = workers
        self._requests: list[Request] = []
        self._turn = 0
        self._loader = DataLoader(
            _Batches(files, store),
            batch_size=None,
            sampler=_Current(self._requests),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it would draw from the global one
            # forked workers share the images in memory
            multiprocessing_context="fork" if workers and _can_fork() else None,
        )

    def batches(self, requests: Sequence[Request]) -> Iterator[Tensor]:
        """The pixels of each request, in order, on the CPU.

        Where one cannot be decoded, all images of the run are decoded once, and the `InputError`
        counts those that cannot.
        """
        self._requests[:] = requests
        self._turn += 1
        turn = self._turn
        decoded = iter(self._loader)
        for _ in requests:
            if turn != self._turn:
                raise RuntimeError("another part's batches were asked for before these were done")
            pixels = next(decoded)
            if isinstance(pixels, UnreadableImageError):
                self._count_unreadable()
                raise pixels  # it can be read now
            yield pixels

    def _count_unreadable(self) -> None:
        """Raise the `InputError` that counts and names the images which cannot be decoded."""
        rows = np.unique(self._rows).tolist()
        log.warning("an image cannot be decoded: looking for others among %d", len(rows))
        decoded = in_threads(self._files.decode, rows)
        errors = [("", error) for _, error in decoded if isinstance(error, UnreadableImageError)]
        refuse(errors, len(rows))

    def close(self) -> None:
        """End the worker processes; they would otherwise wait for the garbage collector."""
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None and self.workers:
            iterator._shutdown_workers()
            self._loader._iterator = None


class _Current:
    """The requests of the iteration that begins."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


class Stream:
    """The images at ``rows`` of a `Decoder`'s files, moved to ``device`` batch by batch."""

    def __init__(self, decoder: Decoder, rows: NDArray[np.int64], device: torch.device) -> None:
        self.decoder = decoder
        self.rows = rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> Stream:
        """The same images, for another device."""
        return Stream(self.decoder, self.rows, torch.device(device))

    def batches(
        self,
        places: Sequence[Tensor | slice],
        scale: Sequence[float] | None,
        seed: int | None,
        epoch: int,
        keys: Sequence[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """(B, C, size, size) uint8 for each of ``places``, which are indices into ``rows``.

        With ``scale`` and ``seed`` random resized crops of ``epoch``, else the centres. A crop is
        drawn by its image, or by the number that ``keys`` gives it where images come twice.
        """
        draw = None
        if scale is not None and seed is not None:
            draw = (scale[0], scale[1]), seed, epoch
        rows = [self.rows[at if isinstance(at, slice) else at.cpu().numpy()] for at in places]
        names = rows if keys is None else [key.numpy() for key in keys]
        requests = [(at, name, draw) for at, name in zip(rows, names, strict=True)]
        for pixels in self.decoder.batches(requests):
            yield pixels.to(self.device, non_blocking=True)


@cache
def pixel_store(files: ImageFiles, cache_mb: int) -> PixelStore:
    """The store of ``files``, which all runs of a process share."""
    return PixelStore(files.shapes, files.format.channels, cache_mb * 2**20)


def _spare_cores() -> int:
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, cores - torch.get_num_threads()))


def _can_fork() -> bool:
    return os.name == "posix" and "fork" in multiprocessing.get_all_start_methods()
