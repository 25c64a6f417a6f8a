"""The shape of a loss: its value and its pull on the logits, along one path of logits.

The path has ten classes. The logit of the true class, g, runs; the others stay at values spread
evenly from 0 down to −1 in class order, so that a runner-up and a norm are well defined. These are
the logits that a linear head would give. What a loss of another kind is given, so that
decode(logits) is on that same scale:

cosine head     the logits over the loss's scale (over `LENGTH` where it has none), in [−1, 1]
one against     z_j = logit(softmax(path)_j): the sigmoids are the probabilities of the path, so
all others      p_y means the same for every loss
features        one feature vector x = `LENGTH` · e_0 for every point, and a head whose rows have
                length 1: w_j = cos_j e_0 + sqrt(1 − cos_j²) e_j, cos_j the logit over `LENGTH`
                (for a cosine head, the logit). So x·w_j is the logit, |w_j||x| is `LENGTH`, and
                |x|_1 does not change along the path
batch           each point is a batch of one
class counts    `COUNTS`, which a loss with running counts has been trained on before
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lossbench.losses import create_loss
from lossbench.losses.contract import Loss

CLASSES = 10
COUNTS = [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
"""Training samples per class: the exponential profile with factor 100."""
GAPS = (-10.0, 12.0)
"""The ends of a curve in the decoded logit gap, where the loss can reach them."""
LENGTH = 30.0
"""|x| for losses that need features; also the scale of cosines for a loss that has no scale."""
POINTS = 262
"""Even, so that none lies on a gap of 0, where a tie would be broken by the class number."""
MAX_EPOCHS = 100

HELD_FIXED = (
    f"Of {CLASSES} logits only the true class's moves; the others stay at 0, −1/8, −2/8, ..., −1."
)

_HEAD, _TAIL = 0, CLASSES - 1


@dataclass(frozen=True, eq=False)
class Curve:
    """One loss along the path; four arrays of the same length, ordered by the gap.

    name         the loss, with the parameters that were given: "focal" or "focal(gamma=1)"
    true_class   "head" (500 samples) or "tail" (5) where these differ, else ""
    epoch        "first" or "last" where these differ, else ""
    probability  p_y = softmax(decode(z))_y of the true class y
    gap          decode(z)_y − max_{j≠y} decode(z)_j, in nats
    loss         L in nats
    gradient     −dL/dgap along the path, nats per nat: how hard the loss pulls the gap open. Being
                 (dL/dg)/(dgap/dg), it does not depend on the scale of the logits
    held_fixed   what else is held fixed for this loss, in words
    """

    name: str
    true_class: str
    epoch: str
    probability: NDArray[np.float64]
    gap: NDArray[np.float64]
    loss: NDArray[np.float64]
    gradient: NDArray[np.float64]
    held_fixed: tuple[str, ...]

    @property
    def label(self) -> str:
        """ "ldam, tail class (5)", "maxsup, first epoch": the name and what differs."""
        count = COUNTS[_TAIL if self.true_class == "tail" else _HEAD]
        parts = [self.name]
        parts += [f"{self.true_class} class ({count})"] if self.true_class else []
        parts += [f"{self.epoch} epoch"] if self.epoch else []
        return ", ".join(parts)


def anatomy(name: str, **parameters: Any) -> list[Curve]:
    """The curves of the loss ``name`` with these ``parameters``, in float64 on the CPU.

    One curve; two where the largest and the smallest class differ; and again for the first and the
    last epoch where these differ. Raises `InputError` for an unknown name or a bad parameter.
    """
    loss = create_loss(name, class_counts=COUNTS, reduction="none", **parameters)
    if "state" in loss.facts.needs:  # in training mode, as it was made
        counted = torch.arange(CLASSES).repeat_interleave(torch.tensor(COUNTS))
        loss(torch.zeros(len(counted), CLASSES), counted)
    loss.eval()
    epochs = {}
    for epoch, number in {"first": 0, "last": MAX_EPOCHS - 1}.items():
        loss.set_epoch(number, MAX_EPOCHS)
        epochs[epoch] = {"head": _trace(loss, _HEAD), "tail": _trace(loss, _TAIL)}
    if all(_same(epochs["first"][rank], epochs["last"][rank]) for rank in ("head", "tail")):
        epochs = {"": epochs["last"]}
    title = name
    if parameters:
        title += f"({', '.join(f'{key}={reprlib.repr(v)}' for key, v in parameters.items())})"
    held_fixed = _held_fixed(loss, parameters)
    curves = []
    for epoch, ranks in epochs.items():
        alike = _same(ranks["head"], ranks["tail"])
        for rank, arrays in ({"": ranks["head"]} if alike else ranks).items():
            curves.append(Curve(title, rank, epoch, *arrays, held_fixed))
    return curves


def _held_fixed(loss: Loss, parameters: dict[str, Any]) -> tuple[str, ...]:
    words = [] if parameters else ["parameters have their defaults"]
    if loss.facts.needs & {"class_counts", "state"}:
        words.append(f"training samples per class fall from {COUNTS[0]} to {COUNTS[-1]}")
    if loss.facts.heads == "cosine":
        words.append(f"cosine heads give these logits divided by {_scale(loss):g}")
    if "features" in loss.facts.needs:
        words.append(f"features have length {LENGTH:g}, the rows of the head's weight 1")
    if _one_against_all(loss):
        words.append("one-vs-rest losses get logits whose sigmoids are these logits' softmax")
    if "batch" in loss.facts.needs:
        words.append("each point is a batch of one")
    return tuple(words)


Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _trace(loss: Loss, true: int) -> Arrays:
    """(probability, gap, loss, gradient), evenly spaced in the gap as far as the loss reaches."""
    g = _places(loss, true).requires_grad_()
    logits = _logits(loss, g, true)
    target = torch.full((len(g),), true)
    if loss.facts.needs & {"batch", "features"}:
        rows = zip(logits.split(1), target.split(1), strict=True)
        losses = torch.cat([loss(row, one, *_head(loss, row)) for row, one in rows])
    else:
        losses = loss(logits, target)
    decoded = loss.decode(logits, _features(logits))
    gap = _gap(decoded, true)
    (loss_slope,) = torch.autograd.grad(losses.sum(), g, retain_graph=True)
    (gap_slope,) = torch.autograd.grad(gap.sum(), g, retain_graph=True)
    probability = decoded.softmax(dim=1)[:, true]
    arrays = probability, gap, losses, -loss_slope / gap_slope
    return tuple(array.detach().numpy() for array in arrays)  # type: ignore[return-value]


def _places(loss: Loss, true: int) -> Tensor:
    """(`POINTS`,) values of g at which the gap is evenly spaced within `GAPS`."""
    bounded = loss.facts.heads == "cosine" or "features" in loss.facts.needs
    reach = _scale(loss) if bounded else 1000.0
    g = torch.linspace(-1, 1, 1001, dtype=torch.float64).mul(np.arcsinh(reach)).sinh()
    logits = _logits(loss, g, true)
    with torch.no_grad():
        gap = _gap(loss.decode(logits, _features(logits)), true).numpy()
    wanted = np.linspace(max(GAPS[0], gap[0]), min(GAPS[1], gap[-1]), POINTS)
    return torch.from_numpy(np.interp(wanted, gap, g.numpy()))


def _logits(loss: Loss, g: Tensor, true: int) -> Tensor:
    """(P, C): what the head would give at each ``g`` (P,)."""
    others = torch.linspace(0, -1, CLASSES - 1, dtype=g.dtype).expand(len(g), -1)
    path = torch.cat([others[:, :true], g[:, None], others[:, true:]], dim=1)
    if loss.facts.heads == "cosine":
        return path / _scale(loss)
    if _one_against_all(loss):
        rest = path[:, None, :].masked_fill(torch.eye(CLASSES, dtype=torch.bool), -torch.inf)
        return path - rest.logsumexp(dim=2)  # log p/(1−p)
    return path


def _scale(loss: Loss) -> float:
    return float(getattr(loss, "scale", LENGTH)) if loss.facts.heads == "cosine" else LENGTH


def _one_against_all(loss: Loss) -> bool:
    """Whether the loss decodes to log sigmoid(z), which is how those losses are known."""
    z = torch.linspace(-3, 3, CLASSES, dtype=torch.float64)[None]
    with torch.no_grad():
        return torch.allclose(loss.decode(z, _features(z)), F.logsigmoid(z))


def _head(loss: Loss, row: Tensor) -> tuple[Tensor, ...]:
    """Features (1, C+1) and weight (C, C+1) of the head that gives the logits ``row`` (1, C)."""
    if "features" not in loss.facts.needs:
        return ()
    cosine = row[0] if loss.facts.heads == "cosine" else row[0] / LENGTH
    return _features(row), torch.cat([cosine[:, None], (1 - cosine**2).sqrt().diag()], dim=1)


def _features(logits: Tensor) -> Tensor:
    """(P, C+1) for logits (P, C): the first coordinate is `LENGTH`, the others are 0."""
    first = torch.eye(1, CLASSES + 1, dtype=logits.dtype)
    return (LENGTH * first).expand(len(logits), -1)


def _gap(decoded: Tensor, true: int) -> Tensor:
    others = torch.cat([decoded[:, :true], decoded[:, true + 1 :]], dim=1)
    return decoded[:, true] - others.max(dim=1).values


def _same(first: Arrays, second: Arrays) -> bool:
    return all(np.allclose(a, b, rtol=1e-7, atol=1e-9) for a, b in zip(first, second, strict=True))
