"""Label noise through the config: how much, to which class, which samples, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from lossbench.cli import main
from lossbench.data.configured import prepared_data
from lossbench.data.label_noise import apply, asymmetric, flips, record_arrays, symmetric
from lossbench.data.preparation import PreparedData
from lossbench.errors import InputError
from lossbench.losses import create_loss

SYMMETRIC = ("label_noise=symmetric",)
CIFAR_MAPPING = "{truck: automobile, bird: airplane, deer: horse, cat: dog, dog: cat}"


@pytest.fixture
def prepare(make_run: Callable) -> Callable[..., PreparedData]:
    """``prepare(*overrides)``: the data of that run; digits of factor 10 unless said otherwise."""
    return lambda *overrides: prepared_data(make_run(*overrides).config)[0]


def wrong(prepared: PreparedData) -> dict[int, int]:
    """Id of each sample with a wrong label -> the label."""
    assert prepared.clean_targets is not None
    given = zip(prepared.train.ids, prepared.train.targets, prepared.clean_targets, strict=True)
    return {int(i): int(label) for i, label, true in given if label != true}


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.45, 0.8])
def test_the_share_of_each_class_is_exact_and_only_training_labels_are_touched(
    prepare: Callable, rate: float
) -> None:
    clean = prepare("label_noise=none")
    noisy = prepare(*SYMMETRIC, f"label_noise.rate={rate}")
    assert clean.clean_targets is None
    np.testing.assert_array_equal(noisy.clean_targets, clean.train.targets)
    np.testing.assert_array_equal(noisy.train.ids, clean.train.ids)
    np.testing.assert_array_equal(noisy.train.inputs, clean.train.inputs)
    np.testing.assert_array_equal(noisy.image_counts, clean.class_counts)
    for label, count in enumerate(clean.class_counts):
        given = noisy.train.targets[noisy.clean_targets == label]
        assert (given != label).sum() == int(count * rate + 0.5 + 1e-9)
    assert noisy.validation is not None
    assert clean.validation is not None
    np.testing.assert_array_equal(noisy.validation.targets, clean.validation.targets)
    np.testing.assert_array_equal(noisy.test.targets, clean.test.targets)


def test_losses_and_priors_are_told_the_labels_given(prepare: Callable) -> None:
    noisy = prepare(*SYMMETRIC, "label_noise.rate=0.4")
    counts = [list(noisy.train.targets).count(label) for label in range(10)]
    assert noisy.class_counts.tolist() == counts != noisy.image_counts.tolist()
    assert noisy.priors["train"] == pytest.approx(np.array(counts) / sum(counts))
    create_loss("ldam", class_counts=noisy.class_counts)


def test_symmetric_noise_takes_every_other_class_as_often(prepare: Callable) -> None:
    noisy = prepare("data=fashion_mnist", "imbalance=none", *SYMMETRIC, "label_noise.rate=0.5")
    found = flips(noisy)
    assert np.diagonal(found).tolist() == [2750] * 10
    for label in range(10):
        assert chisquare(np.delete(found[label], label)).pvalue > 1e-4
    assert chisquare(found.sum(axis=0)).pvalue > 1e-4


def test_asymmetric_noise_takes_one_class_for_another(prepare: Callable) -> None:
    fashion = ("data=fashion_mnist", "imbalance=gamo", "label_noise=asymmetric")
    counts = np.array([4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40])
    taken = (counts * 0.2).astype(int)
    pairs = prepare(*fashion)
    expected = np.diag(counts - taken) + np.roll(np.diag(taken), 1, axis=1)
    np.testing.assert_array_equal(flips(pairs), expected)
    # by name, by index, and both ways between two classes
    named = prepare(*fashion, "label_noise.mapping={Shirt: T-shirt/top, 2: Coat, Coat: 2}")
    expected = np.diag(counts)
    for source, goal in ((6, 0), (2, 4), (4, 2)):
        expected[source, source] -= taken[source]
        expected[source, goal] = taken[source]
    np.testing.assert_array_equal(flips(named), expected)


def test_cifars_mapping_is_that_of_patrini() -> None:
    names = re.findall(r"\w+", "airplane automobile bird cat deer dog frog horse ship truck")
    mapping = dict(re.findall(r"(\w+): (\w+)", CIFAR_MAPPING))
    shares = asymmetric(names, 0.4, mapping)
    moved = {(int(i), int(j)) for i, j in np.argwhere(shares == 0.4)}
    assert moved == {(9, 1), (2, 0), (4, 7), (3, 5), (5, 3)}
    stated = Path(__file__).parents[2] / "configs" / "label_noise" / "asymmetric.yaml"
    assert CIFAR_MAPPING in stated.read_text()


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_a_larger_rate_flips_what_a_smaller_one_flips_and_to_the_same(
    prepare: Callable, kind: str
) -> None:
    smaller: dict[int, int] = {}
    for rate in (0.1, 0.2, 0.3, 0.6):
        larger = wrong(prepare(f"label_noise={kind}", f"label_noise.rate={rate}"))
        assert smaller.items() < larger.items()
        smaller = larger


def test_a_sample_has_its_label_whatever_the_subset(prepare: Callable) -> None:
    """Another factor, another order of the samples: who is flipped is flipped to the same label."""
    ten = wrong(prepare(*SYMMETRIC, "label_noise.rate=0.5"))
    for other in ("imbalance.factor=2", "imbalance.subset_order=ldam", "imbalance.factor=20"):
        found = wrong(prepare(*SYMMETRIC, "label_noise.rate=0.5", other))
        both = ten.keys() & found.keys()
        assert len(both) > 50
        assert all(ten[sample] == found[sample] for sample in both)
    assert wrong(prepare(*SYMMETRIC, "label_noise.rate=0.5", "seed=1")) != ten
    targets = np.random.default_rng(0).integers(0, 3, 300)
    ids = np.random.default_rng(1).permutation(1000)[:300]
    noise, names = partial(symmetric, rate=0.5), ("ant", "bee", "cat")
    given = apply(noise, targets, ids, names, seed=0)
    np.testing.assert_array_equal(apply(noise, targets[::-1], ids[::-1], names, 0), given[::-1])


def test_runs_of_a_seed_share_the_noise_and_it_is_part_of_what_they_are(make_run: Callable) -> None:
    runs = [
        make_run(*noise, *loss)
        for loss in ((), ("loss=focal",))
        for noise in ((), SYMMETRIC, (*SYMMETRIC, "label_noise.rate=0.3"))
    ]
    prints = [prepared_data(run.config)[0].subset_fingerprint for run in runs]
    assert prints[:3] == prints[3:]
    assert len(set(prints)) == 3
    assert len({run.identity for run in runs}) == 6
    assert make_run("label_noise=none").identity == runs[0].identity


def test_a_record_can_tell_clean_from_noisy(prepare: Callable) -> None:
    assert record_arrays(prepare()) == {}
    assert flips(prepare()) is None
    noisy = prepare(*SYMMETRIC)
    arrays = record_arrays(noisy)
    assert list(arrays) == ["label_noise/ids", "label_noise/clean", "label_noise/given"]
    assert all(a.dtype == np.int64 and a.shape == noisy.train.ids.shape for a in arrays.values())
    np.testing.assert_array_equal(arrays["label_noise/ids"], noisy.train.ids)
    marked = arrays["label_noise/clean"] != arrays["label_noise/given"]
    assert set(arrays["label_noise/ids"][marked].tolist()) == wrong(noisy).keys()


def wrong_shape(class_names: tuple[str, ...]) -> np.ndarray:
    return np.eye(3)


def no_shares(class_names: tuple[str, ...], rate: float) -> np.ndarray:
    return np.eye(len(class_names)) * rate


ASYMMETRIC = "label_noise=asymmetric"
BAD = {
    "rate": ((*SYMMETRIC, "label_noise.rate=1"), r"label_noise.rate=1 is not allowed: .*\[0, 1\)"),
    "rate below": ((*SYMMETRIC, "label_noise.rate=-0.1"), "label_noise.rate=-0.1 is not allowed"),
    "rate text": ((*SYMMETRIC, "label_noise.rate=many"), "label_noise.rate='many' is not allowed"),
    "name": ((ASYMMETRIC, "label_noise.mapping={0: nine}"), "unknown class in .*mapping 'nine'"),
    "near name": (
        ("data=fashion_mnist", ASYMMETRIC, "label_noise.mapping={Shrt: Coat}"),
        "unknown class in label_noise.mapping 'Shrt'; did you mean 'Shirt'",
    ),
    "index": ((ASYMMETRIC, "label_noise.mapping={0: 10}"), "names class 10; allowed are 0 to 9"),
    "itself": ((ASYMMETRIC, "label_noise.mapping={3: 3}"), "maps class '3' to itself"),
    "twice": (
        ("data=fashion_mnist", ASYMMETRIC, "label_noise.mapping={Shirt: Coat, 6: Dress}"),
        "maps class 'Shirt' twice",
    ),
    "no mapping": (
        (ASYMMETRIC, "label_noise.mapping=Shirt"),
        "label_noise.mapping=Shirt must map classes to classes, as in",
    ),
    "last labels": (
        (*SYMMETRIC, "imbalance=step", "imbalance.factor=60", "label_noise.rate=0.8"),
        "label noise would flip every label of class '5', which has 2; lower label_noise.rate or",
    ),
    "key": ((*SYMMETRIC, "+label_noise.mapping={1: 2}"), "parameter of label_noise 'mapping'"),
    "shape": (
        (*SYMMETRIC, "label_noise._target_=WRONG", "~label_noise.rate"),
        r"\(3, 3\); it must",
    ),
    "shares": ((*SYMMETRIC, "label_noise._target_=SHARES"), "class '0' are .* sum to 1"),
    "without kind": (("label_noise.rate=0.2",), "label_noise is null and has no rate; choose"),
    "null": (("label_noise=null",), "unknown label_noise 'null' .allowed: asymmetric, none, sym"),
    "kind": (("label_noise=symetric",), "unknown label_noise 'symetric'; did you mean 'symmetric'"),
}


@pytest.mark.parametrize(("overrides", "complaint"), BAD.values(), ids=BAD.keys())
def test_noise_that_cannot_be_is_refused(
    overrides: tuple[str, ...], complaint: str, prepare: Callable
) -> None:
    own = {"WRONG": f"{__name__}.wrong_shape", "SHARES": f"{__name__}.no_shares"}
    given = ["allow=[tests]"]
    given += [re.sub("WRONG|SHARES", lambda name: own[name[0]], entry) for entry in overrides]
    with pytest.raises(InputError, match=complaint) as refused:
        prepare(*given)
    assert "\n" not in str(refused.value)


def test_a_sweep_is_refused_before_any_of_its_runs(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = "sweep data=digits imbalance=step imbalance.factor=60 label_noise=symmetric"
    assert main([*sweep.split(), "label_noise.rate=0.1,0.8"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())
