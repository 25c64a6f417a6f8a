"""Time and memory of the whole set of metrics, beside scikit-learn's AUROC alone.

    python scripts/bench_metrics.py [--shape 50000,1000] [--rounds 5]

Logits are float32, the targets long-tailed. "all" is `evaluate(..., detail=True)` less its
bootstrap, "epoch" is `evaluate` as it runs after every epoch, "bootstrap" the interval alone.
"scikit-learn" is `roc_auc_score` of one class against the rest on 20 classes, times C / 20: one of
the metrics, from probabilities that are given. Everything runs in one thread. The process's own
clock stands still while others run; both clocks are shown, and targets are held against the wall's.
Memory is the most that numpy had allocated at once beyond the logits.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from lossbench.evaluation import evaluate
from lossbench.evaluation.bootstrap import balanced_accuracy_interval

SECONDS = 15.0  # the target for 50,000 x 1,000
SUBSET = 20


def drawn(samples: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits ``(N, C)``, targets ``(N,)`` and training counts ``(C,)`` from 1280 to 5."""
    generator = np.random.default_rng(0)
    counts = np.maximum(1280 * 256.0 ** (-np.arange(classes) / max(1, classes - 1)), 1).astype(int)
    targets = generator.choice(classes, size=samples, p=counts / counts.sum())
    logits = generator.standard_normal((samples, classes), dtype=np.float32)
    logits *= 2
    logits[np.arange(samples), targets] += 6
    return logits, targets, counts


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and seconds of this process."""
    wall, process = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - process


def peak_bytes(run: Callable[[], object]) -> int:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shape", default="50000,1000")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    samples, classes = (int(number) for number in arguments.shape.split(","))
    logits, targets, counts = drawn(samples, classes)
    options = {"class_names": [str(c) for c in range(classes)], "train_counts": counts}
    confusion = evaluate(logits, targets, **options).arrays["confusion"]
    some = np.linspace(0, classes - 1, min(SUBSET, classes)).astype(int)
    probabilities = softmax(logits[:, some].astype(np.float64), axis=1)

    def scikit_learn() -> None:
        for column, c in enumerate(some):
            if 0 < (targets == c).sum() < samples:
                roc_auc_score(targets == c, probabilities[:, column])

    ways: dict[str, Callable[[], object]] = {
        "detail": lambda: evaluate(logits, targets, **options, detail=True),
        "epoch": lambda: evaluate(logits, targets, **options),
        "bootstrap": lambda: balanced_accuracy_interval(confusion),
        "scikit-learn": scikit_learn,
    }
    print(
        f"{samples} x {classes} float32 ({logits.nbytes / 1e6:.0f} MB), {arguments.rounds} rounds"
    )
    print("seconds, wall (process):         all            epoch        bootstrap     scikit-learn")
    rows = []
    for number in range(arguments.rounds):
        row = {name: np.array(timed(run)) for name, run in ways.items()}
        row["scikit-learn"] *= classes / len(some)
        row["all"] = row.pop("detail") - row["bootstrap"]
        rows.append(row)
        shown = (row[name] for name in ("all", "epoch", "bootstrap", "scikit-learn"))
        cells = "  ".join(f"{wall:7.3f} ({process:6.3f})" for wall, process in shown)
        print(f"  round {number + 1}:           {cells}", flush=True)
    wall, process = (statistics.median(row["all"][clock] for row in rows) for clock in (0, 1))
    ratio = statistics.median(row["all"][1] / row["scikit-learn"][1] for row in rows)
    target = f" (target: at most {SECONDS:.0f})" if (samples, classes) == (50_000, 1000) else ""
    print(f"all, medians: {wall:.3f} s on the wall{target}, {process:.3f} s of the process")
    print(f"all / scikit-learn's AUROC alone, process time: {ratio:.2f}")
    for name in ("detail", "epoch"):
        print(f"most memory beyond the logits, {name}: {peak_bytes(ways[name]) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
