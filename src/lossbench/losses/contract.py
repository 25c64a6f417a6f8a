"""What every loss does alike: check its input, compute in float32 or better, reduce.

A loss is a functional core, ``(logits, target, ...) -> (N,)`` on plain tensors without checks,
and a thin subclass of `Loss` that hands it the parameters.
"""

from __future__ import annotations

import reprlib
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossbench.errors import InputError, unknown
from lossbench.losses.catalogue import LossFacts, check_parameters, facts

REDUCTIONS = ("mean", "sum", "none")


class Loss(nn.Module):
    """``loss(logits, target)``: a scalar, or one value per sample with ``reduction="none"``.

    ``logits``  (N, C), any floating dtype. 16-bit logits are computed in float32 whatever autocast
                says, and float64 stays float64; the result has the dtype of the computation.
    ``target``  (N,) int64 class indices or, where the catalogue says so, (N, C) probabilities.

    The mean divides by N, or by the sum of the class weights of the targets (``normalizer``).
    Ignored samples have no loss, no gradient and no part in that number; a mean over nothing is 0.

    Parameters are those of the catalogue, kept as attributes: numbers as python numbers, one
    number per class as a float64 buffer. A subclass names its ``key`` and defines `per_sample`;
    it may define `prepare`, `class_weight`, `decode`, `set_epoch` and `log_prior_shift`. Every
    one-dimensional buffer has an entry per class, and its length is checked against the logits.

    Raises `InputError` for bad parameters, class counts, shapes, dtypes and target values. On CUDA
    and under torch.compile a bad target value is an assertion on the device, which nothing waits
    for.
    """

    key: ClassVar[str]
    normalizer: str = "batch"
    ignore_index: int | None = None
    class_counts: Tensor

    def __init__(
        self, *, class_counts: Any = None, reduction: str = "mean", **parameters: Any
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        for name, value in check_parameters(self.key, parameters).items():
            if isinstance(value, list):
                self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
            else:
                setattr(self, name, value)
        if "class_counts" in self.facts.needs:
            self.register_buffer("class_counts", checked_counts(class_counts, self.key))
        self.prepare()

    @property
    def facts(self) -> LossFacts:
        """What the catalogue says about this loss."""
        return facts(self.key)

    @property
    def class_weight(self) -> Tensor | None:
        """(C,) float64, the factor on the loss of each class, or None."""
        return None

    def prepare(self) -> None:
        """Derive buffers and parameters; called once, when the attributes are set."""

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N,) losses of checked input: the call of the functional core."""
        raise NotImplementedError

    def decode(self, logits: Tensor) -> Tensor:
        """The logits to deploy and to evaluate: here, the logits."""
        return logits

    def log_prior_shift(self) -> Tensor | None:
        """s, (C,) float64, such that decode(logits) estimates log p(x|y) + log π_train + s + const.

        None is 0. So ``decode(logits) - s`` answers for the class shares of the training data,
        and ``decode(logits) - s - log π_train + log π`` for the shares π. A class of weight 0 has
        -inf. For a loss that is not proper, s is what its class terms do to the prior; the
        deviation that is its own remains.
        """
        return None if self.class_weight is None else self.class_weight.log()

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Tell the loss the epoch (from 0) of ``max_epochs``; most losses do not care."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The reduced loss; see the class."""
        check_shapes(logits, target, self.facts)
        self._check_width(logits.shape[1])
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            if target.dim() == 2:
                check_probabilities(target, self.ignore_index)
                return reduce(self.per_sample(logits, target.to(logits.dtype)), self.reduction)
            check_classes(target, logits.shape[1], self.ignore_index)
            kept = None
            if self.ignore_index is not None:
                kept = target != self.ignore_index
                target = target.where(kept, 0)
            losses = self.per_sample(logits, target)
            share = None if kept is None else kept.to(losses.dtype)
            if kept is not None:
                losses = losses.where(kept, 0)
            if self.class_weight is not None and self.normalizer == "weights":
                weight = self.class_weight.to(losses.dtype)[target]
                share = weight if share is None else weight * share
            return reduce(losses, self.reduction, share)

    def extra_repr(self) -> str:
        names = [p.name for p in self.facts.parameters if p.kind != "per_class"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in [*names, "reduction"])

    def _check_width(self, classes: int) -> None:
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.dim() == 1 and len(buffer) != classes:
                raise InputError(
                    f"{name} has {len(buffer)} entries but the logits have {classes} classes: "
                    "give one per class"
                )

    def _apply(self, fn: Any, recurse: bool = True) -> Loss:
        # Class statistics move between devices but keep their dtype: a module cast to bfloat16
        # would round a log prior to three digits. (mps has no float64.)
        statistics = {id(buffer) for buffer in self._buffers.values() if buffer is not None}

        def move(tensor: Tensor) -> Tensor:
            if id(tensor) not in statistics:
                return fn(tensor)
            device = fn(torch.empty(0, device=tensor.device)).device
            exact = torch.float32 if device.type == "mps" else torch.float64
            return tensor.to(device, exact if tensor.is_floating_point() else tensor.dtype)

        super()._apply(move, recurse)
        return self


