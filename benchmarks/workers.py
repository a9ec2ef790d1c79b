"""`python -m benchmarks.workers`: what a row costs with two workers and with one, from files to the null sink.

What counts is CPU a row: workers share nothing but the memory's bandwidth, so a second one should cost no more. A run
lasts half a minute, so that the start of interpreters is no part of the figure; two workers get twice the files. Wall
time is printed with the load of the machine: it says something only while both cores are ours.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpus import corpus
from benchmarks.yardstick import conditions, load, machine, settle

FILES, COPIES = 4, 4
SECONDS = 30.0
"""Wall time of a run, at least. Shorter ones measure the start of three interpreters instead of one."""
NEED, AIM = 1.05, 1.02
"""CPU of a row of two workers, in units of what it is with one."""
FIRST_DAY = 17152  # digits that all times of the corpus begin with
DONE = re.compile(r"^(?:worker \d+: )?done in ([\d.]+) s .*?, ([\d,]+) rows delivered", re.MULTILINE)
"""What a worker says at its end. Where there are several, a line of all follows, which begins otherwise."""


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


def linked(files: Path, to: Path, times: int) -> Path:
    """A folder with each file so many times, under names of their own: half a minute of rows would fill a disk."""
    to.mkdir()
    for number in range(times):
        for file in files.iterdir():
            os.link(file, to / f"{number:04d}-{file.name}")
    return to


def run(folder: Path, workers: int, rows: int) -> dict[str, float]:
    """One run: wall seconds of the slowest, CPU seconds of all, rows. Raises RuntimeError for other rows."""
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

    found = DONE.findall(done.stderr)
    delivered = sum(int(of.replace(",", "")) for _, of in found)
    if len(found) != workers or delivered != rows:
        raise RuntimeError(f"{workers} workers: {delivered:,} rows instead of {rows:,}: {done.stderr[-2000:]}")
    return {
        "wall": max(float(seconds) for seconds, _ in found),
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rows": rows,
    }


def measure(rounds: int, size: str = "medium", seconds: float = SECONDS) -> dict[str, Any]:
    """Alternating rounds of one worker and two. `seconds` is how long one of them takes, about."""
    with tempfile.TemporaryDirectory() as name:
        files = Path(name, "files")
        files.mkdir()
        rows = fill(files, size)
        times = 1 + int(seconds / run(linked(files, Path(name, "once"), 2), 1, 2 * rows)["wall"] * 2)
        runs: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
        folders = {workers: linked(files, Path(name, workers), times * int(workers)) for workers in runs}
        loads = []
        for _ in range(rounds):
            for workers, got in runs.items():
                got.append(run(folders[workers], int(workers), times * int(workers) * rows))
                loads.append(load())
    pairs = list(zip(runs["1"], runs["2"], strict=True))
    return {
        "rows": times * rows,
        "runs": runs,
        "load": loads,
        "wall_ratio": median((two["rows"] / two["wall"]) / (one["rows"] / one["wall"]) for one, two in pairs),
        "cpu_ratio": median((two["cpu"] / two["rows"]) / (one["cpu"] / one["rows"]) for one, two in pairs),
    }


def main() -> int:
    """Print the ratios; exit 1 when a row costs more with two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one run")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    print(conditions(machine()))
    found = measure(flags.rounds, seconds=flags.seconds)
    for name, runs in found["runs"].items():
        each = min(run["cpu"] / run["rows"] for run in runs) * 1e9
        wall = max(run["rows"] / run["wall"] for run in runs)
        print(f"{name} of them: {each:,.0f} ns of CPU a row, {wall:,.0f} rows a second of wall time")
    print(f"a row of two workers against one of one, CPU: {found['cpu_ratio']:.3f}x (need {NEED}, aim {AIM})")
    print(f"rows a second of wall time, two against one: {found['wall_ratio']:.2f}x; {', '.join(found['load'])}")
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["cpu_ratio"] <= NEED else 1


if __name__ == "__main__":
    settle()
    sys.exit(main())
