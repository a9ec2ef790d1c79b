"""The figures lmstream is held to: what each is of, its need, its aim, and the verdict on a value."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from benchmarks.measure import PLAIN, Timing
from benchmarks.yardstick import engines

SLACK: Final = 0.06  # ratios of the same code moved by 3 to 6 % between runs on a shared machine
MISSED: Final = {"plain": 1, "native": 4}
"""Bits of the exit code: which engine misses a need. 2 is left to wrong flags."""


class Goal(NamedTuple):
    """What a figure has to reach, and where it should come to."""

    need: float
    aim: float | None = None


class Figure(NamedTuple):
    """A ratio we promise: what `of` takes in units of what `to` takes. Variants that begin with "engine" are ours."""

    name: str
    size: str
    of: str
    to: str
    plain: Goal | None = None
    native: Goal | None = None
    lower: bool = False
    """Whether lower is better: then the engine is `of`."""


FIGURES: Final = (
    Figure("transform against orjson", "small", "orjson", "engine", Goal(2.4), Goal(4.3, 8)),
    Figure("transform against orjson", "medium", "orjson", "engine", Goal(3.3), Goal(7.3, 12)),
    Figure("transform against orjson", "large", "orjson", "engine", Goal(4.3), Goal(8.5, 14)),
    Figure("transform against the json toy", "medium", "json toy", "engine"),
    Figure(
        *("transform against msgspec's full typed decode", "medium", "engine", "typed decode"),
        *(Goal(1.6), Goal(0.78, 0.45)),
        lower=True,
    ),
    Figure(
        *("caches emptied before every bundle, against orjson", "medium", "orjson", "engine cold"),
        *(Goal(2.0), Goal(2.3, 4)),
    ),
    Figure(
        *("protobuf against upb attribute access and orjson", "medium", "upb", "engine protobuf"),
        *(Goal(3.8), Goal(9, 15)),
    ),
    Figure("protobuf against the JSON path, per row", "medium", "engine protobuf", "engine", lower=True),
)
OTHERS: Final = {
    "Kafka to Firehose, kafka: rows a CPU second": (Goal(0.26), Goal(0.33, 0.45)),
    "Kafka to S3 gz, path with the metric: rows a CPU second": (Goal(0.30), Goal(0.50, 0.8)),
    "Kafka to S3 gz, path without the metric: rows a CPU second": (Goal(0.38), Goal(0.65, 1.0)),
    "CPU of a row, two workers against one": (Goal(1.05), Goal(1.05, 1.02)),
    "Lambda cold start to the first row": (Goal(450), Goal(400, 250)),
}
"""Goals of what is measured beside the transform, with the plain engine and with the native part."""


def variant(name: str, of: str) -> str:
    """The name of a variant with an engine."""
    return name + PLAIN if name.startswith(("engine", "decode", "fan_out")) and of == "plain" else name


def variants(names: Sequence[str]) -> list[str]:
    """The variants to measure: ours with each engine. The shares are those of the first."""
    found = []
    for name in names:
        ours = engines() if name.startswith("engine") else engines()[:1]
        found += list(dict.fromkeys(variant(name, of) for of in ours))
    return found


def figures(timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Every ratio of the transform with its value, for each engine that was measured."""
    return [
        figure(
            *(each.name, timings[each.size].ratio(variant(each.of, by), variant(each.to, by)), "x"),
            *(getattr(each, by), by),
            size=each.size,
            of="CPU time, ratio",
            lower=each.lower,
        )
        for each in FIGURES
        for by in engines()
    ]


def figure(
    name: str,
    value: float,
    unit: str,
    goal: Goal | None = None,
    by: str = "",
    *,
    of: str,
    size: str = "medium",
    lower: bool = False,
    gates: bool = True,
) -> dict[str, Any]:
    """One figure, judged. `of` says what it is of, `by` which engine made it."""
    need, aim = goal if goal is not None else (None, None)
    found = {"name": name, "size": size, "engine": by, "value": value, "unit": unit, "of": of}
    found |= {"need": need, "aim": aim, "lower": lower, "gates": gates}
    return found | {
        "aimed": reaches(found, "aim"),
        "met": reaches(found, "need"),
        "passed": reaches(found, "need", slack=SLACK),
    }


def other(name: str, value: float, unit: str, by: str, **more: Any) -> dict[str, Any]:
    """One of OTHERS."""
    plain, native = OTHERS[name]
    return figure(name, value, unit, plain if by == "plain" else native, by, **more)


def reaches(found: dict[str, Any], column: str, *, slack: float = 0.0) -> bool | None:
    """Whether the value reaches a goal, give or take the slack; None when there is none."""
    target, value = found[column], found["value"]
    if target is None:
        return None
    return bool(value <= target * (1 + slack) if found["lower"] else value >= target * (1 - slack))


def verdict(found: dict[str, Any]) -> str:
    """What the figure came to, in words."""
    if found["passed"] is None:
        return ""
    if found["met"]:
        return "aim met" if found["aimed"] else "need met"
    miss = abs(found["value"] / found["need"] - 1)
    if found["passed"]:
        return f"within slack, {miss:.0%} short"
    return _missed(found, f"{'MISSED' if found['gates'] else 'missed'} by {miss:.0%}")


def _missed(found: dict[str, Any], said: str) -> str:
    """What is missed, and what the revision that set the need reaches on the same machine, if that was asked."""
    reference = found.get("reference")  # runs recorded before 0035 have none
    if reference is None:
        return said
    revision = reference["revision"]
    if "why" in reference:
        return f"{said}; {revision} cannot be measured here: {reference['why']}"
    share, reaches = f"{reference['ratio']:.2f} of it", f"reaches {reference['reaches']:.2f} {found['unit']}"
    if reference["held"]:
        return f"held: {revision} takes as much here ({share}), and {reaches}"
    return f"{said}; {revision} takes less here ({share}), and {reaches}"


def missed(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures whose need is missed, of those that gate."""
    return [each for each in found if each["gates"] and each["passed"] is False]


def exit_code(found: Sequence[dict[str, Any]]) -> int:
    """0, or which engine misses a need: see MISSED."""
    code = 0
    for each in missed(found):
        code |= MISSED[each["engine"] or "plain"]
    return code
