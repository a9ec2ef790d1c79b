"""`make bench-peers`: what others take to make the same rows, on the same corpus: CPU time of a row, one thread.

Runs in an environment of its own (.venv-peers, requirements/peers.lock). A peer reads bundles from a file and
makes the rows of the engine, which are compared with its own, parsed, before anything is timed. What a peer leaves
out is said, and so is one that could not be installed or run.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

import lmstream
from benchmarks import peer_files, peer_programs, peer_streams
from benchmarks.corpus import SIZES, corpus
from benchmarks.peer_files import SENT_MS, TOPIC, Source
from benchmarks.yardstick import conditions, load, machine, settle
from lmstream.lab.broker import Broker
from lmstream.native import engine

RESULT = Path(__file__).parent / "results" / "peers.json"
ROUNDS = 5
OURS = "lmstream"
BARE = ("rowId", "orgId", "orgKey", "metricKey")
"""Fields that SQL cannot make without a function of ours: left out of SQL peers, and of what they are compared with."""


class Peer(NamedTuple):
    """One way to make the rows. `run` reads a source and writes its lines; it answers the seconds of CPU of processes
    that it started, or nothing."""

    name: str
    package: str
    said: str
    run: Callable[[Source, Path], float | None]
    left_out: tuple[str, ...] = ()
    ours: bool = False
    compared: bool = True
    """Whether its rows are held against ours; one of a shape of its own only has to make as many."""


PEERS: tuple[Peer, ...] = (
    Peer("lmstream", OURS, "the engine, file to file", peer_files.lmstream, ours=True),
    Peer("orjson, no framework", "orjson", "the baseline of make bench, file to file", peer_files.plain_orjson),
    Peer("Bytewax", "bytewax", "a dataflow of one worker, the orjson function inside", peer_files.bytewax),
    Peer(
        "DuckDB",
        "duckdb",
        "one SQL statement; leaves out row id, organization and path keys; integers as doubles",
        peer_files.duckdb,
        BARE,
    ),
    Peer(
        "chDB (ClickHouse)",
        "chdb",
        "one SQL statement; leaves out row id, organization and path keys; integers as doubles",
        peer_files.chdb,
        BARE,
    ),
    Peer("lmstream, from Kafka", OURS, "lmstream run from a topic to standard output", peer_streams.lmstream),
    Peer("Quix Streams", "quixstreams", "from a topic to a file, the orjson function inside", peer_streams.quixstreams),
    Peer("Faust", "faust-streaming", "from a topic to a file, the orjson function inside", peer_streams.faust),
    Peer(
        "Rotel",
        "rotel",
        "OTLP over HTTP to ClickHouse's RowBinary, unbatched, for with batches fewer rows arrived; a shape of its own: "
        "no row id, organization or path keys; rows are counted, not compared",
        peer_programs.rotel,
        compared=False,
    ),
    Peer(
        "Redpanda Connect (benthos)",
        peer_programs.GO["connect"],
        "the engine of Redpanda Connect, a mapping, file to file; leaves out row id, organization and path keys",
        peer_programs.connect,
        BARE,
    ),
    Peer(
        "OpenTelemetry Collector",
        peer_programs.GO["collector"],
        "OTLP over HTTP to a file of OTLP/JSON, less work: it decodes and encodes, and makes no rows",
        peer_programs.collector,
        compared=False,
    ),
)
NOT_HERE = {
    "Fluent Bit": "neither Debian 12 nor PyPI has a package of it, and it is no Go module",
}
"""Peers that cannot be had from the registries that this project uses."""


def parsed(path: Path, left_out: tuple[str, ...]) -> list[str]:
    """The rows in one order and one spelling; numbers as doubles, members without a value left out."""
    rows = []
    for line in path.read_bytes().splitlines():
        row = {k: v for k, v in json.loads(line).items() if v is not None and k not in left_out}
        row["value"] = float(row["value"])
        rows.append(json.dumps(row, sort_keys=True))
    return sorted(rows)


def once(name: str, told: str, rows: Path) -> int:
    """Run a peer in this process; print the seconds of CPU, imports and start-up of the library included."""
    (peer,) = (p for p in PEERS if p.name == name)
    file, bundles, of, bootstrap = json.loads(told)
    start = time.process_time()
    others = peer.run(Source(Path(file), bundles, of, bootstrap), rows)
    print(time.process_time() - start if others is None else others)
    return 0


def timed(peer: Peer, source: Source, rows: Path) -> float:
    """Seconds of CPU of one run, in a process of its own. Raises RuntimeError when it fails or rows are missing."""
    rows.unlink(missing_ok=True)
    told = json.dumps([str(source.file), *source[1:]])
    command = [sys.executable, "-m", "benchmarks.peers", "--once", peer.name, told, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    if peer.compared and (made := rows.read_bytes().count(b"\n")) != source.rows:
        raise RuntimeError(f"{made:,} rows instead of {source.rows:,}")
    return float(done.stdout.split()[-1])


async def measure(size: str, rounds: int) -> dict[str, Any]:
    """Check every peer's rows, then time those that are right. The start-up is taken off: what a run over a
    tenth of the bundles takes beyond its rows."""
    data = corpus(size)
    payloads = [record.value or b"" for record in data.records]
    with tempfile.TemporaryDirectory() as name:
        # A broker for each: a consumer that is told to stop still settles what it has read.
        async with Broker() as all_of_them, Broker() as a_tenth:
            sources = []
            for broker, bundles in ((all_of_them, len(payloads)), (a_tenth, len(payloads) // 10)):
                await _published(broker, payloads[:bundles])
                file = Path(name, f"{bundles}.jsonl")
                sources.append(Source(file, bundles, sum(data.rows[:bundles]), broker.bootstrap))
            peers = await asyncio.to_thread(_measure, payloads, sources[0], sources[1], rounds)
    return {"size": size, "rows": sum(data.rows), "rounds": rounds, "peers": peers}


async def _published(broker: Broker, payloads: list[bytes]) -> None:
    await broker.create_topic(TOPIC, 1)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, max_request_size=8 << 20)
    await producer.start()
    try:
        for payload in payloads:
            await producer.send_and_wait(TOPIC, payload, partition=0, timestamp_ms=SENT_MS)
    finally:
        await producer.stop()


def _measure(payloads: list[bytes], whole: Source, part: Source, rounds: int) -> list[dict[str, Any]]:
    for each in (whole, part):
        each.file.write_bytes(b"\n".join(payloads[: each.bundles]) + b"\n")
    rows, expected = whole.file.with_name("rows"), whole.file.with_name("expected")
    peer_files.lmstream(part, expected)
    right, told = [], []
    for peer in PEERS:
        found = {"name": peer.name, "ours": peer.ours, "said": peer.said, "left_out": peer.left_out}
        found |= {"ns_per_row": None, "version": _version(peer.package)}
        told.append(found)
        try:
            timed(peer, part, rows)
            made, wanted = (parsed(each, peer.left_out) for each in (rows, expected))
        except (RuntimeError, subprocess.TimeoutExpired, OSError, ValueError) as error:
            found["said"] = f"not run: {error}"
            continue
        if peer.compared and made != wanted:
            differ = next((pair for pair in zip(made, wanted, strict=False) if pair[0] != pair[1]), "their number")
            found["said"] = f"other rows, not timed: {str(differ)[:600]}"
            continue
        right.append((peer, found))
    for peer, found in right:
        best = []
        try:
            for _ in range(rounds):
                best += [timed(peer, each, rows) for each in (whole, part)]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found["said"] = f"not timed, a run over all bundles failed: {error}"
            continue
        cpu = min(best[::2]) - min(best[1::2])
        found["ns_per_row"] = cpu / (whole.rows - part.rows) * 1e9
    missing = {"ours": False, "left_out": (), "ns_per_row": None, "version": None}
    return told + [{"name": name, "said": f"not run: {why}"} | missing for name, why in NOT_HERE.items()]


def _version(package: str) -> str | None:
    if package == OURS:  # it is on the path, and not installed here
        return f"{lmstream.__version__}, {engine()} engine"
    if "/" in package:
        return peer_programs.version_of(package)
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> int:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=3, metavar=("PEER", "SOURCE", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULT)
    flags = parser.parse_args()
    if flags.rounds < 1:
        parser.error("--rounds must be at least 1")
    if flags.once:
        name, told, rows = flags.once
        return once(name, told, Path(rows))
    peer_programs.build()
    print(conditions(machine()))
    found = asyncio.run(measure(flags.size, flags.rounds))
    found |= {"machine": machine(), "load": load()}
    ours = next(p["ns_per_row"] for p in found["peers"] if p["ours"])
    print(f"{'peer':22} {'version':>10} {'ns/row':>8} {'times ours':>10}")
    for peer in found["peers"]:
        took = peer["ns_per_row"]
        figures = f"{took:8,.0f} {took / ours:9.1f}x" if took else f"{'-':>8} {'-':>10}"
        print(f"{peer['name']:22} {peer['version'] or 'none':>10} {figures}  {peer['said']}")
    flags.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    settle()
    sys.exit(main())
