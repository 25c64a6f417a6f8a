"""What a sweep costs beyond its training, and how it scales with workers on this machine.

    python scripts/bench_sweeps.py scaling  [--workers 1,2,4] [--runs 16] [--rounds 3] [--epochs 20]
    python scripts/bench_sweeps.py overhead [--workers 2] [--runs 100] [--epochs 16]

The real command on digits (exponential 10, mlp, one thread a run), each time in a new folder.

- scaling: runs per minute from the first run's start to the last one's end, and the ratio to one
  worker. The numbers of workers take turns, so that a drifting machine slows all; a ratio is that
  of neighbours in a round, the median over the rounds is given, with the least and the most.
- overhead: worker-seconds per run, (wall - start-up) x workers / runs, where start-up lasts until
  the first run takes its lock (imports, composing, checking the data). It is split into
  - training: the epochs up to the end of the last one's steps, measuring left out (a probe in the
    workers takes the times),
  - measuring and keeping: what happens after the steps of each epoch (validation, checkpoint),
  - the end: test, post-hoc methods, figures, arrays, outputs, record,
  - building: data, model, loss, lock, folder,
  - between runs: all else, that is what the sweep itself costs.
  The overhead is everything but training; choose --epochs such that training is about a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lossbench.records import read_study

PROBE = '''
"""Put on the path of every process as sitecustomize: times the parts of a run in the workers."""
import os, sys, time, json, importlib.abc, importlib.machinery

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "lossbench.training.run":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def load(module):
            execute(module)
            watch(module)
        spec.loader.exec_module = load
        return spec

def watch(module):
    from lossbench.training.recorder import Recorder
    spent = {}
    def timed(owner, name, part):
        inner = getattr(owner, name)
        def outer(*arguments, **named):
            began = time.perf_counter()
            try:
                return inner(*arguments, **named)
            finally:
                spent[part] = spent.get(part, 0) + time.perf_counter() - began
        setattr(owner, name, outer)
    timed(module.Training, "_fit", "fit")
    timed(module.Training, "_finish", "end")
    timed(Recorder, "on_train_epoch_end", "keeping")
    inner = module.execute
    def execute(run, progress=None):
        spent.clear()
        began, at = time.perf_counter(), time.time()
        outcome = inner(run, progress)
        spent.update(began=at, ended=time.time(), whole=time.perf_counter() - began)
        with open(os.environ["BENCH_TIMES"], "a") as file:
            file.write(json.dumps(spent) + chr(10))
        return outcome
    module.execute = execute

if os.environ.get("BENCH_TIMES"):
    sys.meta_path.insert(0, Finder())
'''


def sweep(
    where: Path, workers: int, runs: int, epochs: int
) -> tuple[float, list[dict[str, float]]]:
    """(end of the command, the times of each run) of one sweep in the new folder ``where``."""
    where.mkdir()
    (where / "sitecustomize.py").write_text(PROBE)
    path = os.pathsep.join([str(where), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [
        *(sys.executable, "-m", "lossbench", "sweep", "data=digits", "imbalance=exponential"),
        *("imbalance.factor=10", f"trainer.max_epochs={epochs}", f"seed=range(0,{runs})"),
        *(f"workers={workers}", "study=bench"),
    ]
    times = where / "times"
    environment = os.environ | {"PYTHONPATH": path, "BENCH_TIMES": str(times)}
    ended = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    end = time.time()
    done = sum(record.status == "done" for record in read_study(where / "runs" / "bench"))
    if ended.returncode or done != runs:
        raise SystemExit(f"the sweep ended with {ended.returncode}, {done} done:\n{ended.stderr}")
    return end, [json.loads(line) for line in times.read_text().splitlines()]


def scaling(folder: Path, options: argparse.Namespace) -> None:
    """Print the throughput of each number of workers."""
    numbers = [int(number) for number in options.workers.split(",")]
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    for round_ in range(options.rounds):
        for number in numbers if round_ % 2 == 0 else reversed(numbers):
            where = folder / f"{round_}-{number}"
            _, times = sweep(where, number, options.runs, options.epochs)
            took = max(run["ended"] for run in times) - min(run["began"] for run in times)
            rates[number].append(60 * options.runs / took)
    print(f"{options.runs} runs of {options.epochs} epochs, n = {options.rounds} rounds")
    for number in numbers:
        ratios = [rate / one for rate, one in zip(rates[number], rates[numbers[0]], strict=True)]
        print(
            f"{number} workers: {statistics.median(rates[number]):6.1f} runs per minute, "
            f"{statistics.median(ratios):.2f} times {numbers[0]} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


def overhead(folder: Path, options: argparse.Namespace) -> None:
    """Print what a run costs, and of what that consists."""
    workers, runs = int(options.workers), options.runs
    end, times = sweep(folder / "sweep", workers, runs, options.epochs)
    whole = (end - min(run["began"] for run in times)) * workers / runs

    def mean(*parts: str) -> float:
        return sum(run[part] for run in times for part in parts) / runs

    keeping, closing = mean("keeping"), mean("end")
    training = mean("fit") - keeping
    inside = mean("whole")
    print(f"{runs} runs of {options.epochs} epochs on {workers} workers; seconds per run:")
    for words, seconds in (
        ("a run, as worker-seconds of the sweep", whole),
        ("  training", training),
        ("  overhead", whole - training),
        ("    measuring and keeping each epoch", keeping),
        ("    the end: test, figures, record", closing),
        ("    building", inside - mean("fit") - closing),
        ("    between runs: the sweep itself", whole - inside),
    ):
        print(f"{words:42}{seconds:7.3f}")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("scaling", "overhead"))
    parser.add_argument("--workers", default=None, help="a list for scaling, a number for overhead")
    parser.add_argument("--runs", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    options = parser.parse_args()
    measure, workers, runs, epochs = {
        "scaling": (scaling, "1,2,4", 16, 20),
        "overhead": (overhead, "2", 100, 16),
    }[options.what]
    options.workers = options.workers or workers
    options.runs = options.runs or runs
    options.epochs = options.epochs or epochs
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


if __name__ == "__main__":
    main()
