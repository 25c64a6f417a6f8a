"""Studies that nobody trained: real record files with chosen effects, quick to write."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr

from lossbench.comparison.posthoc import TAGS

EDGES = np.linspace(-8, 2, 101)
BINS = 15
VIEWS = ("raw", "adjusted")

Arrays = dict[str, np.ndarray]


def write_synthetic_study(
    folder: Path,
    arms: Mapping[str, float],
    seeds: Sequence[int],
    *,
    cells: Sequence[str] = ("fashion_mnist | exponential 100 | convnet | 15 epochs",),
    classes: int = 10,
    epochs: int = 15,
    noise: float = 0.01,
    validation: bool = True,
    methods: Sequence[str] = (),
    configure: Callable[[str], dict[str, Any]] = lambda arm: {},
) -> Path:
    """Write a study of ``arms`` (label -> effect on balanced accuracy) x ``cells`` x ``seeds``.

    A seed moves all arms alike (block effect) and every run by ``noise``. The files are those of
    a finished run; only the numbers are drawn, from (cell, arm, seed). ``configure(arm)`` is
    merged into the run's config.yaml. ``methods`` are the post-hoc methods that were measured,
    each better by 0.01 than the run as trained. Returns ``folder``, which is the study's folder.
    """
    counts = np.maximum(1, 1000 * 100.0 ** (-np.arange(classes) / (classes - 1))).astype(int)
    for cell in cells:
        for arm, effect in arms.items():
            stored = [
                _npz(_arrays(effect, counts, np.random.default_rng(part), validation))
                for part in range(3)
            ]
            for seed in seeds:
                level = 0.7 + effect + noise_of("block", cell, seed) * 0.03
                level += noise * noise_of(cell, arm, seed)
                record = _record(folder.name, arm, cell, seed, counts, level, validation)
                record["metrics"] |= _posthoc(record["metrics"], methods)
                _write_run(folder, record, stored[seed % 3], epochs, configure(arm))
    return folder


def noise_of(*names: object) -> float:
    """A standard normal draw that depends on ``names`` alone."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return float(np.random.default_rng(list(digest[:8])).standard_normal())


def fingerprint(*names: object) -> str:
    """A hash that is equal for equal ``names``."""
    return hashlib.sha256(repr(names).encode()).hexdigest()[:16]


def edit_record(folder: Path, **changes: Any) -> None:
    """Change keys of one run's record.json."""
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def runs_of(study: Path, arm: str, seed: int | None = None) -> list[Path]:
    """The folders of ``study`` that hold runs of ``arm`` (and ``seed``)."""
    found = []
    for path in sorted(study.glob("*/record.json")):
        content = json.loads(path.read_text())
        if content["arm"] == arm and seed in (None, content["seed"]):
            found.append(path.parent)
    return found


def _record(
    study: str,
    arm: str,
    cell: str,
    seed: int,
    counts: np.ndarray,
    level: float,
    validation: bool,
) -> dict[str, Any]:
    classes = len(counts)
    names = [f"class {index}" for index in range(classes)]
    uniform = [1 / classes] * classes
    splits = ("val", "test") if validation else ("test",)
    metrics: dict[str, float | None] = {}
    for split in splits:
        metrics |= _metrics(split, names, level + 0.002 * noise_of(split, cell, arm, seed))
    metrics |= {"train/loss/cross_entropy": 0.1, "train/cls/accuracy": 0.97}
    parts = cell.split(" | ")
    return {
        "schema": 1,
        "status": "done",
        "reason": None,
        "study": study,
        "arm": arm,
        "cell": cell,
        "identity": fingerprint("identity", arm, cell, seed),
        "configuration": fingerprint("configuration", arm, cell),
        "seed": seed,
        "fingerprints": {
            "subset": fingerprint("subset", parts[:2], seed),
            "init": fingerprint("init", parts[2:3], seed),
            "batches": fingerprint("batches", parts[:2], seed),
        },
        "class_names": names,
        "class_counts": counts.tolist(),
        "priors": {
            "train": (counts / counts.sum()).tolist(),
            "val": uniform if validation else None,
            "test": uniform,
        },
        "metrics": metrics,
        "versions": {"lossbench": "0.1.0", "torch": "2.9.0"},
        "git": None,
        "hardware": {"cpu": "synthetic"},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 12.5,
        "loss": arm.partition("(")[0],
        "model": parts[2] if len(parts) > 2 else "mlp",
    }


