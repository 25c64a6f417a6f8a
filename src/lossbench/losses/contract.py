"""What every loss does alike: check its input, compute in float32 or better, reduce.

A loss is a functional core, ``(logits, target, ...) -> (N,)`` on plain tensors without checks,
and a thin subclass of `Loss` that hands it the parameters.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossbench.errors import InputError, unknown
from lossbench.losses.catalogue import LossFacts, check_parameters, facts
from lossbench.losses.display import docstring
from lossbench.losses.schema import IGNORE_INDEX
from lossbench.parameters import Parameter

REDUCTIONS = ("mean", "sum", "none")


class Loss(nn.Module):
    """``loss(logits, target)``: a scalar, or one value per sample with ``reduction="none"``.

    ``logits``    (N, C), any floating dtype. 16-bit logits are computed in float32 whatever
                  autocast says, and float64 stays float64; the result has that dtype.
    ``target``    (N,) int64 class indices or, where the catalogue says so, (N, C) probabilities.
    ``features``  (N, F), what the head was given, and ``weight`` (C, F), the head's weight: for the
                  losses that need features; the others ignore both.

    The mean divides by N, or by the sum of the class weights of the targets (``normalizer``).
    Samples whose target is ``ignore_index`` have no loss, no gradient and no part in that number;
    a mean over nothing is 0. A penalty on the whole batch is added to the loss of every sample.

    Parameters are those of the catalogue, kept as attributes: a number per class as a float64
    buffer, all else as python values. A subclass names its ``key`` and defines `per_sample`; it may
    define `prepare`, `class_weight`, `batch_penalty`, `observe`, `deployed` and `log_prior_shift`.
    Every one-dimensional buffer has an entry per class, and its length is checked against the
    logits. All state is in persistent buffers, and in data-parallel training the same on every
    process; ``whole_batches`` says that each process is given the whole batch, not its part of it.

    Raises `InputError` for bad parameters, class counts, shapes, dtypes and target values. On CUDA
    and under torch.compile a bad target value is an assertion on the device, which nothing waits
    for.
    """

    key: ClassVar[str]
    normalizer: str = "batch"  # of a loss without class weights
    whole_batches: bool = False
    class_counts: Tensor
    epoch: Tensor
    max_epochs: Tensor
    ignore_index: int

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__doc__ = docstring(cls.key)  # one text, here and on the command line

    def __init__(
        self,
        *,
        class_counts: Any = None,
        reduction: str = "mean",
        ignore_index: int = -100,
        **parameters: Any,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        checked = check_parameters(self.key, parameters)
        for parameter in self.facts.parameters:
            value = checked[parameter.name]
            if parameter.kind == "per_class" and value is not None:
                self.register_buffer(parameter.name, torch.tensor(value, dtype=torch.float64))
            else:
                setattr(self, parameter.name, value)
        # Every loss takes ignore_index. In cross_entropy's config it is a parameter too: there the
        # loop has just set it, to its default.
        IGNORE_INDEX.check(ignore_index, "ignore_index")
        self.ignore_index = ignore_index
        if "class_counts" in self.facts.needs:
            self.register_buffer("class_counts", checked_counts(class_counts, self.key))
        if "epoch" in self.facts.needs:
            self.register_buffer("epoch", torch.zeros((), dtype=torch.float64))
            self.register_buffer("max_epochs", torch.ones((), dtype=torch.float64))
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
        """(N,) losses of checked input: the call of the functional core.

        Losses that need features have ``features`` and ``weight`` as further arguments.
        """
        raise NotImplementedError

    def deployed(self, logits: Tensor) -> Tensor:
        """What `decode` gives, of logits in float32 or better."""
        return logits

    def batch_penalty(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor | None:
        """A scalar on the whole batch, or None; ``kept`` (N,) bool says which samples count."""
        return None

    def observe(self, target: Tensor, classes: int, kept: Tensor | None) -> None:
        """Take a training batch's targets into the running state, before its losses."""

    def decode(
        self, logits: Tensor, features: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """The logits to deploy and to evaluate, (N, C), in float32 or better.

        No margin and no class frequency is in them. Raises `InputError` where they are made of the
        features too (sphereface) and those are missing.
        """
        return self.deployed(at_least_float32(logits))

    def log_prior_shift(self) -> Tensor | None:
        """s, (C,) float64, such that decode(logits) estimates log p(x|y) + log π_train + s + const.

        None is 0. So ``decode(logits) - s`` answers for the class shares of the training data,
        and ``decode(logits) - s - log π_train + log π`` for the shares π. A class of weight 0 has
        -inf. For a loss that is not proper, s is what its class terms do to the prior; the
        deviation that is its own remains.
        """
        return None if self.class_weight is None else self.class_weight.log()

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Tell the loss that ``epoch`` (from 0) of ``max_epochs`` begins; most do not care.

        Raises `InputError` unless 0 <= epoch < max_epochs.
        """
        whole = Parameter(name="max_epochs", kind="integer", minimum=1)
        last = int(whole.check(max_epochs, "max_epochs")) - 1  # type: ignore[arg-type]
        Parameter(name="epoch", kind="integer", minimum=0, maximum=last).check(epoch, "epoch")
        if "epoch" in self.facts.needs:
            self.epoch.fill_(epoch)
            self.max_epochs.fill_(max_epochs)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The reduced loss; see the class."""
        check_shapes(logits, target, self.facts)
        self._check_width(logits.shape[1])
        if weight is not None and weight.dim() != 2:
            raise InputError(
                f"weight of shape {tuple(weight.shape)} is not allowed at the call: there it is "
                "the weight (C, F) of the head; class weights are given to create_loss"
            )
        device = logits.device.type
        low_precision = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if low_precision else nullcontext():
            logits = at_least_float32(logits)
            head = self._head(logits, features, weight)
            per_sample: Callable[..., Tensor] = self.per_sample
            if target.dim() == 2:  # no row is ignored or counted; the mean divides by N, as torch's
                check_probabilities(target, self.ignore_index)
                losses = per_sample(logits, target.to(logits.dtype), *head)
                return reduce(losses, self.reduction)
            kept = kept_samples(target, logits.shape[1], self.ignore_index)
            if kept is not None:
                target = target.where(kept, 0)
            if self.training:
                self.observe(target, logits.shape[1], kept)
            losses = per_sample(logits, target, *head)
            penalty = self.batch_penalty(logits, target, kept)
            if penalty is not None:
                losses = losses + penalty
            share = self.share(target, losses.dtype)
            if kept is not None:
                losses = losses.where(kept, 0)
                share = kept.to(losses.dtype) if share is None else share.where(kept, 0)
            return reduce(losses, self.reduction, share)

    def share(self, target: Tensor, dtype: torch.dtype) -> Tensor | None:
        """(N,) how much each sample counts in what the mean divides by; None for 1 each.

        Its class weight where ``normalizer`` is weights; for (N, C) probabilities the expected one.
        """
        if self.class_weight is None or self.normalizer != "weights":
            return None
        weight = self.class_weight.to(dtype)
        return weight[target] if target.dim() == 1 else target.to(dtype) @ weight

    def extra_repr(self) -> str:
        names = [p.name for p in self.facts.parameters if p.kind != "per_class"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in [*names, "reduction"])

    def _head(
        self, logits: Tensor, features: Tensor | None, weight: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if "features" not in self.facts.needs:
            return ()
        return checked_head(self.key, logits, features, weight)

    def _check_width(self, classes: int) -> None:
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.dim() == 1 and len(buffer) not in (0, classes):
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
    if reduction == "sum" or not len(losses):
        return losses.sum()
    if share is None:
        return losses.mean()
    count = share.sum()
    return losses.sum() / count.where(count > 0, 1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """``tensor`` as it is if it is float64, else in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


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
        raise InputError(
            f"class_counts={reprlib.repr(class_counts)} is not allowed: a list of positive integers"
        ) from None
    if counts.dim() != 1 or len(counts) < 2:
        raise InputError(
            f"class_counts of shape {tuple(counts.shape)} are not allowed: give one positive "
            "integer per class, for at least 2 classes"
        )
    for index, count in enumerate(counts.tolist()):
        if not (0 < count < float("inf") and count.is_integer()):
            raise InputError(
                f"class_counts[{index}]={count:g} is not allowed: a positive integer; a class "
                "without training samples must leave the model, and the others be renumbered"
            )
    return counts.to(torch.int64)


def check_shapes(logits: Tensor, target: Tensor, about: LossFacts) -> None:
    """Raise `InputError` unless the shapes and dtypes are those that the loss takes."""
    for name, given in (("logits", logits), ("target", target)):
        if not isinstance(given, Tensor):
            raise InputError(
                f"{name} of {type(given).__name__} are not allowed: give a torch.Tensor"
            )
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
            raise InputError(
                f"(N, C) targets of {target.dtype} are not allowed: probabilities; call "
                "target.float()"
            )
    elif tuple(target.shape) != shape[:1]:
        raise InputError(
            f"target of shape {tuple(target.shape)} does not fit logits of shape {shape}: give "
            f"({shape[0]},) class indices or (N, C) probabilities"
        )
    elif target.dtype != torch.int64:
        raise InputError(f"class indices of {target.dtype} are not allowed: call target.long()")


def kept_samples(target: Tensor, classes: int, ignore_index: int) -> Tensor | None:
    """(N,) bool, which targets are not ``ignore_index``; None where that is known to be all.

    Raises `InputError` for a class index that is not in 0..classes-1, nor ``ignore_index``.
    """
    if _may_look(target):
        low, high = (int(end) for end in target.aminmax()) if len(target) else (0, 0)
        if low >= 0 and high < classes and not low <= ignore_index <= high:
            return None
    kept = target != ignore_index
    good = ((target >= 0) & (target < classes)) | ~kept
    _require(good, target, f"a class index from 0 to {classes - 1}, or ignore_index={ignore_index}")
    return kept


def check_probabilities(target: Tensor, ignore_index: int) -> None:
    """Raise `InputError` for a row that has negative entries or does not sum to 1.

    An ``ignore_index`` that names a class is refused too: a row of probabilities has no index.
    """
    if ignore_index >= 0:
        raise InputError(f"ignore_index={ignore_index} is not allowed for (N, C) targets")
    total = target.sum(dim=1, dtype=torch.promote_types(target.dtype, torch.float32))
    tolerance = max(1e-4, 4 * torch.finfo(target.dtype).eps)
    good = ((total - 1).abs() <= tolerance) & (target.amin(dim=1) >= 0)
    _require(good, target, "probabilities that sum to 1")


def checked_head(
    loss: str, logits: Tensor, features: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """``features`` and ``weight`` in the dtype of the computation.

    Raises `InputError` if the features are missing or a shape does not fit.
    """
    if features is None:
        raise InputError(
            f"{loss} needs features: give features=, what the head was given, beside the logits"
        )
    n, classes = logits.shape
    if features.dim() != 2 or len(features) != n or not features.is_floating_point():
        raise InputError(
            f"features of shape {tuple(features.shape)} and {features.dtype} are not allowed: give "
            f"({n}, F) of a floating dtype, what the head was given"
        )
    if weight is None:
        return features.to(logits.dtype), None
    if tuple(weight.shape) != (classes, features.shape[1]):
        raise InputError(
            f"weight of shape {tuple(weight.shape)} is not allowed: give "
            f"({classes}, {features.shape[1]}), the weight of the head"
        )
    return features.to(logits.dtype), weight.to(logits.dtype)


def _may_look(tensor: Tensor) -> bool:
    """Whether reading a value costs no wait: not on CUDA, nor while a graph is compiled."""
    return not (tensor.is_cuda or torch.compiler.is_compiling())


def _require(good: Tensor, target: Tensor, allowed: str) -> None:
    """Raise `InputError` for the first target that is not ``good`` (N,).

    Where looking would wait for the device, and in a compiled graph: assert there.
    """
    if not _may_look(good):
        torch._assert_async(good.all(), f"a target is not allowed: {allowed}")
    elif not good.all():
        value = reprlib.repr(target[~good][0].tolist())
        raise InputError(f"target {value} is not allowed: {allowed}")
