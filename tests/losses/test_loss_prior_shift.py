"""What each loss teaches the logits, on a problem small enough to be solved exactly.

Three classes, four inputs, a table of counts K[x, y]. One free row of logits per input, the
expected loss minimised to machine precision; then softmax(decode(z)) must be
p(y|x)·exp(log_prior_shift) up to a constant for each input, for every loss that calls itself
proper, and must not for one that does not.
"""

from __future__ import annotations

import pytest
import torch

from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import facts

torch.set_num_threads(1)

TABLE = torch.tensor([[60.0, 10, 2], [20, 25, 3], [5, 6, 9], [15, 1, 1]], dtype=torch.float64)
COUNTS = TABLE.sum(dim=0)
POSTERIOR = TABLE / TABLE.sum(dim=1, keepdim=True)
WEIGHT = [0.5, 1.0, 4.0]

CLASS_TERMS = [
    ("cross_entropy", {}),
    ("cross_entropy", {"weight": WEIGHT}),
    ("cross_entropy", {"weight": WEIGHT, "normalizer": "batch"}),
    ("temperature_scaled", {"temperature": 0.5}),
    ("temperature_scaled", {"temperature": 4.0, "rescale": "T2"}),
    ("class_balanced", {"beta": 0.99}),
    ("inverse_frequency", {}),
    ("inverse_frequency", {"power": 0.5, "normalizer": "batch"}),
    ("binary_cross_entropy", {}),
    ("class_balanced_bce", {"beta": 0.99}),
    ("mse", {}),
    ("bi_tempered", {}),
    ("bi_tempered", {"t1": 0.5, "t2": 2.0}),
    ("norm_softmax", {}),
    ("balanced_softmax", {}),
    ("logit_adjusted", {}),
    ("logit_adjusted", {"tau": 0.0}),
    ("logit_adjusted", {"tau": 1.7}),
]


def minimise(name, table=TABLE, **parameters):
    """The decoded logits (4, 3) at which the sum of K[x, y]·loss(z_x, y) is smallest, and s."""
    loss = create_loss(name, class_counts=COUNTS, reduction="none", **parameters)
    inputs, classes = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    logits = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits],
        max_iter=2000,
        tolerance_grad=1e-13,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        losses = loss(logits[inputs.flatten()], classes.flatten())
        risk = (losses * table.flatten()).sum() / table.sum()
        risk.backward()
        return risk

    optimizer.step(closure)
    assert logits.grad.abs().max() < 1e-8
    shift = loss.log_prior_shift()
    return loss.decode(logits.detach()), torch.zeros(3).double() if shift is None else shift


@pytest.mark.parametrize(("name", "parameters"), CLASS_TERMS)
def test_the_minimiser_is_the_posterior_times_the_shift(name, parameters):
    logits, shift = minimise(name, **parameters)
    expected = (POSTERIOR.log() + shift).softmax(dim=1)
    torch.testing.assert_close(logits.softmax(dim=1), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "parameters"), CLASS_TERMS)
def test_the_shift_lets_any_loss_answer_for_equal_class_shares(name, parameters):
    logits, shift = minimise(name, **parameters)
    likelihood = TABLE / COUNTS  # p(x|y)
    balanced = likelihood / likelihood.sum(dim=1, keepdim=True)
    adjusted = logits - shift - (COUNTS / COUNTS.sum()).log()
    torch.testing.assert_close(adjusted.softmax(dim=1), balanced, rtol=1e-6, atol=1e-7)


FREE_LOGITS = [name for name in list_losses() if not {"features", "batch"} & facts(name).needs]


@pytest.mark.parametrize("name", [name for name in FREE_LOGITS if facts(name).proper])
def test_a_loss_is_proper_when_the_catalogue_says_so(name):
    """A cosine is taken for a free number here: its bounds are no matter of the loss."""
    logits, shift = minimise(name)
    expected = (POSTERIOR.log() + shift).softmax(dim=1)
    torch.testing.assert_close(logits.softmax(dim=1), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in FREE_LOGITS if not facts(name).proper])
def test_a_loss_that_is_not_proper_leaves_the_posterior(name):
    """At the logits whose decoded ones are the (shifted) log posterior its slope is not 0."""
    if name == "logit_norm":
        pytest.skip("its gaps are bounded: it decodes to no posterior of a large gap at all")
    given = {"margin": 1.0} if name == "mbls" else {}  # its default is beyond these gaps
    loss = create_loss(name, class_counts=COUNTS, reduction="none", **given).eval()
    shift = loss.log_prior_shift()
    target = (POSTERIOR.log() + (0 if shift is None else shift)).softmax(dim=1)
    probe = torch.zeros(1, 3, dtype=torch.float64)
    one_vs_rest = torch.equal(loss.decode(probe), torch.nn.functional.logsigmoid(probe))
    logits = target.logit() if one_vs_rest else target.log() / getattr(loss, "scale", 1.0)
    decoded = loss.decode(logits).softmax(dim=1)
    torch.testing.assert_close(decoded, target)
    inputs, classes = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    logits.requires_grad_()
    losses = loss(logits[inputs.flatten()], classes.flatten())
    (slope,) = torch.autograd.grad((losses * TABLE.flatten()).sum() / TABLE.sum(), logits)
    assert slope.abs().max() > 1e-5


def test_normalised_logits_cannot_have_a_larger_gap_than_they_decode_to():
    loss = create_loss("logit_norm", temperature=0.5)
    gaps = loss.decode(torch.tensor([[1e6, 0.0], [1e6, -1e6]])).diff(dim=1).abs()
    torch.testing.assert_close(gaps, torch.tensor([[2.0], [2 * 2**0.5]]))


@pytest.mark.parametrize(
    ("name", "parameters", "weighted"),
    [
        ("focal", {}, {"alpha": WEIGHT}),
        ("focal", {"gamma": 0.5}, {"alpha": WEIGHT}),
        ("label_smoothing", {"smoothing": 0.0}, {"weight": WEIGHT}),
    ],
)
def test_weights_shift_the_prior_of_a_loss_that_is_not_proper(name, parameters, weighted):
    """With weights w it learns what it learns, without, from a table with the counts w·K."""
    logits, shift = minimise(name, **parameters, **weighted)
    torch.testing.assert_close(shift, torch.tensor(WEIGHT, dtype=torch.float64).log())
    plain, no_shift = minimise(name, TABLE * torch.tensor(WEIGHT), **parameters)
    assert (no_shift == 0).all()
    torch.testing.assert_close(logits.softmax(1), plain.softmax(1), rtol=1e-6, atol=1e-7)


def test_smoothing_with_weights_learns_the_weighted_smoothed_posterior():
    logits, shift = minimise("label_smoothing", smoothing=0.2, weight=WEIGHT)
    smoothed = 0.8 * POSTERIOR + 0.2 / 3
    expected = (smoothed.log() + shift).softmax(dim=1)
    torch.testing.assert_close(logits.softmax(dim=1), expected, rtol=1e-6, atol=1e-7)


def test_a_class_of_no_weight_is_shifted_to_minus_infinity():
    shift = create_loss("cross_entropy", weight=[0, 1, 1]).log_prior_shift()
    assert shift.tolist() == [-float("inf"), 0, 0]
