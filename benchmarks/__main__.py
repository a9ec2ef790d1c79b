"""`python -m benchmarks`: the engine's figures against their targets, as a table and as JSON. A miss is exit 1."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import latency
from benchmarks.corpus import SIZES
from benchmarks.measure import MismatchError, Timing, measure, verify

SLACK = 0.12  # ratios of the same code moved by 3 to 6 % between runs on a shared machine
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


class Figure(NamedTuple):
    """A ratio we promise: what `of` takes in units of what `to` takes."""

    name: str
    size: str
    of: str
    to: str
    first: float | None = None
    """First target, shown; None when there is none."""
    then: float | None = None
    """The target that gates; None is for information."""
    lower: bool = False
    """Whether lower is better: then the engine is `of`."""


FIGURES = (
    Figure("transform against orjson", "small", "orjson", "engine", 2.3, 3.0),
    Figure("transform against orjson", "medium", "orjson", "engine", 2.9, 4.0),
    Figure("transform against orjson", "large", "orjson", "engine", 3.5, 4.8),
    Figure("transform against the json toy", "medium", "json toy", "engine", 10, 14),
    Figure("transform against msgspec's full typed decode", "medium", "engine", "typed decode", 1.6, 1.2, lower=True),
    Figure("caches emptied before every bundle, against orjson", "medium", "orjson", "engine cold", 2.0, 2.6),
    Figure("protobuf against the JSON path, per row", "medium", "engine protobuf", "engine", 1.25, 0.9, lower=True),
    Figure("protobuf against upb attribute access and orjson", "medium", "upb", "engine protobuf"),
)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model,
        "cpus": os.cpu_count(),
        "packages": {name: version(name) for name in ("msgspec", "orjson", "protobuf")},
    }


def figures(timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Every ratio of the transform with its value."""
    return [
        {**figure._asdict(), "value": timings[figure.size].ratio(figure.of, figure.to), "unit": "x", "gates": True}
        for figure in FIGURES
    ]


def judged(figure: dict[str, Any]) -> dict[str, Any]:
    """The figure with its verdicts: whether it meets each column, and passes the second with slack."""
    return figure | {
        "met_first": reaches(figure, "first"),
        "met": reaches(figure, "then"),
        "passed": reaches(figure, "then", slack=SLACK),
    }


def reaches(figure: dict[str, Any], column: str, *, slack: float = 0.0) -> bool | None:
    """Whether the value reaches a target, give or take the slack; None when there is no target."""
    target, value = figure[column], figure["value"]
    if target is None:
        return None
    return bool(value <= target * (1 + slack) if figure["lower"] else value >= target * (1 - slack))


def last_values(path: Path) -> dict[tuple[str, str], float]:
    """The values of a recorded run by (name, size); none when there is no such file."""
    if not path.exists():
        return {}
    return {(f["name"], f["size"]): f["value"] for f in json.loads(path.read_text(encoding="utf-8"))["figures"]}


def report(
    timings: dict[str, Timing],
    found: Sequence[dict[str, Any]],
    late: list[dict[str, Any]],
    last: dict[tuple[str, str], float],
) -> str:
    """The tables as text."""
    lines = []
    for timing in timings.values():
        lines += ["", _timing(timing)]
    lines += ["", "latency of one bundle, wall clock"]
    lines += ["  " + "".join(f"{cell:>10}" for cell in row) for row in latency.table(late)]
    lines += ["", f"{'figure':52} {'size':7} {'value':>9} {'first':>8} {'then':>8} {'last run':>9}"]
    for figure in found:
        unit, sign = figure["unit"], "<" if figure["lower"] else ">"
        first, then = ("" if figure[c] is None else f"{sign}{figure[c]:g}{unit}" for c in ("first", "then"))
        before = last.get((figure["name"], figure["size"]))
        change = "" if not before else f"{figure['value'] / before - 1:+.0%}"
        value = f"{figure['value']:,.0f}{unit}" if figure["value"] >= 100 else f"{figure['value']:.2f}{unit}"
        lines.append(
            f"{figure['name']:52} {figure['size']:7} {value:>9} {first:>8} {then:>8} {change:>9}  "
            f"{verdict(figure)}".rstrip()
        )
    lines += [
        "",
        f"The second column gates, with {SLACK:.0%} of slack. Ratios are medians over rounds of CPU time. Figures that",
        "depend on the machine or on who else uses it are judged and do not gate.",
    ]
    return "\n".join(lines)


def verdict(figure: dict[str, Any]) -> str:
    """What the figure came to, in words."""
    if figure["passed"] is None:
        return ""
    if figure["met"]:
        return "met"
    miss = abs(figure["value"] / figure["then"] - 1)
    if figure["passed"]:
        return f"within slack, {miss:.0%} short"
    return f"{'MISSED' if figure['gates'] else 'missed'} by {miss:.0%}" + (", first met" if figure["met_first"] else "")


def _timing(timing: Timing) -> str:
    """One size: nanoseconds and rows per second of each variant, and the engine's shares."""
    rows, size = timing.rows / timing.bundles, timing.payload_bytes / timing.bundles
    lines = [
        f"{timing.size}: {timing.bundles:,} bundles of {rows:,.0f} rows and {size:,.0f} bytes of JSON",
        f"  {'variant':18} {'ns/row':>8} {'rows/s':>11} {'engine is':>10}",
    ]
    for name in timing.seconds:
        if name not in ("decode", "fan_out"):
            best = timing.best(name)
            lines.append(f"  {name:18} {best:8,.0f} {1e9 / best:11,.0f} {timing.ratio(name, 'engine'):9.2f}x")
    shares = ", ".join(
        f"{name.replace('_', '-')} {share:.0%} ({share * timing.best('engine'):,.0f} ns)"
        for name, share in timing.shares().items()
    )
    lines.append(f"  shares of engine: {shares}")
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
                "shares": timing.shares(),
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
        timing = measure(chosen.profile, PROFILED, rounds=1, share=PROFILE_SHARE, seconds=PROFILE_SECONDS)
        print(_timing(timing))
        return 0
    try:
        compared = sum(verify(size, bundles) for size, bundles in VERIFIED.items())
    except MismatchError as error:
        print(f"not measured, for the rows differ. {error}", file=sys.stderr)
        return 1
    on = machine()
    print(f"{on['python']} on {on['cpus']} x {on['cpu']}, {on['system']}")
    print(f"{compared:,} rows compared: the engine and every baseline make the same")
    timings = {}
    for size, names in MEASURED.items():
        print(f"measuring {size}, {chosen.rounds} rounds", file=sys.stderr, flush=True)
        timings[size] = measure(size, names, rounds=chosen.rounds)
    found = [judged(figure) for figure in figures(timings)]
    if not chosen.transform:
        from benchmarks.others import measured

        print("measuring gzip, sink, Kafka and workers", file=sys.stderr, flush=True)
        found += [judged(figure) for figure in measured(quick=chosen.quick)]
    late = latency.measured(1 if chosen.quick else latency.PASSES)
    print(report(timings, found, late, last_values(LAST)))
    for path in ([chosen.json] if chosen.json else []) + ([LAST] if chosen.record else []):
        path.write_text(json.dumps(as_json(timings, found, late)) + "\n", encoding="utf-8")
    missed = [figure["name"] for figure in found if figure["gates"] and figure["passed"] is False]
    return 1 if missed and not chosen.no_gate else 0


if __name__ == "__main__":
    sys.exit(main())
