"""Classification losses behind one contract; usable without the rest of the package.

>>> from lossbench.losses import create_loss
>>> loss = create_loss("focal", gamma=2.0)
>>> value = loss(logits, target)  # logits (N, C); target (N,) class indices  # doctest: +SKIP

Importing this package, or its ``catalogue``, imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lossbench.losses.catalogue import LOSSES, facts

if TYPE_CHECKING:
    from lossbench.losses.contract import Loss

__all__ = ["create_loss", "list_losses"]


def create_loss(
    name: str,
    *,
    class_counts: Any = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    **parameters: Any,
) -> Loss:
    """The loss called ``name``, an ``nn.Module`` (see `lossbench.losses.contract.Loss`).

    ``class_counts``  training samples per class, in class order; a loss that does not need them
                      ignores them, so that a caller may always pass them
    ``reduction``     "mean" or "sum" for a scalar, "none" for one value per sample
    ``ignore_index``  samples with this target have no loss, no gradient and no part in the mean
    ``parameters``    those of the catalogue; what is left out has its default

    Called as ``loss(logits, target)``; losses with needs (`lossbench losses`) also want
    ``set_epoch(epoch, max_epochs)`` at the start of each epoch, or ``features=`` and ``weight=`` at
    the call; those on a cosine head take cosines for logits. ``loss.decode(logits)`` are the logits
    to deploy.

    Raises `InputError` for an unknown name, parameter or reduction, a value out of range, and
    class counts that are needed but missing, or are not positive integers.
    """
    module, class_name = facts(name).implementation.split(":")
    build: type[Loss] = getattr(import_module(module), class_name)
    return build(
        class_counts=class_counts, reduction=reduction, ignore_index=ignore_index, **parameters
    )


def list_losses() -> list[str]:
    """The names that `create_loss` takes, family by family."""
    return list(LOSSES)