def _metrics(split: str, names: Sequence[str], level: float) -> dict[str, float | None]:
    ranks = np.arange(len(names)) / max(1, len(names) - 1)
    recalls = np.clip(level + 0.3 * (0.5 - ranks), 0, 1)
    error = 0.9 - level
    found: dict[str, float | None] = {
        f"{split}/cls/accuracy": level + 0.02,
        f"{split}/cls/balanced_accuracy": level,
        f"{split}/cls/macro_f1": level - 0.01,
        f"{split}/cls/geometric_mean": level - 0.02,
        f"{split}/cls/worst_class_recall": float(recalls.min()),
        f"{split}/cls/head_recall": float(recalls[:3].mean()),
        f"{split}/cls/mid_recall": float(recalls[3:7].mean()),
        f"{split}/cls/tail_recall": float(recalls[-3:].mean()),
        f"{split}/loss/objective": 3 * error,
        f"{split}/loss/cross_entropy": 2 * error,
    }
    for loss in ("focal", "label_smoothing", "balanced_softmax", "logit_adjusted", "brier"):
        found[f"{split}/loss/{loss}"] = 2 * error
    for group in ("cal", "cal_adjusted"):
        found[f"{split}/{group}/negative_log_likelihood"] = 2 * error
        found[f"{split}/{group}/brier_score"] = error
        found[f"{split}/{group}/expected_calibration_error"] = error / 2
        found[f"{split}/{group}/classwise_calibration_error"] = error / 5
    found |= {f"{split}/recall/{name}": float(r) for name, r in zip(names, recalls, strict=True)}
    return found


def _posthoc(
    metrics: Mapping[str, float | None], methods: Sequence[str]
) -> dict[str, float | None]:
    return {
        f"{split}/posthoc_{method}/{name}": (metrics[f"{split}/{tail}"] or 0) + 0.01
        for split in ("val", "test")
        for method in methods
        for name, tail in TAGS.items()
        if f"{split}/{tail}" in metrics
    }


def _arrays(
    effect: float, counts: np.ndarray, rng: np.random.Generator, validation: bool
) -> Arrays:
    classes = len(counts)
    arrays: Arrays = {"edges": EDGES}
    for split in ("train", "val", "test") if validation else ("train", "test"):
        sizes = counts if split == "train" else np.full(classes, 100)
        centres = -1.5 - 4 * effect + 1.5 * np.arange(classes) / (classes - 1)
        centres -= 1.0 if split == "train" else 0.0
        for loss in ("cross_entropy", "objective"):
            arrays[f"histogram/{loss}/{split}"] = _histogram(sizes, centres, rng)
        counts_of_all = arrays[f"histogram/cross_entropy/{split}"]
        missed = rng.binomial(counts_of_all, np.clip((np.arange(102) - 60) / 30, 0, 1))
        arrays[f"histogram/cross_entropy_of_errors/{split}"] = missed
        if split != "train":
            arrays |= _judged(split, sizes, effect, rng)
    return arrays


