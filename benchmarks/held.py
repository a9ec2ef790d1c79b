"""Whether a need that the plain engine misses is missed by the code or by the machine.

Needs are ratios against C code, and C gains more from a wide processor than CPython does: the same lmstream reaches a
need on one machine and not on another. So where the plain engine misses one, the revision that set it is measured here
too. Today's may take as much CPU as that, and no more: then the need is held, and the figure does not gate.
Decision 0035.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.figures import FIGURES, SLACK, missed, variant

REFERENCE: Final = "c1321ad04015d7d06c3ed4ed212cac8e5d78633a"
"""The revision whose plain engine set the needs: 2.4, 3.3 and 4.3 of orjson were measured with it. It stays, however
the code changes: with a later one, each change could take a slack more than the one before."""
ROUNDS: Final = 5
"""Pairs of processes for each variant: the median of five holds when two of them were disturbed."""

Case = tuple[str, str]
"""A size, and a variant of ours."""
Measured = Callable[[Sequence[Case], int], dict[Case, list[float]]]


def held(
    found: Sequence[dict[str, Any]], *, rounds: int = ROUNDS, measured: Measured | None = None
) -> list[dict[str, Any]]:
    """The figures; those of the plain engine's transform that miss a need with what REFERENCE takes here. Nothing is
    measured unless one does, and without REFERENCE they gate as they did.
    """
    cases = {id(each): case for each in missed(found) if (case := _case(each))}
    if not cases:
        return list(found)
    from benchmarks.change import UnmeasuredError  # imports clients and sinks, which the transform does without

    try:
        took = (measured or against_reference)(list(dict.fromkeys(cases.values())), rounds)
    except UnmeasuredError as error:
        unknown = {"revision": REFERENCE[:7], "why": str(error)}
        return [each | {"reference": unknown} if id(each) in cases else each for each in found]
    return [_judged(each, took[cases[id(each)]]) if id(each) in cases else each for each in found]


def against_reference(cases: Sequence[Case], rounds: int) -> dict[Case, list[float]]:
    """What today's plain engine takes of REFERENCE's CPU on this machine, by round. Raises UnmeasuredError."""
    from benchmarks.change import ROOT, asked, source_of

    with tempfile.TemporaryDirectory() as folder:
        before = source_of(REFERENCE, Path(folder), native=False)
        return ratios(cases, rounds, before, ROOT / "src", asked)


def ratios(
    cases: Sequence[Case], rounds: int, before: Path, after: Path, ask: Callable[[Path, Sequence[Any]], float]
) -> dict[Case, list[float]]:
    """Ask both trees for each case by turns, a process for each answer; who is first changes with the round."""
    found: dict[Case, list[float]] = {case: [] for case in cases}
    for case in cases:
        print(f"measuring {', '.join(case)}, against {REFERENCE[:7]}, {rounds} rounds", file=sys.stderr, flush=True)
        for turn in range(rounds):
            order = (before, after) if turn % 2 else (after, before)
            took = {source: ask(source, ("transform", *case)) for source in order}
            found[case].append(took[after] / took[before])
    return found


def _case(found: dict[str, Any]) -> Case | None:
    """What to measure for a figure; None for one that REFERENCE does not excuse: of the native part, of the sinks."""
    if found["engine"] != "plain":
        return None
    for each in FIGURES:
        if (each.name, each.size) == (found["name"], found["size"]):
            return each.size, variant(each.of if each.lower else each.to, "plain")
    return None


def _judged(found: dict[str, Any], took: Sequence[float]) -> dict[str, Any]:
    """The figure with what REFERENCE reaches here; it gates unless that takes as much."""
    ratio = median(took)
    reference = {
        "revision": REFERENCE[:7],
        "ratios": list(took),
        "ratio": ratio,
        # The engine is above the line where lower is better, else below it.
        "reaches": found["value"] / ratio if found["lower"] else found["value"] * ratio,
        "held": ratio <= 1 + SLACK,
    }
    return found | {"reference": reference, "gates": not reference["held"]}
