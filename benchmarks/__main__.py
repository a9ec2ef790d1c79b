"""`python -m benchmarks`: the engine's figures against their targets, as a table and as JSON. A miss is exit 1."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.corpus import SIZES
from benchmarks.measure import MismatchError, Timing, measure, verify

SLACK = 0.12  # ratios of the same code moved by 3 to 6 % between runs on a shared machine
ROUNDS, QUICK_ROUNDS = 15, 3
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
    """Target that gates; None is for information."""
    then: float | None = None
    """Where it should be later."""
    lower: bool = False
    """Whether lower is better: then the engine is `of`."""

    def passes(self, value: float, *, slack: float = SLACK) -> bool | None:
        """Whether the value meets the first target, give or take the slack; None when there is no target."""
        if self.first is None:
            return None
        return value <= self.first * (1 + slack) if self.lower else value >= self.first * (1 - slack)


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
    """Every figure with its value and whether it passes."""
    found = []
    for figure in FIGURES:
        value = timings[figure.size].ratio(figure.of, figure.to)
        found.append(
            {
                **figure._asdict(),
                "value": value,
                "met": figure.passes(value, slack=0),
                "passed": figure.passes(value),
            }
        )
    return found


def report(timings: dict[str, Timing], found: Sequence[dict[str, Any]]) -> str:
    """The tables as text."""
    lines = []
    for timing in timings.values():
        lines += ["", _timing(timing)]
    lines += ["", f"{'figure':52} {'size':7} {'ratio':>7} {'first':>7} {'then':>7}"]
    for figure in found:
        first = "" if figure["first"] is None else f"{'<' if figure['lower'] else '>'} {figure['first']:g}x"
        then = "" if figure["then"] is None else f"{figure['then']:g}x"
        verdict = {True: "pass", False: "FAIL", None: ""}[figure["passed"]]
        if figure["passed"] and not figure["met"]:
            verdict = "pass, within slack only"
        ratio = f"{figure['value']:.2f}x"
        lines.append(f"{figure['name']:52} {figure['size']:7} {ratio:>7} {first:>7} {then:>7}  {verdict}".rstrip())
    lines += ["", f"Ratios are medians over rounds of CPU time; a figure fails past {SLACK:.0%} of slack."]
    return "\n".join(lines)


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


def as_json(timings: dict[str, Timing], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
    }


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures here")
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
    found = figures(timings)
    print(report(timings, found))
    if chosen.json:
        chosen.json.write_text(json.dumps(as_json(timings, found), indent=2) + "\n", encoding="utf-8")
    missed = [figure["name"] for figure in found if figure["passed"] is False]
    return 1 if missed and not chosen.no_gate else 0


if __name__ == "__main__":
    sys.exit(main())
