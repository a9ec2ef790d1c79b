"""`make bench-peers`: what others take to make the same rows, on the same corpus: CPU time of a row, one thread.

Runs in an environment of its own (.venv-peers, requirements/peers.lock). A peer reads bundles from a file and
makes the rows of the engine, which are compared with its own, parsed, before anything is timed. What a peer leaves
out is said, and so is one that could not be installed or run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import baselines
from benchmarks.corpus import corpus
from lmstream import Engine, Record, Settings

RESULT = Path(__file__).parent / "results" / "peers.json"
ROUNDS = 5
BARE = ("rowId", "orgId", "orgKey", "metricKey")
"""Fields that SQL cannot make without a function of ours: left out of SQL peers, and of what they are compared with."""


class Peer(NamedTuple):
    """One way to make the rows. `run` reads the file of bundles, one JSON document a line, and answers its lines."""

    name: str
    package: str
    said: str
    run: Callable[[Path, Path], None]
    left_out: tuple[str, ...] = ()
    ours: bool = False


def _records(path: Path) -> list[Record]:
    return [
        Record(topic="t", partition=0, offset=n, timestamp=0, value=line)
        for n, line in enumerate(path.read_bytes().splitlines())
    ]


def lmstream(bundles: Path, rows: Path) -> None:
    """The engine."""
    engine = Engine(Settings(org_id=baselines.ORG))
    with rows.open("wb") as file:
        for record in _records(bundles):
            file.write(engine.fan_out(record).ndjson())


def plain_orjson(bundles: Path, rows: Path) -> None:
    """The baseline, without a framework around it."""
    with rows.open("wb") as file:
        for record in _records(bundles):
            file.write(baselines.orjson_lines(record))


def bytewax(bundles: Path, rows: Path) -> None:
    """A dataflow of one worker around the orjson function."""
    import bytewax.operators as op
    from bytewax.connectors.files import FileSink
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSource, run_main

    flow = Dataflow("rows")
    records = op.input("in", flow, TestingSource(_records(bundles), batch_size=10))
    lines = op.flat_map("flatten", records, lambda record: baselines.orjson_lines(record).decode().splitlines())
    op.output("out", op.key_on("key", lines, lambda _: "all"), FileSink(rows))
    run_main(flow)


_ATTRIBUTES = (
    "map_from_entries(list_transform({list}, lambda a: struct_pack(k := a.key, v := coalesce(a.value.stringValue, "
    "a.value.intValue, cast(a.value.boolValue as varchar), cast(a.value.doubleValue as varchar)))))"
)


def duckdb(bundles: Path, rows: Path) -> None:
    """One SQL statement, one thread."""
    import duckdb as db

    value = "STRUCT(stringValue VARCHAR, intValue VARCHAR, boolValue BOOLEAN, doubleValue DOUBLE)"
    pairs = f"STRUCT(key VARCHAR, value {value})[]"
    point = (
        f"STRUCT(startTimeUnixNano VARCHAR, timeUnixNano VARCHAR, asDouble DOUBLE, asInt VARCHAR, attributes {pairs})[]"
    )
    metric = (
        f"STRUCT(name VARCHAR, unit VARCHAR, gauge STRUCT(dataPoints {point}), "
        f"sum STRUCT(dataPoints {point}, aggregationTemporality INTEGER, isMonotonic BOOLEAN))[]"
    )
    schema = (
        f"STRUCT(resource STRUCT(attributes {pairs}), "
        f"scopeMetrics STRUCT(scope STRUCT(name VARCHAR, attributes {pairs}), metrics {metric})[])[]"
    )
    resource, scope, attributes = (
        _ATTRIBUTES.format(list=each) for each in ("r.resource.attributes", "s.scope.attributes", "p.attributes")
    )
    db.sql("set threads = 1")
    db.sql(f"""
      copy (
        with bundles as (select unnest(resourceMetrics) r from read_json('{bundles}', format = 'newline_delimited',
            columns = {{resourceMetrics: '{schema}'}}, maximum_object_size = 64000000)),
          scopes as (select r, unnest(r.scopeMetrics) s from bundles),
          metrics as (select {resource} resource, {scope} scope, s.scope.name datasource, unnest(s.metrics) m
            from (select r, s from scopes)),
          points as (select resource, scope, datasource, m, unnest(coalesce(m.gauge.dataPoints, m.sum.dataPoints)) p
            from metrics)
        select coalesce(resource['hostId'], 'unknown') "deviceId", resource['hostName'] "deviceName", resource,
          datasource, map_concat(map {{'name': datasource}}, scope) scope, m.name metric, m.unit unit,
          case when m.sum is null then 'gauge' else 'sum' end "type",
          case m.sum.aggregationTemporality when 1 then 'delta' when 2 then 'cumulative' end temporality,
          m.sum.isMonotonic monotonic,
          strftime(make_timestamp(cast(p.timeUnixNano as bigint) // 1000), '%Y-%m-%dT%H:%M:%S.%gZ') ts,
          cast(p.timeUnixNano as bigint) // 1000000 "tsUnixMs",
          cast(p.startTimeUnixNano as bigint) // 1000000 "startTsUnixMs",
          coalesce(cast(p.asInt as double), p.asDouble) "value",
          coalesce({attributes}['dataSourceInstanceName'], {attributes}['wildValue']) "instance",
          {attributes} attributes
        from points) to '{rows}' (format json)
    """)


PEERS = (
    Peer("lmstream", "msgspec", "the engine, file to file", lmstream, ours=True),
    Peer("orjson, no framework", "orjson", "the baseline of make bench, file to file", plain_orjson),
    Peer("Bytewax", "bytewax", "a dataflow of one worker, the orjson function inside", bytewax),
    Peer(
        "DuckDB",
        "duckdb",
        "one SQL statement; leaves out row id, organization and path keys; integers as doubles",
        duckdb,
        BARE,
    ),
)
NOT_RUN = {
    "chdb": "installs; the same rows as one SQL statement are not written yet",
    "quixstreams": "installs; reads from Kafka only, a harness around a broker is not written yet",
    "faust-streaming": "installs; reads from Kafka only, a harness around a broker is not written yet",
    "rotel": "installs; takes OTLP over HTTP and writes ClickHouse's RowBinary, a harness is not written yet",
}


def parsed(path: Path, left_out: tuple[str, ...]) -> list[str]:
    """The rows in one order and one spelling; numbers as doubles, members without a value left out."""
    rows = []
    for line in path.read_bytes().splitlines():
        row = {k: v for k, v in json.loads(line).items() if v is not None and k not in left_out}
        row["value"] = float(row["value"])
        rows.append(json.dumps(row, sort_keys=True))
    return sorted(rows)


def once(name: str, bundles: Path, rows: Path) -> int:
    """Run a peer in this process; print the seconds of CPU, imports and start-up of the library included."""
    (peer,) = (p for p in PEERS if p.name == name)
    start = time.process_time()
    peer.run(bundles, rows)
    print(time.process_time() - start)
    return 0


def timed(peer: Peer, bundles: Path, rows: Path) -> float:
    """Seconds of CPU of one run, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", "--once", peer.name, str(bundles), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return float(done.stdout.split()[-1])


def measure(size: str, rounds: int) -> dict[str, Any]:
    """Check every peer's rows, then time those that are right. The start-up is taken off: what a run over a
    tenth of the bundles takes beyond its rows."""
    data = corpus(size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, part = folder / "whole.jsonl", folder / "part.jsonl"
        payloads = [record.value or b"" for record in data.records]
        tenth = len(payloads) // 10
        whole.write_bytes(b"\n".join(payloads) + b"\n")
        part.write_bytes(b"\n".join(payloads[:tenth]) + b"\n")
        few = sum(data.rows[:tenth])
        lmstream(part, folder / "expected")
        right, told = [], []
        for peer in PEERS:
            found = {"name": peer.name, "ours": peer.ours, "said": peer.said, "left_out": peer.left_out}
            found |= {"ns_per_row": None, "version": _version(peer.package)}
            told.append(found)
            try:
                timed(peer, part, folder / "rows")
                made, wanted = (parsed(folder / each, peer.left_out) for each in ("rows", "expected"))
            except (RuntimeError, subprocess.TimeoutExpired, OSError, ValueError) as error:
                found["said"] = f"not run: {error}"
                continue
            (folder / "rows").unlink()
            if made != wanted:
                differ = next((pair for pair in zip(made, wanted, strict=False) if pair[0] != pair[1]), "their number")
                found["said"] = f"other rows, not timed: {str(differ)[:600]}"
                continue
            right.append((peer, found))
        for peer, found in right:
            best = []
            for _ in range(rounds):
                long, short = (timed(peer, each, folder / "rows") for each in (whole, part))
                best.append((long, short))
            cpu = min(long for long, _ in best) - min(short for _, short in best)
            found["ns_per_row"] = cpu / (sum(data.rows) - few) * 1e9
    told += [
        {"name": n, "ours": False, "said": f"not run: {why}", "ns_per_row": None, "version": _version(n)}
        for n, why in NOT_RUN.items()
    ]
    return {"size": size, "rows": sum(data.rows), "rounds": rounds, "peers": told}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> int:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=3, metavar=("PEER", "BUNDLES", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--size", default="medium")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULT)
    flags = parser.parse_args()
    if flags.once:
        name, bundles, rows = flags.once
        return once(name, Path(bundles), Path(rows))
    found = measure(flags.size, flags.rounds)
    ours = next(p["ns_per_row"] for p in found["peers"] if p["ours"])
    print(f"{'peer':22} {'version':>10} {'ns/row':>8} {'times ours':>10}")
    for peer in found["peers"]:
        took = peer["ns_per_row"]
        figures = f"{took:8,.0f} {took / ours:9.1f}x" if took else f"{'-':>8} {'-':>10}"
        print(f"{peer['name']:22} {peer['version'] or 'none':>10} {figures}  {peer['said']}")
    flags.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
