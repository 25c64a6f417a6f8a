"""How large report.html is, how long it takes to write, and how soon a browser shows it.

    python scripts/bench_report.py [--arms 50] [--seeds 10] [--loads 5]

A made-up study in one cell: records with drawn numbers, every array that the page shows. Chromium
opens the page from disk: until verdict and table of metrics are laid out, and until the first
figure is drawn after the reader scrolls to it. Medians; milliseconds of this machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from lossbench.comparison.compare import compare
from lossbench.records import read_study

CLASSES, EPOCHS, BINS = 10, 30, 15
CELL = "made_up | exponential 100 | none | 30 epochs"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
GROUPS = {
    "cls": (
        *("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall", "geometric_mean"),
        *("head_recall", "mid_recall", "tail_recall"),
    ),
    "cal": ("negative_log_likelihood", "brier_score", "expected_calibration_error"),
    "cal_adjusted": ("negative_log_likelihood", "brier_score", "expected_calibration_error"),
    "recall": tuple(f"class {index}" for index in range(CLASSES)),
    "loss": ("cross_entropy", *(f"loss_{index}" for index in range(27))),
    "posthoc_temperature": ("balanced_accuracy", "expected_calibration_error"),
    "posthoc_logit_adjustment": ("balanced_accuracy", "expected_calibration_error"),
}


def write_study(folder: Path, arms: int, seeds: int) -> None:
    """Records of ``arms`` x ``seeds`` finished runs, the first arm cross_entropy."""
    draw = np.random.default_rng(0)
    for arm in range(arms):
        name = f"loss_{arm}" if arm else "cross_entropy"
        for seed in range(seeds):
            run = folder / f"{name}-{seed}"
            run.mkdir(parents=True)
            level = 0.7 + 0.001 * arm + 0.01 * draw.standard_normal()
            (run / "record.json").write_text(
                json.dumps(record(folder.name, name, seed, level, draw))
            )
            np.savez_compressed(run / "arrays.npz", **arrays(level, draw))
            np.savez_compressed(run / "outputs.npz")
            (run / "config.yaml").write_text(json.dumps({"seed": seed, "loss": {"name": name}}))
            (run / "history.csv").write_text(history(level))


def record(
    study: str, name: str, seed: int, level: float, draw: np.random.Generator
) -> dict[str, Any]:
    """What record.json holds of one run."""
    tags = [f"{split}/{g}/{m}" for split in ("val", "test") for g, ms in GROUPS.items() for m in ms]
    values = np.clip(level + 0.05 * draw.standard_normal(len(tags)), 0, 1)
    values[tags.index("test/cls/balanced_accuracy")] = level
    counts = [int(1000 * 100 ** (-index / (CLASSES - 1))) for index in range(CLASSES)]
    uniform = [1 / CLASSES] * CLASSES
    train = [count / sum(counts) for count in counts]
    return {
        **{
            "schema": 1,
            "status": "done",
            "reason": None,
            "study": study,
            "arm": name,
            "seed": seed,
        },
        **{"cell": CELL, "identity": f"{name}-{seed}", "configuration": name, "loss": name},
        "fingerprints": {key: f"{key}-{seed}" for key in ("subset", "init", "batches")},
        "class_names": [f"class {index}" for index in range(CLASSES)],
        "class_counts": counts,
        "priors": {"train": train, "val": uniform, "test": uniform},
        "metrics": dict(zip(tags, values.tolist(), strict=True)),
        **{"versions": {"lossbench": "0.1.0"}, "git": None, "hardware": {}, "model": "none"},
        **{"started": "2026-01-01T00:00:00+00:00", "seconds": 1.0},
    }


def arrays(level: float, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """The histograms and reliability bins of one run."""
    found: dict[str, np.ndarray] = {"edges": np.linspace(-8, 2, 101)}
    weights = np.exp(-0.5 * ((np.arange(102) - 80 + 30 * level) / 15) ** 2)
    for split in ("train", "val", "test"):
        counts = draw.multinomial(1000, weights / weights.sum(), size=CLASSES)
        found[f"histogram/cross_entropy/{split}"] = counts
        found[f"histogram/cross_entropy_of_errors/{split}"] = draw.binomial(counts, 1 - level)
    confidence = (np.arange(BINS) + 0.5) / BINS
    bins = np.stack([np.full(BINS, 100.0), confidence, confidence**1.2], axis=1)
    names = ("reliability/test/raw", "reliability/test/adjusted")
    return found | dict.fromkeys([*names, "posthoc/temperature/reliability/test"], bins)


def history(level: float) -> str:
    """history.csv of one run."""
    lines = ["epoch,train/running/cross_entropy,val/loss/cross_entropy,val/cls/balanced_accuracy"]
    for epoch in range(1, EPOCHS + 1):
        done = 1 - 0.85**epoch
        lines.append(f"{epoch},{2.3 - 2 * done},{2.3 - 1.5 * done},{level * done}")
    return "\n".join(lines) + "\n"


def load(browser: Browser, page_path: Path) -> tuple[float, float]:
    """Milliseconds until words and table stand, and from the scroll to the first figure drawn."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_path.as_uri(), wait_until="commit")
    page.locator("#tab-every-metric tbody tr").nth(10).wait_for()
    shown = page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => done(performance.now())))"
    )
    began = page.evaluate("performance.now()")
    page.locator("#fig-differences").scroll_into_view_if_needed()
    page.locator("#fig-differences svg.marks").wait_for()
    drawn = page.evaluate("performance.now()")
    page.close()
    return shown, drawn - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, usual in (("arms", 50), ("seeds", 10), ("loads", 5)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    chosen = parser.parse_args()
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if not found:
        raise SystemExit("no browser to open the page in: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        study = Path(place) / "study"
        write_study(study, chosen.arms, chosen.seeds)
        began = time.perf_counter(), time.process_time()
        compare(read_study(study), out=Path(place) / "out")
        wall, own = time.perf_counter() - began[0], time.process_time() - began[1]
        report = Path(place) / "out" / "report.html"
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        loads = [load(browser, report) for _ in range(chosen.loads)]
        browser.close()
        print(f"{chosen.arms} arms x {chosen.seeds} seeds, {chosen.loads} loads")
        print(f"report.html {report.stat().st_size / 1e6:.2f} MB")
        print(f"compare {wall:.1f} s, of which {own:.1f} s of processor time")
        for words, times in zip(
            ("words and table", "first figure"), zip(*loads, strict=True), strict=True
        ):
            spread = f"{min(times):.0f} to {max(times):.0f}"
            print(f"{words}: median {statistics.median(times):.0f} ms ({spread})")


if __name__ == "__main__":
    main()
