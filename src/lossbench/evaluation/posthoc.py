"""What one would do to a trained model instead of choosing another loss: from stored outputs only.

Every method here comes to one scale and one offset per class, ``z'_c = scale_c z_c + offset_c``,
so a fit on validation outputs is a pair of vectors, and applying it is one line.

What the class prior has to do with it. The deployed logits z estimate the posterior of a population
with the class prior pi_m (`log_prior_model`): the training prior for cross-entropy, the uniform one
for balanced softmax. The validation set has a prior pi_val of its own, so the probabilities to hold
against its labels are ``softmax(z' - log pi_m + log pi_val)``, and temperature and vector scaling
minimise the cross-entropy of these. Where pi_val = pi_m that is the usual fit; a model trained with
balanced softmax is fitted on ``z / T + log pi_val`` when its validation set is long-tailed. What is
deployed is z', which still answers for pi_m.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.evaluation import calibration, classification
from lossbench.evaluation.probabilities import (
    Floats,
    Integers,
    adjust_prior,
    cross_entropy,
    log_softmax,
)
from lossbench.evaluation.thresholds import fit_thresholds

TEMPERATURES = (0.01, 100.0)
"""The temperatures searched. Where validation is told apart without error, colder is always better:
the fit ends at the lower one."""

TAUS = np.arange(31) / 10
"""The values of tau tried on validation: 0, 0.1, ..., 3."""


@dataclass(frozen=True)
class Affine:
    """``z -> scale * z + offset``, class by class; both ``(C,)``."""

    scale: Floats
    offset: Floats

    def __call__(self, logits: Floats) -> Floats:
        """Apply to ``(N, C)``."""
        moved: Floats = logits * self.scale
        moved += self.offset
        return moved


@dataclass(frozen=True)
class Head:
    """A linear last layer: ``weight`` ``(C, F)``, ``bias`` ``(C,)``, and the logits it gave.

    ``raw`` has them by split, ``(N, C)``, for the splits where they are not the deployed ones.
    """

    weight: ArrayLike
    bias: ArrayLike
    raw: Mapping[str, ArrayLike] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method ready to apply: its map, what was fitted, and what its outputs can be asked.

    ``log_prior`` ``(C,)`` is that of the prior which the outputs answer for, None where nobody can
    say. ``decides_only``: the outputs are no probabilities. ``raw``: it takes the raw logits.
    """

    map: Affine
    log_prior: Floats | None = None
    fitted: dict[str, float] = field(default_factory=dict)
    decides_only: bool = False
    raw: bool = False


Split = tuple[ArrayLike, ArrayLike]


