"""`python -m benchmarks`: the figures against their needs and aims, as a table and as JSON.

Ours is measured with the plain engine and, where it is installed, with the native part, interleaved in one run. The
exit code says which misses a need: 1 the plain engine, 4 the native part, 5 both. A need that the plain engine misses
here no more than the revision that set it is held, and does not gate (benchmarks/held.py).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import latency
from benchmarks.corpus import SIZES
from benchmarks.figures import SLACK, engines, exit_code, figures, variant, variants, verdict
from benchmarks.held import ROUNDS as HELD_ROUNDS
from benchmarks.held import held
from benchmarks.measure import MismatchError, Timing, measure, verify
from benchmarks.yardstick import conditions, machine, settle

ROUNDS, QUICK_ROUNDS = 9, 3
LAST = Path(__file__).parent / "results" / "bench.json"
"""The recorded run that others are compared with."""
VERIFIED = {"small": 32, "medium": 5, "large": 1}  # bundles compared row by row before anything is timed
MEASURED = {
    "small": ("engine", "orjson", "decode", "fan_out"),
    "medium": (
        *("engine", "engine cold", "engine protobuf", "orjson", "json toy", "upb", "typed decode"),
        *("decode", "fan_out"),
    ),
    "large": ("engine", "orjson", "decode", "fan_out"),
}
PROFILED = ("engine", "engine cold", "engine protobuf", "orjson", "typed decode", "decode", "fan_out")
PROFILE_SHARE = 4  # a quarter of the bundles, so that making them does not take longer than measuring
PROFILE_SECONDS = 2.0


def last_values(path: Path) -> dict[tuple[str, str, str], float]:
    """The values of a recorded run by (name, size, engine); none when there is no such file."""
    if not path.exists():
        return {}
    recorded = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return {(f["name"], f["size"], f.get("engine", "plain")): f["value"] for f in recorded}


def report(
    timings: dict[str, Timing],
    found: Sequence[dict[str, Any]],
    late: list[dict[str, Any]],
    last: dict[tuple[str, str, str], float],
) -> str:
    """The tables as text."""
    lines = []
    for timing in timings.values():
        lines += ["", _timing(timing)]
    lines += ["", "latency of one bundle, wall clock"]
    lines += ["  " + "".join(f"{cell:>10}" for cell in row) for row in latency.table(late)]
    lines += ["", f"{'figure':60} {'size':7} {'engine':7} {'value':>9} {'need':>8} {'aim':>8} {'last run':>9}"]
    for figure in found:
        unit, sign = figure["unit"], "<" if figure["lower"] else ">"
        need, aim = ("" if figure[c] is None else f"{sign}{figure[c]:g}{unit}" for c in ("need", "aim"))
        before = last.get((figure["name"], figure["size"], figure["engine"]))
        change = "" if not before else f"{figure['value'] / before - 1:+.0%}"
        value = f"{figure['value']:,.0f}{unit}" if figure["value"] >= 100 else f"{figure['value']:.2f}{unit}"
        lines.append(
            f"{figure['name']:60} {figure['size']:7} {figure['engine']:7} {value:>9} {need:>8} {aim:>8} {change:>9}  "
            f"{verdict(figure)}".rstrip()
        )
    lines += [
        "",
        f"Needs gate, with {SLACK:.0%} of slack. Ratios are medians over rounds of CPU time. Needs are set for an",
        "interpreter that was built with PGO. What wall time says is judged, and does not gate. Held: on this machine",
        "the revision that set the need takes as much CPU, and the figure does not gate.",
    ]
    return "\n".join(lines)


def _timing(timing: Timing) -> str:
    """One size: nanoseconds and rows per second of each variant, and the engine's shares."""
    rows, size = timing.rows / timing.bundles, timing.payload_bytes / timing.bundles
    ours = variant("engine", engines()[0])
    lines = [
        f"{timing.size}: {timing.bundles:,} bundles of {rows:,.0f} rows and {size:,.0f} bytes of JSON",
        f"  {'variant':22} {'ns/row':>8} {'rows/s':>11} {'engine is':>10}",
    ]
    for name in timing.seconds:
        if not name.startswith(("decode", "fan_out")):
            best = timing.best(name)
            lines.append(f"  {name:22} {best:8,.0f} {1e9 / best:11,.0f} {timing.ratio(name, ours):9.2f}x")
    shares = ", ".join(
        f"{name.replace('_', '-')} {share:.0%} ({share * timing.best(ours):,.0f} ns)"
        for name, share in timing.shares(ours).items()
    )
    lines.append(f"  shares of {ours}: {shares}")
    return "\n".join(lines)


