"""`python -m benchmarks.paired REV`: this tree against another revision, in pairs of rounds, CPU time per row.

A pair is two fresh processes, one for each of the two, for where a process finds its memory moves its speed by more
than what is looked for here. A round is cut into slices, and the two are asked for one slice after the other, so that
whatever else the machine does falls on both; the quickest of a slice's rounds counts. Printed: the median of the
ratios (above 1 is quicker than REV) and its 95 % interval. REV's native part is built where this tree has one, so that
a case is of the same engine twice; `small:engine, plain` leaves it out.
"""

import argparse
import gc
import io
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.corpus import SIZES, corpus
from benchmarks.yardstick import settle
from lmstream.native import engine

ROOT = Path(__file__).parent.parent
DATA: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Of extractall: Debian 12's Python does not know it yet."""
VARIANTS = ("engine", "engine cold", "engine protobuf")
RESAMPLED = 2000
SLICES = 16
ROUNDS = 9  # of a pair


def worker() -> None:
    """Answer each line of stdin, a case and a slice of its corpus, with the seconds of CPU."""
    # Where objects come to lie is chance, but the same chance for the same code: a revision would have its luck in
    # every pair. Blocks of all sizes, every other one given back, deal anew.
    blocks = [bytes(random.randrange(1024)) for _ in range(random.randrange(10_000, 60_000))]
    del blocks[::2]
    from benchmarks import measure  # the engine of the one or the other revision

    of = {}
    for line in sys.stdin:
        size, name, part = json.loads(line)
        if (size, name) not in of:
            encoding = "proto" if name.endswith("protobuf") else "json"
            bundles = SIZES[size].bundles
            before = {encoding: corpus(size, encoding, minute=0, bundles=bundles)}
            now = corpus(size, encoding, minute=1, bundles=bundles)
            of[size, name] = measure.variants([name])[0], before, now
            gc.collect()
            gc.freeze()
        variant, before, now = of[size, name]
        if not part:
            measure._warm([variant], before)  # noqa: SLF001 - as the benchmark itself does
            gc.collect()
        print(variant.run(now.records[part::SLICES]), flush=True)


def source_of(revision: str, folder: Path) -> Path:
    """Lay out the package of a revision, with the native part of its own sources where this tree has one."""
    made = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(made)) as packed:
        packed.extractall(folder, **DATA)
    if engine() == "native" and (build := folder / "native/build.py").exists():
        subprocess.run([sys.executable, str(build)], check=True)
    return folder / "src"


def started(source: Path, seed: int) -> "subprocess.Popen[str]":
    # One seed for both: hashes decide how dicts and sets lie.
    env = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-m", "benchmarks.paired", "--worker"]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask(one: "subprocess.Popen[str]", case: tuple[str, str], part: int) -> float:
    assert one.stdin is not None
    assert one.stdout is not None
    one.stdin.write(json.dumps([*case, part]) + "\n")
    one.stdin.flush()
    return float(one.stdout.readline())


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Median, and the 2.5 and 97.5 % points of medians of resampled ratios."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLED))
    return statistics.median(ratios), medians[RESAMPLED // 40], medians[-RESAMPLED // 40]


def pair(sources: tuple[Path, Path], case: tuple[str, str], seed: int) -> tuple[float, float]:
    """Seconds of CPU a round of this tree and of the other, in one pair of processes."""
    mine, other = (started(source, seed) for source in sources)
    quickest = {one: [math.inf] * SLICES for one in (mine, other)}
    for number in range(ROUNDS):
        for part in range(SLICES):
            # Who goes first changes: the first finds the processor as the other left it.
            for one in (mine, other) if (number + part) % 2 else (other, mine):
                quickest[one][part] = min(quickest[one][part], ask(one, case, part))
    for one in (mine, other):
        one.communicate()
    return sum(quickest[mine]), sum(quickest[other])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", nargs="?")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--case", action="append", help="small:engine, and the like; may be repeated")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker()
        return
    if not args.revision:
        parser.error("name a revision to compare with")
    cases = [tuple(case.split(":", 1)) for case in args.case or ()] or list(itertools.product(SIZES, VARIANTS))
    with tempfile.TemporaryDirectory() as folder:
        sources = ROOT / "src", source_of(args.revision, Path(folder))
        print(f"{'case':<26} {'ns a row':>9} {'before':>9} {'ratio':>7}  95 % interval, {args.pairs} pairs")
        for case in cases:
            rows = sum(corpus(case[0], "json", minute=1, bundles=SIZES[case[0]].bundles).rows)
            pairs = [pair(sources, case, seed) for seed in range(args.pairs)]
            middle, low, high = interval([before / now for now, before in pairs])
            now, before = (statistics.median(of) * 1e9 / rows for of in zip(*pairs, strict=True))
            print(f"{' '.join(case):<26} {now:9.0f} {before:9.0f} {middle:7.3f}  {low:.3f} to {high:.3f}", flush=True)


if __name__ == "__main__":
    settle()
    main()