def posthoc_matrix(
    val: Split | None,
    test: Split | None,
    *,
    train_counts: ArrayLike,
    log_prior_model: ArrayLike,
    head: Head | None = None,
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Every post-hoc method, fitted on ``val`` and applied to both splits: metrics and arrays.

    Metrics, for ``split`` val and test: ``split/posthoc_<method>/`` ``balanced_accuracy``,
    ``accuracy``, ``macro_f1``, ``worst_class_recall``, ``tail_recall``, ``head_recall``;
    ``cross_entropy``, ``brier_score`` and ``expected_calibration_error`` of the deployed outputs;
    ``adjusted_cross_entropy`` and ``adjusted_expected_calibration_error`` after moving these to the
    split's own prior. What was fitted is ``val/posthoc_<method>/temperature`` or ``/tau``.
    Arrays: ``posthoc/<method>/scale`` and ``/offset``, ``(C,)``, and of the methods that give
    probabilities ``posthoc/<method>/reliability/<split>``, ``(15, 3)`` of `reliability_bins`.

    Methods: ``temperature``, ``vector``, ``logit_adjustment`` (tau 1), ``logit_adjustment_tuned``,
    ``tau_normalization``, ``thresholds``. A method that cannot be applied is left out: those that
    are fitted without ``val``, tau-normalisation without a linear ``head``, and where the model's
    prior is 0 for a class, those that would divide by it. Thresholds only decide, so they have no
    probabilities to judge; nor has tau-normalisation where the loss deploys other logits than the
    head's. Which prior tau-normalised outputs answer for is unknown: nothing ``adjusted_``.

    Args:
        val: logits ``(N, C)``, finite, and targets ``(N,)``, or None. Classes may be absent.
        test: the same of the test split; None while it is sealed.
        train_counts: ``(C,)``, samples of each class in training; they rank head and tail.
        log_prior_model: ``(C,)``, log of the prior that the logits answer for, up to a constant, as
            in `evaluate`.
        head: the model's last layer if it is linear.
    """
    log_prior = np.asarray(log_prior_model, dtype=np.float64)
    splits = {} if test is None else {"test": _as_arrays(test)}
    methods = {}
    if np.isfinite(log_prior).all():
        methods["logit_adjustment"] = logit_adjustment(log_prior, 1.0)
    if val is not None:
        splits["val"] = _as_arrays(val)
        methods |= _fitted(*splits["val"], log_prior, head)
    metrics: dict[str, float] = {}
    arrays: dict[str, NDArray[np.float64]] = {}
    counts = np.asarray(train_counts, dtype=np.float64)
    for name, method in methods.items():
        arrays[f"posthoc/{name}/scale"] = method.map.scale
        arrays[f"posthoc/{name}/offset"] = method.map.offset
        metrics |= {f"val/posthoc_{name}/{key}": value for key, value in method.fitted.items()}
        for split, (logits, targets) in splits.items():
            given = _raw(head, split, logits) if method.raw else logits
            numbers, reliability = _judged(method, method.map(given), targets, counts)
            if reliability is not None:
                arrays[f"posthoc/{name}/reliability/{split}"] = reliability
            metrics |= {f"{split}/posthoc_{name}/{key}": value for key, value in numbers.items()}
    return metrics, arrays


def _fitted(z: Floats, y: Integers, log_prior: Floats, head: Head | None) -> dict[str, Method]:
    """The methods that are fitted on the validation logits ``z`` and targets ``y``."""
    ones, zeros = np.ones(len(log_prior)), np.zeros(len(log_prior))
    offsets = Affine(ones, fit_thresholds(z, y))
    found = {"thresholds": Method(offsets, decides_only=True)}
    if np.isfinite(log_prior[np.unique(y)]).all():
        temperature = fit_temperature(z, y, log_prior)
        cooled = Affine(ones / temperature, zeros)
        found["temperature"] = Method(cooled, log_prior, {"temperature": temperature})
        found["vector"] = Method(fit_vector(z, y, log_prior), log_prior)
    if np.isfinite(log_prior).all():
        tau = choose_tau(lambda tau: logit_adjustment(log_prior, tau).map(z), y)
        tuned = replace(logit_adjustment(log_prior, tau), fitted={"tau": tau})
        found["logit_adjustment_tuned"] = tuned
    if head is not None:
        raw = _raw(head, "val", z)
        tau = choose_tau(lambda tau: tau_normalization(head, tau)(raw), y)
        found["tau_normalization"] = Method(
            tau_normalization(head, tau),
            fitted={"tau": tau},
            decides_only="val" in head.raw,
            raw=True,
        )
    return found


def fit_temperature(logits: Floats, targets: Integers, log_prior_model: Floats) -> float:
    """The T that minimises the cross-entropy of ``z / T`` at the prior of ``targets``.

    Guo et al. (ICML 2017). Convex in 1 / T; a bounded search over log T in `TEMPERATURES`. It is 1
    if nothing better is found: never worse than before on these samples.

    Args:
        logits: ``(N, C)``.
        targets: ``(N,)``; classes that are absent have prior 0 here.
        log_prior_model: ``(C,)``, finite where the class is present.
    """
    from scipy.optimize import minimize_scalar

    z, y, shift, _ = _at_own_prior(logits, targets, log_prior_model)

    def loss(log_temperature: float) -> float:
        return float(cross_entropy(z * np.exp(-log_temperature) + shift, y).mean())

    found = minimize_scalar(
        loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def fit_vector(logits: Floats, targets: Integers, log_prior_model: Floats) -> Affine:
    """The scale and offset of each class that minimise the cross-entropy at the targets' prior.

    Guo et al. (ICML 2017), vector scaling. Convex; L-BFGS with the analytic gradient, started at
    the identity, which is the result if nothing better is found: never worse than before on these
    samples. No regularisation, as published: 2 C numbers are fitted to N samples, in at most 200
    steps. Where that does not converge (few samples of many classes) the last step is the result.

    A class without samples cannot be fitted. It gets the mean scale of the others and the offset 0,
    which is the mean of theirs (softmax sees offsets only up to a constant).

    Args:
        logits: ``(N, C)``.
        targets: ``(N,)``.
        log_prior_model: ``(C,)``, finite where the class is present.
    """
    from scipy.optimize import minimize

    z, y, shift, present = _at_own_prior(logits, targets, log_prior_model)
    # Standardised columns: the same family of maps, and many fewer steps.
    mean, spread = z.mean(axis=0), z.std(axis=0)
    spread[spread == 0] = 1.0
    z -= mean
    z /= spread
    rows = np.arange(len(y))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scale, offset = np.split(parameters, 2)
        p = z * scale
        p += offset + shift
        p -= p.max(axis=1, keepdims=True)
        chosen = p[rows, y]
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        value = float((np.log(total[:, 0]) - chosen).mean())
        p /= total
        p[rows, y] -= 1
        slope = np.concatenate([np.einsum("nc,nc->c", p, z), p.sum(axis=0)])
        return value, slope / len(y)

    identity = np.concatenate([spread, mean])
    found = minimize(
        loss, identity, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-6}
    )
    best = found.x if found.fun < loss(identity)[0] else identity
    scale, offset = np.split(best, 2)
    scale = scale / spread
    offset = offset - scale * mean
    every = Affine(np.full(logits.shape[1], scale.mean()), np.zeros(logits.shape[1]))
    every.scale[present] = scale
    every.offset[present] = offset - offset.mean()
    return every


def logit_adjustment(log_prior_model: Floats, tau: float) -> Method:
    """``z - tau log pi_m`` (Menon et al., ICLR 2021), answering for a prior ``pi_m^(1 - tau)``.

    pi_m is the prior that the model answers for, not the one of its training data: a loss that has
    adjusted for the prior already is not adjusted again.
    """
    scale = np.ones(len(log_prior_model))
    centred = log_prior_model - log_prior_model.mean()
    return Method(Affine(scale, -tau * centred), (1 - tau) * centred)


def tau_normalization(head: Head, tau: float) -> Affine:
    """``(z_c - b_c) / |w_c|^tau`` on the raw logits of a linear head (Kang et al., ICLR 2020)."""
    norm = np.linalg.norm(np.asarray(head.weight, dtype=np.float64), axis=1)
    scale = np.maximum(norm, 1e-12) ** -tau
    return Affine(scale, -scale * np.asarray(head.bias, dtype=np.float64))


def choose_tau(adjusted: Callable[[float], Floats], targets: Integers) -> float:
    """The tau of `TAUS` whose logits ``adjusted(tau)`` have the best balanced accuracy.

    Of equally good ones it is the nearest to 1.
    """

    def merit(tau: float) -> tuple[float, float]:
        logits = adjusted(tau)
        value = classification.balanced_accuracy(_confusion(logits, targets))
        return round(value, 12), -abs(tau - 1)  # equal means may differ by rounding

    return float(max(TAUS, key=merit))


def _judged(
    method: Method, logits: Floats, targets: Integers, train_counts: Floats
) -> tuple[dict[str, float], Floats | None]:
    """What the outputs of ``method`` are worth on one split, and their reliability bins if any."""
    reliability = None
    confusion = _confusion(logits, targets)
    groups = classification.group_recalls(confusion, classification.rank_groups(train_counts))
    numbers = {
        "balanced_accuracy": classification.balanced_accuracy(confusion),
        "accuracy": classification.accuracy(confusion),
        "macro_f1": classification.macro_f1(confusion),
        "worst_class_recall": classification.worst_class_recall(confusion),
        "tail_recall": groups["tail"],
        "head_recall": groups["head"],
    }
    if not method.decides_only:
        calibrated, reliability = _calibration(logits, targets)
        numbers |= calibrated
    if method.log_prior is not None:
        moved = _at_prior_of(confusion.sum(axis=1), logits, method.log_prior)
        adjusted = dict.fromkeys(("cross_entropy", "expected_calibration_error"), float("nan"))
        if moved is not None:
            calibrated, _ = _calibration(moved, targets)
            adjusted = {key: calibrated[key] for key in adjusted}
        numbers |= {f"adjusted_{key}": value for key, value in adjusted.items()}
    return numbers, reliability


def _calibration(logits: Floats, targets: Integers) -> tuple[dict[str, float], Floats]:
    """The numbers that follow from probabilities, and their reliability bins."""
    rows = np.arange(len(targets))
    predictions = logits.argmax(axis=1)
    probabilities = log_softmax(logits)
    losses = -probabilities[rows, targets]
    np.exp(probabilities, out=probabilities)
    reliability = calibration.reliability_bins(
        probabilities[rows, predictions], predictions == targets
    )
    numbers = {
        "cross_entropy": float(losses.mean()),
        "brier_score": calibration.brier_score(probabilities, targets),
        "expected_calibration_error": calibration.expected_calibration_error(reliability),
    }
    return numbers, reliability


def _at_prior_of(counts: Integers, logits: Floats, log_prior: Floats) -> Floats | None:
    """``logits`` moved to the prior of ``counts``; None where the prior has no such class."""
    present = counts > 0
    if np.isneginf(log_prior[present]).any():
        return None
    goal = np.full(len(counts), -np.inf)
    np.log(counts, out=goal, where=present)
    return adjust_prior(logits, log_prior, goal)


def _at_own_prior(
    logits: Floats, targets: Integers, log_prior_model: Floats
) -> tuple[Floats, Integers, Floats, Integers]:
    """What a fit sees: logits ``(N, K)`` and targets of the K classes that occur.

    Then the shift ``(K,)`` that moves such logits to the prior of ``targets``, and which K classes
    they are. A class that does not occur has prior 0, so its logit plays no part.
    """
    present, y, counts = np.unique(targets, return_inverse=True, return_counts=True)
    shift = np.log(counts) - log_prior_model[present]
    return logits[:, present], y.astype(np.int64), shift - shift.mean(), present


def _confusion(logits: Floats, targets: Integers) -> Integers:
    return classification.confusion_matrix(targets, logits.argmax(axis=1), logits.shape[1])


def _raw(head: Head | None, split: str, deployed: Floats) -> Floats:
    """The logits that the head gave for ``split``: the deployed ones unless others are stored."""
    raw = None if head is None else head.raw.get(split)
    return deployed if raw is None else np.asarray(raw, dtype=np.float64)


def _as_arrays(split: Split) -> tuple[Floats, Integers]:
    logits, targets = split
    return np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.int64)