def _histogram(sizes: np.ndarray, centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    steps = ndtr((EDGES[None] - centres[:, None]) / 1.2)
    padded = np.pad(steps, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    return rng.multinomial(sizes, np.diff(padded)).astype(np.int64)


def _judged(split: str, sizes: np.ndarray, effect: float, rng: np.random.Generator) -> Arrays:
    """The confusion matrix and the reliability bins of one split."""
    right = 0.7 + effect
    classes = len(sizes)
    chances = np.full((classes, classes), (1 - right) / (classes - 1))
    np.fill_diagonal(chances, right)
    found: Arrays = {f"confusion/{split}": rng.multinomial(sizes, chances).astype(np.int64)}
    weights = np.linspace(0, 1, BINS) ** 2
    for view, gap in zip(VIEWS, (0.12, 0.03), strict=True):
        bins = np.full((BINS, 3), np.nan)
        bins[:, 0] = rng.multinomial(sizes.sum(), weights / weights.sum())
        filled = bins[:, 0] > 0
        bins[filled, 1] = ((np.arange(BINS) + 0.5) / BINS)[filled]
        bins[filled, 2] = np.clip(bins[filled, 1] - gap, 0, 1)
        found[f"reliability/{split}/{view}"] = bins
    calibrated = bins + np.array([0, 0, 0.02])  # from the adjusted view, the last one
    found[f"posthoc/temperature/reliability/{split}"] = calibrated
    return found


def _npz(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _empty_npz() -> bytes:
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    return stream.getvalue()


EMPTY = _empty_npz()


def _write_run(
    study: Path, record: Mapping[str, Any], arrays: bytes, epochs: int, extra: Mapping[str, Any]
) -> None:
    folder = study / f"run-{record['identity']}"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "arrays.npz").write_bytes(arrays)
    (folder / "outputs.npz").write_bytes(EMPTY)
    config = {"seed": record["seed"], "loss": {"name": record["loss"]}} | dict(extra)
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    (folder / "history.csv").write_text(_history(record["metrics"], epochs))


def _history(metrics: Mapping[str, float | None], epochs: int) -> str:
    tags = [
        tag for tag in metrics if tag in ("val/cls/balanced_accuracy", "val/loss/cross_entropy")
    ]
    head = ["epoch", "learning_rate", "train/running/objective", "train/running/cross_entropy"]
    lines = [",".join([*head, *tags, "train/loss/cross_entropy"])]
    for epoch in range(1, epochs + 1):
        progress = 1 - 0.8**epoch
        loss = 2.3 - 2.0 * progress * (metrics["test/cls/accuracy"] or 0)
        values = [epoch, 0.1, loss, loss, *((metrics[tag] or 0) * progress for tag in tags)]
        lines.append(",".join([*map(str, values), "0.2" if epoch == epochs else ""]))
    return "\n".join(lines) + "\n"


def write_tuning(
    study: Path,
    arms: Mapping[str, Sequence[float | None]],
    *,
    trial_seeds: Sequence[int] = (1_000_000,),
    sampler: str = "paired",
    prior: str = "balanced",
    ended: str | None = None,
) -> Path:
    """Write ``<study>/tuning/tuning.json``: label -> value of every trial, None where it failed.

    The best trial is chosen; the label of an arm whose defaults won stays. With ``ended`` every
    trial has a record of a sealed run that began then and took no time. Returns the file.
    """
    entries = {}
    for label, values in arms.items():
        known = {k: value for k, value in enumerate(values) if value is not None}
        best = max(known, key=lambda k: known[k], default=None)
        trials = [
            {
                "number": k,
                "parameters": {"loss.gamma": 2.0 + k, "optimizer.lr": 0.05},
                "values": [value] * len(trial_seeds),
                "value": value,
                "folders": [f"{fingerprint(label, k, seed)}" for seed in trial_seeds],
            }
            for k, value in enumerate(values)
        ]
        entries[label] = {
            "space": {
                "loss.gamma": {"low": 0.5, "high": 5.0},
                "optimizer.lr": {"low": 0.005, "high": 0.5, "log": True},
            },
            "trials": trials,
            "chosen": None if best is None else {**trials[best], "value": known[best]},
            "default_arm": label,
            "tuned_arm": f"{label} (tuned)" if best else label,
        }
        for trial in trials if ended else ():
            for name, seed in zip(trial["folders"], trial_seeds, strict=True):
                _write_trial(study / "tuning", name, label, seed, ended)
    content = {
        "schema": 1,
        "written": "2026-01-02T00:00:00+00:00",
        "objective": "val/cls/balanced_accuracy",
        "validation_prior": prior,
        "higher_is_better": True,
        "sampler": sampler,
        "budget": max(map(len, arms.values())),
        "study_seed": 0,
        "trial_seeds": list(trial_seeds),
        "final_seeds": [0, 1, 2, 3, 4],
        "arms": entries,
    }
    path = study / "tuning" / "tuning.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _write_trial(place: Path, name: str, label: str, seed: int, ended: str | None) -> None:
    cell = "fashion_mnist | exponential 100 | convnet | 15 epochs"
    record = _record("tuning", label, cell, seed, np.full(10, 100), 0.7, True)
    record |= {"identity": name, "sealed": True, "started": ended, "seconds": 0.0}
    _write_run(place, record, EMPTY, 1, {})
    (place / f"run-{name}").rename(place / name)