def reduce(losses: Tensor, reduction: str, share: Tensor | None = None) -> Tensor:
    """(N,) losses as they are ("none"), their sum, or their mean.

    The mean is the sum over ``share.sum()``, where ``share`` (N,) says how much each sample counts
    (None: 1 each). A mean over nothing is 0.
    """
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    if share is None:
        return total / max(len(losses), 1)
    count = share.sum()
    return total / count.where(count > 0, 1)


def cast(vector: Tensor | None, logits: Tensor) -> Tensor | None:
    """A per-class ``vector`` in the dtype of the computation."""
    return None if vector is None else vector.to(logits.dtype)


def checked_counts(class_counts: Any, loss: str) -> Tensor:
    """Class counts as (C,) int64 on the CPU.

    Raises `InputError` unless they are one positive integer for each of at least two classes.
    """
    if class_counts is None:
        raise InputError(
            f"{loss} needs class_counts: give the number of training samples of each class"
        )
    try:
        counts = torch.as_tensor(class_counts, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise InputError("class_counts must be a list of positive integers") from None
    if counts.dim() != 1 or len(counts) < 2:
        raise InputError(
            f"class_counts of shape {tuple(counts.shape)} are not allowed: give one positive "
            "integer per class, for at least 2 classes"
        )
    for index, count in enumerate(counts.tolist()):
        if not (0 < count < float("inf") and count.is_integer()):
            raise InputError(
                f"class_counts[{index}]={count:g} is not allowed: a positive integer; leave out a "
                "class that has no training samples"
            )
    return counts.to(torch.int64)


def check_shapes(logits: Tensor, target: Tensor, about: LossFacts) -> None:
    """Raise `InputError` unless the shapes and dtypes are those that the loss takes."""
    shape = tuple(logits.shape)
    if len(shape) != 2 or shape[1] < 2:
        raise InputError(f"logits of shape {shape} are not allowed: (N, C) with C at least 2")
    if not logits.is_floating_point():
        raise InputError(f"logits of {logits.dtype} are not allowed: a floating dtype")
    if tuple(target.shape) == shape:
        if about.soft_targets != "direct":
            hint = (
                ": mix two losses instead, lam * loss(z, a) + (1 - lam) * loss(z, b)"
                if about.soft_targets == "mixed"
                else ""
            )
            raise InputError(f"{about.key} takes class indices, not (N, C) probabilities{hint}")
        if not target.is_floating_point():
            raise InputError(f"(N, C) targets of {target.dtype} are not allowed: probabilities")
    elif tuple(target.shape) != shape[:1]:
        raise InputError(
            f"target of shape {tuple(target.shape)} does not fit logits of shape {shape}: give "
            f"({shape[0]},) class indices or (N, C) probabilities"
        )
    elif target.dtype != torch.int64:
        raise InputError(f"class indices of {target.dtype} are not allowed: call target.long()")


def check_classes(target: Tensor, classes: int, ignore_index: int | None = None) -> None:
    """Raise `InputError` for a class index that is not in 0..classes-1, nor ``ignore_index``."""
    good, allowed = (target >= 0) & (target < classes), f"a class index from 0 to {classes - 1}"
    if ignore_index is not None:
        good, allowed = good | (target == ignore_index), f"{allowed}, or ignore_index"
    _require(good, target, allowed)


def check_probabilities(target: Tensor, ignore_index: int | None = None) -> None:
    """Raise `InputError` for a row that has negative entries or does not sum to 1.

    An ``ignore_index`` that names a class is refused too: a row of probabilities has no index.
    """
    if ignore_index is not None and ignore_index >= 0:
        raise InputError(f"ignore_index={ignore_index} is not allowed for (N, C) targets")
    total = target.sum(dim=1, dtype=torch.promote_types(target.dtype, torch.float32))
    tolerance = max(1e-4, 4 * torch.finfo(target.dtype).eps)
    good = ((total - 1).abs() <= tolerance) & (target.amin(dim=1) >= 0)
    _require(good, target, "probabilities that sum to 1")


def _require(good: Tensor, target: Tensor, allowed: str) -> None:
    """Raise `InputError` for the first target that is not ``good`` (N,).

    On CUDA, where looking would wait for the device, and in a compiled graph: assert there.
    """
    if good.is_cuda or torch.compiler.is_compiling():
        torch._assert_async(good.all(), f"a target is not allowed: {allowed}")
    elif not good.all():
        value = reprlib.repr(target[~good][0].tolist())
        raise InputError(f"target {value} is not allowed: {allowed}")
