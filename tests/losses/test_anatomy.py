"""Anatomies against closed forms along the path, written here in plain numpy, and their drawing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax

from lossbench.anatomy_figure import COLOURS, SHAPES, Scale, draw, text_chart, write_figure
from lossbench.errors import InputError
from lossbench.losses import list_losses
from lossbench.losses.anatomy import COUNTS, Curve, anatomy
from lossbench.losses.catalogue import facts
from lossbench.losses_command import AT_MOST

torch.set_num_threads(1)

EVERY_LOSS = pytest.mark.parametrize("name", list_losses())
COSINE_SCALE = 30


def path(gap: np.ndarray, true: int = 0) -> np.ndarray:
    """(P, 10): the true class at the gap, as the best other is 0; the others in class order."""
    others = [-number / 8 for number in range(9)]
    return np.array([[*others[:true], one, *others[true:]] for one in gap])


def curve(name: str, label: str | None = None, **parameters) -> Curve:
    curves = {curve.label: curve for curve in anatomy(name, **parameters)}
    assert set(curves) >= ({name} if label is None and not parameters else set())
    return curves[label] if label else next(iter(curves.values()))


def check(curve: Curve, logits: np.ndarray, loss: np.ndarray, gradient: np.ndarray, true=0) -> None:
    """``logits`` are the decoded ones; ``gradient`` is −dL/dgap."""
    np.testing.assert_allclose(curve.probability, softmax(logits, axis=1)[:, true], rtol=1e-9)
    best_other = np.delete(logits, true, axis=1).max(axis=1)
    np.testing.assert_allclose(curve.gap, logits[:, true] - best_other, atol=1e-9)
    np.testing.assert_allclose(curve.loss, loss, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(curve.gradient, gradient, rtol=1e-7, atol=1e-12)


def test_cross_entropy_pulls_with_one_minus_p():
    (only,) = anatomy("cross_entropy")
    assert only.label == "cross_entropy"
    assert only.gap[0] == pytest.approx(-10)
    assert only.gap[-1] == pytest.approx(12)
    assert np.diff(only.gap).max() < 0.09
    z = path(only.gap)
    p = softmax(z, axis=1)[:, 0]
    check(only, z, -log_softmax(z, axis=1)[:, 0], 1 - p)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_is_its_closed_form(gamma):
    focal = curve("focal", gamma=gamma)
    assert focal.label == f"focal(gamma={gamma})"
    z = path(focal.gap)
    nll = -log_softmax(z, axis=1)[:, 0]
    p, miss = np.exp(-nll), -np.expm1(-nll)
    check(focal, z, miss**gamma * nll, miss**gamma * (miss + gamma * p * nll))


def test_mae_pulls_alike_on_both_sides_of_one_half():
    mae = curve("mae")
    p = mae.probability
    check(mae, path(mae.gap), 1 - p, p * (1 - p))
    wanted = np.linspace(0.02, 0.5, 20)
    above = np.interp(1 - wanted, p, mae.gradient)
    np.testing.assert_allclose(np.interp(wanted, p, mae.gradient), above, atol=2e-3)
    assert p[mae.gradient.argmax()] == pytest.approx(0.5, abs=0.02)


def test_gce_is_its_closed_form():
    gce = curve("gce")
    p = gce.probability
    check(gce, path(gce.gap), (1 - p**0.7) / 0.7, p**0.7 * (1 - p))


@pytest.mark.parametrize(
    ("label", "true"),
    [("balanced_softmax, head class (500)", 0), ("balanced_softmax, tail class (5)", 9)],
)
def test_balanced_softmax_adds_the_log_counts(label, true):
    z = path(curve("balanced_softmax", label).gap, true)
    log_p = log_softmax(z + np.log(COUNTS), axis=1)[:, true]
    check(curve("balanced_softmax", label), z, -log_p, -np.expm1(log_p), true)


def test_the_tail_lies_above_cross_entropy_and_the_head_below():
    head, tail = anatomy("balanced_softmax")
    reference = curve("cross_entropy")
    assert (head.true_class, tail.true_class) == ("head", "tail")
    assert (tail.loss > reference.loss).all()
    assert (head.loss < reference.loss).all()
    assert (tail.gradient > reference.gradient).all()


@pytest.mark.parametrize(("true", "count"), [(0, 500), (9, 5)])
def test_ldam_gets_cosines_and_subtracts_its_margin_in_decoded_logits(true, count):
    ldam = anatomy("ldam")[0 if true == 0 else 1]
    assert ldam.label == f"ldam, {'head' if true == 0 else 'tail'} class ({count})"
    z = path(ldam.gap, true)
    shifted = z.copy()
    shifted[:, true] -= COSINE_SCALE * 0.5 * (5 / count) ** 0.25
    log_p = log_softmax(shifted, axis=1)[:, true]
    check(ldam, z, -log_p, -np.expm1(log_p), true)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0])
def test_the_gradient_does_not_depend_on_the_scale_of_the_logits(temperature):
    scaled = curve("temperature_scaled", temperature=temperature)
    assert (scaled.gap[0], scaled.gap[-1]) == pytest.approx((-10, 12), abs=1e-3)
    np.testing.assert_allclose(scaled.gradient, 1 - scaled.probability, rtol=1e-9)


def test_one_vs_rest_losses_get_sigmoids_that_are_the_probabilities():
    bce = curve("binary_cross_entropy", class_reduction="sum")
    log_p = log_softmax(path(bce.gap), axis=1)
    p = np.exp(log_p)
    loss = -log_p[:, 0] - np.log1p(-p[:, 1:]).sum(axis=1)
    # d log(1−p_j)/dg = p_j p_y/(1−p_j)
    pull = (1 - p[:, 0]) + p[:, 0] * (p[:, 1:] / (1 - p[:, 1:])).sum(axis=1)
    check(bce, log_p, loss, pull)


def test_a_bounded_gap_ends_where_it_ends():
    bounded = curve("logit_norm", temperature=1.0)
    assert -1 <= bounded.gap[0] < -0.99
    assert 0.99 < bounded.gap[-1] <= 1
    norm = curve("logit_norm")  # 0.04: gaps up to 25
    assert (norm.gap[0], norm.gap[-1]) == pytest.approx((-10, 12), abs=0.01)
    cosine = curve("am_softmax", scale=8.0)
    assert (cosine.gap[0], cosine.gap[-1]) == pytest.approx((-8, 8))


def test_a_schedule_is_drawn_at_its_two_ends():
    first, last = anatomy("maxsup")
    assert [first.label, last.label] == ["maxsup, first epoch", "maxsup, last epoch"]
    for drawn, alpha in ((first, 0.1), (last, 0.2)):
        z = path(drawn.gap)
        p = softmax(z, axis=1)[:, 0]
        penalty = alpha * (z.max(axis=1) - z.mean(axis=1))
        pull = 1 - p - alpha * ((drawn.gap > 0) - 0.1)
        check(drawn, z, -log_softmax(z, axis=1)[:, 0] + penalty, pull)


def test_mmce_sees_batches_of_one():
    mmce = curve("mmce")
    z = path(mmce.gap)
    p = softmax(z, axis=1)
    penalty = ((mmce.gap > 0) - p.max(axis=1)) ** 2
    np.testing.assert_allclose(mmce.loss, -np.log(p[:, 0]) + penalty, rtol=1e-9)


def test_seesaw_has_seen_the_counts():
    head, tail = anatomy("seesaw")
    won = head.gap > 0  # beyond that no class is compensated for
    z = path(head.gap)[won]
    mitigation = 0.8 * np.log(np.array(COUNTS) / 500)
    np.testing.assert_allclose(head.loss[won], logsumexp(z + mitigation, axis=1) - z[:, 0])
    np.testing.assert_allclose(tail.loss[won], curve("cross_entropy").loss[won], rtol=1e-9)


def test_influence_balanced_gets_features_of_length_30():
    first, head, tail = anatomy("influence_balanced")
    assert [first.label, head.label, tail.label] == [
        "influence_balanced, first epoch",
        "influence_balanced, head class (500), last epoch",
        "influence_balanced, tail class (5), last epoch",
    ]
    plain = curve("cross_entropy")
    np.testing.assert_allclose(first.loss, plain.loss)
    inverse = 1 / np.array(COUNTS)
    weight = 10 * inverse / inverse.sum()
    factor = 1000 / (2 * (1 - plain.probability) * 30 + 0.001)
    np.testing.assert_allclose(head.loss, weight[0] * factor * plain.loss, rtol=1e-6)
    np.testing.assert_allclose(tail.loss, weight[9] * factor * plain.loss, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "margin", "left_over"),
    [
        ("large_margin_softmax", 2, 1000 * (1 + 0.5 * 0.99) ** -35),
        ("sphereface", 4, 5.0),
    ],
)
def test_angular_margins_get_a_head_that_gives_their_logits(name, margin, left_over):
    last = curve(name, f"{name}, last epoch")
    z = path(last.gap)
    angle = np.arccos(z[:, 0] / 30)
    segment = np.floor(margin * angle / np.pi)
    psi = (-1) ** segment * np.cos(margin * angle) - 2 * segment
    moved = z.copy()
    moved[:, 0] = 30 * (left_over * np.cos(angle) + psi) / (1 + left_over)
    np.testing.assert_allclose(last.loss, -log_softmax(moved, axis=1)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(last.probability, softmax(z, axis=1)[:, 0], rtol=1e-9)


@EVERY_LOSS
def test_every_loss_has_curves_whose_gradient_is_their_slope(name):
    curves = anatomy(name)
    assert len({one.label for one in curves}) == len(curves) <= 4
    by_class = facts(name).needs & {"class_counts", "state"}
    assert by_class or all(one.true_class == "" for one in curves)
    assert by_class == frozenset() or {"head", "tail"} <= {one.true_class for one in curves}
    for one in curves:
        arrays = one.probability, one.gap, one.loss, one.gradient
        assert len({array.shape for array in arrays}) == 1
        assert all(np.isfinite(array).all() for array in arrays)
        assert (np.diff(one.gap) > 0).all()
        assert (np.diff(one.probability) > 0).all()
        if name != "seesaw":  # its factors are constants in the gradient
            slope = np.gradient(one.loss, one.gap)
            size = np.abs(one.gradient).max()
            close = np.isclose(-slope, one.gradient, rtol=0.02, atol=0.01 * size)
            assert close.mean() > 0.94, "but for jumps"


def test_a_weight_per_class_tells_the_classes_apart():
    head, tail = anatomy("focal", alpha=[1.0] * 9 + [3.0])
    np.testing.assert_allclose(tail.loss, 3 * head.loss)


def test_bad_names_and_parameters_are_refused():
    with pytest.raises(InputError, match="did you mean 'focal'"):
        anatomy("focall")
    with pytest.raises(InputError, match=r"loss\.gamma=-1"):
        anatomy("focal", gamma=-1)


# drawing


@pytest.fixture(scope="module")
def reference() -> Curve:
    return anatomy("cross_entropy")[0]


@pytest.fixture(scope="module")
def eight() -> list[Curve]:
    names = "focal ldam gce mae huber influence_balanced label_aware_smoothing bi_tempered"
    return [one for name in names.split() for one in anatomy(name)]


def test_a_scale_keeps_everything_and_its_ticks_apart(eight):
    for values in ("loss", "gradient"):
        scale = Scale.of(eight, values)
        lowest = min(0, *(getattr(one, values).min() for one in eight))
        highest = max(getattr(one, values).max() for one in eight)
        assert (scale.low, scale.high) == (lowest, highest)
        assert scale.place(np.array([lowest, highest])) == pytest.approx([0, 1])
        low, high = scale.limits(0.1)
        assert scale.place(np.array([low, high])) == pytest.approx([-0.1, 1.1])
        ticks = scale.ticks(0.08)
        assert 0 in ticks
        assert len(ticks) >= 5
        places = scale.place(np.array(ticks))
        assert np.diff(places).min() >= 0.08
        assert places.min() >= -0.021
        assert places.max() <= 1.021


def test_a_small_loss_takes_up_a_tenth_of_the_axis_beside_a_large_one(reference):
    (huber,) = anatomy("huber")
    for values in ("loss", "gradient"):
        scale = Scale.of([reference, huber], values)
        assert scale.place(getattr(huber, values)).max() > 0.1
    linear = Scale.of([reference, curve("focal")], "gradient")
    assert linear.width is None
    assert linear.place(np.array([linear.high / 2]))[0] == pytest.approx(0.5)


def test_a_text_chart_has_every_curve_in_100_columns(eight, reference):
    chart = text_chart(eight, reference)
    lines = chart.splitlines()
    assert max(map(len, lines)) <= 100
    for letter, one in zip("abcdefghijkl", eight, strict=False):
        assert f"{letter} {one.label}" in chart
        assert chart.count(letter) > 5
    assert "· cross_entropy" in chart
    assert "the others stay at 0" in " ".join(lines)


def test_a_text_chart_puts_marks_where_the_values_are(reference):
    flat = {"probability": reference.probability, "gap": reference.gap}
    low = Curve("low", "", "", loss=0 * reference.gap, gradient=0 * reference.gap, held_fixed=(),
                **flat)  # fmt: skip
    top = replace(low, name="top", loss=0 * reference.gap + 20, gradient=reference.gap * 0 + 2)
    rows = [
        line for line in text_chart([low, top], reference).splitlines() if line[6:7] in ("┤", "│")
    ]
    assert rows[0][7:49] == rows[0][57:] == "b" * 42
    assert rows[-1][7:49] == rows[-1][57:] == "a" * 42
    half = text_chart([replace(low, gap=np.linspace(-1, 1, len(low.gap)))], reference)
    assert 3 <= half.splitlines()[13][7:49].count("a") <= 6, "no marks beyond a curve's ends"


def test_the_figure_shows_every_value_with_nothing_on_top_of_another(eight, reference):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw(eight, reference)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = figure.axes
    assert [(one.get_xlabel(), one.get_ylabel().split("\n")[0]) for one in axes] == [
        ("", "loss (nats)"),
        ("", ""),
        ("probability of the true class", "gradient −dL/dgap (nats per nat)"),
        ("logit gap: true class minus the best other (nats)", ""),
    ]
    for one, values in zip(axes, ("loss", "loss", "gradient", "gradient"), strict=True):
        low, high = one.get_ylim()
        for drawn in [reference, *eight]:
            assert low < getattr(drawn, values).min()
            assert getattr(drawn, values).max() < high
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["cross_entropy", *(drawn.label for drawn in eight)]
    texts = [*figure.texts, legend, *(one.xaxis.label for one in axes[2:])]
    texts += [one.yaxis.label for one in axes[::2]]
    texts += [tick for one in axes[2:] for tick in one.get_xticklabels()]
    texts += [tick for one in axes[::2] for tick in one.get_yticklabels()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0, texts[number]
        assert box.y0 >= 0, texts[number]
        assert box.x1 <= figure.bbox.x1, texts[number]
        assert box.y1 <= figure.bbox.y1, texts[number]
        for other in range(number):
            assert not box.overlaps(boxes[other]), (texts[number], texts[other])


def test_losses_differ_in_colour_and_marker_and_classes_in_dashes(eight, reference):
    lines = draw(eight, reference).axes[0].get_lines()
    assert (lines[0].get_label(), lines[0].get_linestyle()) == ("cross_entropy", "--")
    looks = {}
    for drawn, line in zip(eight, lines[1:], strict=False):
        look = line.get_color(), line.get_marker()
        assert looks.setdefault(drawn.name, look) == look
    assert len(set(looks.values())) == len({colour for colour, _ in looks.values()}) == 8
    dashes = {drawn.label: line.get_linestyle() for drawn, line in zip(eight, lines[1:])}  # noqa: B905
    assert dashes["ldam, head class (500)"] == dashes["focal"] == "-"
    assert dashes["ldam, tail class (5)"] == ":"
    assert dashes["influence_balanced, first epoch"] == "-."
    assert len(set(COLOURS)) == len(set(SHAPES)) == AT_MOST


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".PDF", b"%PDF")]
)
def test_a_figure_has_the_same_bytes_every_time_and_no_date(suffix, begins, reference, tmp_path):
    written = []
    for name in ("first", "second"):
        file = tmp_path / f"{name}{suffix}"
        write_figure(file, anatomy("focal"), reference)
        written.append(file.read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(begins)
    assert b"CreationDate" not in written[0]
    assert b"<dc:date>" not in written[0]
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"first{suffix}", f"second{suffix}"]


def test_a_figure_that_cannot_be_written_leaves_the_old_file(reference, tmp_path, monkeypatch):
    file = tmp_path / "old.svg"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lossbench.anatomy_figure.os.replace", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_figure(file, anatomy("focal"), reference)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_readers_own_matplotlib_style_changes_nothing(reference, tmp_path):
    import matplotlib

    write_figure(tmp_path / "plain.png", anatomy("focal"), reference)
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 30}):
        write_figure(tmp_path / "own.png", anatomy("focal"), reference)
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert math.isclose(matplotlib.rcParams["font.size"], 10)
