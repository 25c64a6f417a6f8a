"""From logits and targets to numbers: pure functions on numpy arrays, float64 inside, no torch.

`evaluate` is the one door; the modules behind it each hold one kind of number, and hand each other
nothing but arrays: logits to probabilities, probabilities to calibration, selective prediction and
ranking, logits to a confusion matrix, a confusion matrix to everything that needs only predictions
and to the bootstrap interval, losses to histograms.
"""

from __future__ import annotations

from lossbench.evaluation.histograms import LOG10_LOSS_EDGES, loss_histogram
from lossbench.evaluation.summary import Evaluation, evaluate

__all__ = ["LOG10_LOSS_EDGES", "Evaluation", "evaluate", "loss_histogram"]
