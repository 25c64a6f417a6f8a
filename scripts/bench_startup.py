"""How long the commands take that train nothing, beyond the bare interpreter.

    python scripts/bench_startup.py [--rounds 9]

`lossbench --help`, `losses` and `status` on 100 records, in turns with `python -c pass`, medians
of the differences; then `compare` on 1,000 synthetic records, once.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.comparison.synthetic import write_synthetic_study  # noqa: E402

BEYOND, COMPARE = 0.5, 10.0  # seconds: the targets


def seconds(*command: str, where: Path) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=where, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        for name, arms in (("hundred", 10), ("thousand", 100)):
            effects = {"cross_entropy": 0.0} | {f"loss_{i}": 0.001 * i for i in range(1, arms)}
            write_synthetic_study(where / "runs" / name, effects, range(10))
        for command in ("--help", "losses", "status study=hundred"):
            beyond = []
            for _ in range(rounds):
                bare = seconds("-c", "pass", where=where)
                beyond.append(seconds("-m", "lossbench", *command.split(), where=where) - bare)
            print(
                f"lossbench {command:22} {statistics.median(beyond):5.2f} s beyond the bare "
                f"interpreter, median of {rounds} (target: at most {BEYOND})"
            )
        took = seconds("-m", "lossbench", "compare", "study=thousand", where=where)
        print(
            f"lossbench compare on 1,000 records: {took:.1f} s, n = 1 (target: at most {COMPARE})"
        )


if __name__ == "__main__":
    main()
