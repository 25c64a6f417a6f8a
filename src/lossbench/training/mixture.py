"""The targets of a batch in which every image is made of two."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True, eq=False)
class Mixture:
    """Two targets per image: ``share`` of the ``first``, the rest of the ``second``.

    Attributes:
        first: (N,) int64.
        second: (N,) int64.
        share: () or (N,) float32 in [0, 1]: one for the batch, or one per image.
    """

    first: Tensor
    second: Tensor
    share: Tensor

    @property
    def parts(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Both targets with their shares; shares of a target sum to 1 over the two."""
        return (self.first, self.share), (self.second, 1 - self.share)

    def soft(self, classes: int) -> Tensor:
        """(N, C) float32, the shares as probabilities."""
        first, second = (one_hot(y, classes) * share.view(-1, 1) for y, share in self.parts)
        return first + second


Targets = Tensor | Mixture
