"""`python -m benchmarks.workers`: two workers against one, from files to the null sink.

Wall time of the slowest worker, from its start of reading to its end: it counts only while both cores are ours. Beside
it: what two would gain if nobody else ran, from CPU time alone, for they share nothing but the memory's bandwidth.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpus import corpus

FILES, COPIES = 8, 4
TARGET = {"first": 1.8, "then": 1.9}
FIRST_DAY = 17152  # digits that all times of the corpus begin with


def fill(folder: Path, size: str) -> int:
    """Write the files: the corpus of one minute each time, moved by a day; answers the rows."""
    data = corpus(size)
    for number in range(FILES):
        with (folder / f"{number}.jsonl").open("wb") as file:
            for copy in range(COPIES):
                day = FIRST_DAY + number * COPIES + copy
                for record in data.records:
                    file.write((record.value or b"").replace(b'"%d' % FIRST_DAY, b'"%d' % day) + b"\n")
    return FILES * COPIES * sum(data.rows)


def run(folder: Path, workers: int) -> dict[str, float]:
    """One run: (wall seconds of the slowest, CPU seconds of all, rows)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as letters:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "lmstream", "run", "--files", str(folder), "--org", "acme"),
                *("--sink", "null", "--workers", str(workers), "--dead-letters", letters),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.findall(r"done in ([\d.]+) s .*?, ([\d,]+) rows delivered", done.stderr)
    return {
        "wall": max(float(seconds) for seconds, _ in found),
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rows": sum(int(rows.replace(",", "")) for _, rows in found),
    }


def measure(rounds: int, size: str = "medium") -> dict[str, Any]:
    """Alternating rounds of one worker and two."""
    with tempfile.TemporaryDirectory() as name:
        rows = fill(Path(name), size)
        runs: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
        for _ in range(rounds):
            for workers, got in runs.items():
                got.append(run(Path(name), int(workers)))
                if got[-1]["rows"] != rows:
                    raise RuntimeError(f"{workers} workers: {got[-1]['rows']:,.0f} rows instead of {rows:,}")
    pairs = list(zip(runs["1"], runs["2"], strict=True))
    return {
        "rows": rows,
        "runs": runs,
        "wall_ratio": median(one["wall"] / two["wall"] for one, two in pairs),
        "best_wall_ratio": min(one["wall"] for one in runs["1"]) / min(two["wall"] for two in runs["2"]),
        "cpu_ratio": median(2 * one["cpu"] / two["cpu"] for one, two in pairs),
    }


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    found = measure(flags.rounds)
    print(
        f"two workers against one, {found['rows']:,} rows: {found['wall_ratio']:.2f}x of wall time in the median "
        f"round, {found['best_wall_ratio']:.2f}x in the best; {found['cpu_ratio']:.2f}x by CPU time, start-up included"
    )
    print(f"targets: first {TARGET['first']}x, then {TARGET['then']}x, on two cores of one's own")
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