def as_json(timings: dict[str, Timing], found: Sequence[dict[str, Any]], late: list[dict[str, Any]]) -> dict[str, Any]:
    """The raw figures: seconds of CPU per round, so that anyone can compute other ratios."""
    return {
        "machine": machine(),
        "slack": SLACK,
        "sizes": {
            size: {
                "bundles": timing.bundles,
                "rows": timing.rows,
                "json_bytes": timing.payload_bytes,
                "cpu_seconds": timing.seconds,
                "best_ns_per_row": {name: timing.best(name) for name in timing.seconds},
                "shares": timing.shares(next(name for name in timing.seconds if name.startswith("engine"))),
            }
            for size, timing in timings.items()
        },
        "figures": list(found),
        "latency": late,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures here")
    parser.add_argument(
        "--record", action="store_true", help="keep this run as the one that later runs are compared with"
    )
    parser.add_argument("--transform", action="store_true", help="the transform alone, without sink, Kafka and workers")
    parser.add_argument("--rounds", type=int, help=f"passes over the corpus (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds: a look, not a measurement")
    parser.add_argument("--no-gate", action="store_true", help="exit 0 whatever the figures")
    parser.add_argument(
        "--profile", choices=SIZES, metavar="SIZE", help="one size for some seconds, for tuning; no gate"
    )
    chosen = parser.parse_args(arguments)
    if chosen.rounds is None:
        chosen.rounds = QUICK_ROUNDS if chosen.quick else ROUNDS
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify, measure, print; answers the exit code."""
    chosen = _arguments(arguments)
    if chosen.profile:
        timing = measure(chosen.profile, variants(PROFILED), rounds=1, share=PROFILE_SHARE, seconds=PROFILE_SECONDS)
        print(_timing(timing))
        return 0
    try:
        compared = sum(verify(size, bundles) for size, bundles in VERIFIED.items())
    except MismatchError as error:
        print(f"not measured, for the rows differ. {error}", file=sys.stderr)
        return 1
    print(conditions(machine()))
    print(f"{compared:,} rows compared: the engine and every baseline make the same")
    timings = {}
    for size, names in MEASURED.items():
        print(f"measuring {size}, {chosen.rounds} rounds", file=sys.stderr, flush=True)
        timings[size] = measure(size, variants(names), rounds=chosen.rounds)
    found = figures(timings)
    if not chosen.transform:
        from benchmarks.others import measured

        found += measured(quick=chosen.quick)
    late = latency.measured(1 if chosen.quick else latency.PASSES)
    found = held(found, rounds=QUICK_ROUNDS if chosen.quick else HELD_ROUNDS)
    print(report(timings, found, late, last_values(LAST)))
    for path in ([chosen.json] if chosen.json else []) + ([LAST] if chosen.record else []):
        path.write_text(json.dumps(as_json(timings, found, late)) + "\n", encoding="utf-8")
    for figure in found:
        if figure["passed"] is False and (figure["gates"] or "reference" in figure):
            print(
                f"need {'missed' if figure['gates'] else 'not reached here'}: {figure['name']}, {figure['size']}, "
                f"{figure['engine']} engine: {figure['value']:.2f} {figure['unit']}, need {figure['need']:g}; "
                f"{verdict(figure)}",
                file=sys.stderr,
            )
    return 0 if chosen.no_gate else exit_code(found)


if __name__ == "__main__":
    settle()
    sys.exit(main())
