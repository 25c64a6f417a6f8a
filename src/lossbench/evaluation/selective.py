"""Does confidence tell right from wrong? Selective prediction: refuse what is least certain.

Samples are accepted in the order of falling confidence. At coverage ``k / N`` the k most confident
are accepted; ``E_k`` of them are wrong. Samples of equal confidence come in no order: ``E_k`` is
its mean over all their orders, which grows evenly through the tie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lossbench.evaluation.probabilities import Floats


def errors_accepted(confidence: Floats, correct: NDArray[np.bool_]) -> Floats:
    """``E_1 ... E_N``, ``(N,)``: the errors among the k most confident samples.

    Args:
        confidence: ``(N,)``, any score that ranks.
        correct: ``(N,)``, whether the prediction was right.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.concatenate([[0.0], np.cumsum(~correct[order])])
    # Where one tie ends and the next begins; in between, the line from end to end.
    steps = np.flatnonzero(np.diff(confidence[order])) + 1
    ends = np.concatenate([[0], steps, [len(order)]])
    return np.interp(np.arange(1, len(order) + 1), ends, wrong[ends])


def area_under_risk_coverage_curve(errors: Floats) -> float:
    """``1/N sum_k E_k / k`` (AURC; Geifman, Uziel and El-Yaniv, ICLR 2019), from 0 to 1.

    Args:
        errors: ``(N,)`` of `errors_accepted`, N of 1 or more.
    """
    return float((errors / np.arange(1, len(errors) + 1)).mean())


def excess_area_under_risk_coverage_curve(errors: Floats) -> float:
    """The area above that of the best order, all errors last (E-AURC, same source); 0 or more."""
    samples = len(errors)
    best = np.maximum(0.0, np.arange(1, samples + 1) - (samples - errors[-1]))
    excess = area_under_risk_coverage_curve(errors) - area_under_risk_coverage_curve(best)
    return max(0.0, excess)


def area_under_generalized_risk_coverage_curve(errors: Floats) -> float:
    """The integral of ``E_k / N`` over the coverage (AUGRC; Traub et al., NeurIPS 2024), 0 to 1/2.

    By the trapezoidal rule from coverage 0 on. So it is exactly ``(1 - AUROC) a (1 - a) +
    (1 - a)^2 / 2``, with the accuracy a, and AUROC that of confidence as a sign of being right.

    Args:
        errors: ``(N,)`` of `errors_accepted`, N of 1 or more.
    """
    return float((errors.sum() - errors[-1] / 2) / len(errors) ** 2)
