"""`python -m benchmarks.change REV`: this tree against another revision: the transform, and the whole way from Kafka.

Each figure is taken by a process of its own, this tree's and the other's by turns, so that whatever else the machine
does falls on both; the native part of the other revision is built when Rust is here, and both run as they are
installed. The table of docs/benchmarks.md is of the medians.
"""

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lmstream
from benchmarks import consumer, lake
from benchmarks.corpus import TOPIC
from benchmarks.measure import measure
from benchmarks.paired import DATA
from benchmarks.responder import responder
from benchmarks.yardstick import conditions, load, machine, settle

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "change.json"
ROUNDS = 3
TRANSFORM = (
    ("small", "engine"),
    ("medium", "engine"),
    ("large", "engine"),
    ("medium", "engine cold"),
    ("medium", "engine protobuf"),
    ("small", "engine, plain"),
    ("medium", "engine, plain"),
    ("large", "engine, plain"),
    ("medium", "engine cold, plain"),
)
WHOLE = ("Kafka to Firehose", "Kafka to S3 gz, path with the metric", "Kafka to S3 gz, path without the metric")


class UnmeasuredError(Exception):
    """A tree cannot be had or does not run here. The text says why, in one line."""


def source_of(revision: str, folder: Path, *, native: bool = True) -> Path:
    """Lay out the package of a revision, with its native part where that is wanted and can be built. Raises
    UnmeasuredError without git, and where the history does not go back that far.
    """
    command = ["git", "archive", revision, "src", "native"]
    try:
        made = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    except OSError as error:
        raise UnmeasuredError(f"git does not run: {error.strerror}") from error
    if made.returncode:
        said = made.stderr.decode(errors="replace").strip().splitlines() or ["git archive failed"]
        raise UnmeasuredError(f"git does not have it: {said[0]}")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as packed:
        packed.extractall(folder, **DATA)
    if not native:
        return folder / "src"
    built = subprocess.run([sys.executable, "native/build.py"], cwd=folder, check=False, capture_output=True, text=True)
    if built.returncode:
        print(f"{revision} runs without its native part: {built.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return folder / "src"


def child(told: str) -> int:
    """One figure of the lmstream that is on the path: nanoseconds of CPU a row."""
    source = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])
    if not Path(lmstream.__file__).resolve().is_relative_to(source.resolve()):
        # Else a tree would be compared with itself, and found as quick.
        print("lmstream is not imported from the tree that is to be measured", file=sys.stderr)
        return 1
    kind, *of = json.loads(told)
    if kind == "transform":
        size, name = of
        print(measure(size, (name, "typed decode"), rounds=3).best(name))  # one of JSON has to be there
        return 0
    bootstrap, sink, records, rows = of
    work = consumer._run if sink["type"] == "firehose" else lake.run  # noqa: SLF001 - the benchmarks' own
    with tempfile.TemporaryDirectory() as folder:
        run = asyncio.run(work(consumer._config(bootstrap, sink, "kafka", folder, {}), records, rows))  # noqa: SLF001
    print(run["cpu_seconds"] / run["rows"] * 1e9)
    return 0


def asked(source: Path, told: Sequence[Any]) -> float:
    """The same, of a tree. Raises UnmeasuredError when its process fails, as where its dependencies do not fit."""
    env = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.change", "--child", json.dumps(told)]
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise UnmeasuredError(said[-1])
    return float(done.stdout.split()[-1])


async def whole(sources: dict[str, Path], rounds: int, found: dict[str, dict[str, list[float]]]) -> None:
    """From Kafka, by turns."""
    from lmstream.lab import KafkaLab

    with responder() as url, lake.store() as (s3, emptied), tempfile.TemporaryDirectory() as folder:
        async with KafkaLab(folder, mtls=False) as kafka:
            await kafka.create_topic(TOPIC, consumer.PARTITIONS)
            records, rows = await consumer.published(kafka, "medium")
            for turn in range(rounds):
                for name in WHOLE:
                    for which, source in sources.items():
                        sink = consumer.firehose(url)
                        if "S3" in name:
                            sink = {"type": "s3", "bucket": lake.BUCKET, "region": "us-east-1", "endpoint_url": s3}
                            sink["incarnation"] = f"{turn}-{which}-{len(name)}"
                        if "without" in name:
                            sink["engine.path"] = lake.BARE
                        told = ("whole", kafka.bootstrap, sink, records, rows)
                        found[name][which].append(await asyncio.to_thread(asked, source, told))
                        emptied()


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("revision", nargs="?")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        return child(flags.child)
    if not flags.revision:
        parser.error("name a revision to compare with")
    os.environ |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    names = [*(f"{name}, {size}" for size, name in TRANSFORM), *WHOLE]
    found: dict[str, dict[str, list[float]]] = {name: {"before": [], "after": []} for name in names}
    print(f"{conditions(machine())}; {load()}")
    with tempfile.TemporaryDirectory() as folder:
        sources = {"before": source_of(flags.revision, Path(folder)), "after": ROOT / "src"}
        for _ in range(flags.rounds):
            for size, name in TRANSFORM:
                for which, source in sources.items():
                    found[f"{name}, {size}"][which].append(asked(source, ("transform", size, name)))
        asyncio.run(whole(sources, flags.rounds, found))
    told = {
        "revision": flags.revision,
        "machine": machine(),
        "load": load(),
        "ns_per_row": found,
        "rounds": flags.rounds,
    }
    for row in table(told):
        print("".join(f"{cell:<44}" if not at else f"{cell:>20}" for at, cell in enumerate(row)))
    flags.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


def table(told: dict[str, Any]) -> list[list[str]]:
    """A head, and a row for each figure."""
    rows = [["CPU of a row", "before", "after", "of before"]]
    for name, took in told["ns_per_row"].items():
        before, after = median(took["before"]), median(took["after"])
        ratio = median(a / b for a, b in zip(took["after"], took["before"], strict=True))
        rows.append([name, f"{before:,.0f} ns", f"{after:,.0f} ns", f"{ratio:.2f}"])
    return rows


if __name__ == "__main__":
    settle()
    sys.exit(main())
