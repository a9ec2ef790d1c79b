"""How a run ended: its last line, its counts for machines, and its exit code."""

import shlex
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from lmstream.abilities import InFolder
from lmstream.cli import terminal
from lmstream.config import Config, letters_part
from lmstream.errors import LmstreamError
from lmstream.hosts.container.signals import AGAIN
from lmstream.hosts.container.workers import PARTIAL, nothing_delivered, ours
from lmstream.observability.metrics_catalogue import CATALOGUE
from lmstream.runtime.progress import Progress as Summary

_ALWAYS: Final = {"records", "accepted", "dead_letters"}


def sentence(summary: Summary, how: str = "done in") -> str:
    """Answer the last line of a run."""
    parts = [*_said(summary, of_sink=False)]
    if summary.unknown:
        names = terminal.clean(", ".join(summary.unknown), limit=1_000)
        parts.append(f"fields that OTLP metrics do not define: {names}")
    parts += _said(summary, of_sink=True)
    parts += [f"{summary.rows_dead:,} rows refused by the sink, in dead letters"] if summary.rows_dead else []
    parts.append(f"{summary.rows_in_flight:,} rows in flight")
    rate = summary.rows / summary.duration if summary.duration else 0.0
    return f"{how} {summary.duration:.1f} s ({rate:,.0f} rows/s): " + "; ".join([", ".join(parts), *summary.sums.lines])


def _said(summary: Summary, *, of_sink: bool) -> Iterator[str]:
    """The counters of the last line: three always, the others when there is something to count."""
    for metric in CATALOGUE:
        if not metric.said or metric.name.startswith("lmstream_sink_") != of_sink:
            continue
        value = getattr(summary, metric.read)
        if metric.labels:
            kinds = sorted(value.items())
            yield from (f"{metric.said} {n:,} {label}" for label, n in kinds if label != "record.tombstone")
        elif value or metric.read in _ALWAYS:
            yield f"{value:,} {metric.said}"


def counted(summary: Summary, worker: int = 0, error: LmstreamError | None = None) -> dict[str, Any]:
    """The counts of a run for machines, and how it broke off, if it did."""
    found: dict[str, Any] = {"worker": worker} if worker else {}
    found |= msgspec.to_builtins(summary)
    return found if error is None else {**found, "error": {"code": error.code, "detail": error.detail}}


def _fields(summary: Summary) -> dict[str, Any]:
    """The counts as fields of a log line. What is in words, and may be anybody's, is in the line already."""
    found = counted(summary)
    return {"summary": {name: value for name, value in found.items() if name not in {"trouble", "fatal", "unknown"}}}


def conclude(summary: Summary, config: Config, *, alone: bool = True) -> int:
    """Say how the run went, and answer its exit code. One that is not `alone` is judged with the other workers."""
    terminal.say(sentence(summary), _fields(summary))
    _say_where_letters_are(summary, config)
    if summary.unacked:
        terminal.insist(f"{summary.unacked:,} records were not settled in time; the next start reads them again")
        return AGAIN
    if alone and config.finite and nothing_delivered(ours(summary), summary.rows, terminal.insist):
        return PARTIAL
    odd = summary.dead_letters or summary.empty or summary.all_skipped or summary.unknown
    return PARTIAL if config.run.strict and odd else 0


def tell_sum(summary: Summary, workers: int) -> None:
    """Say the sum of several workers, each of which has said its own."""
    terminal.say(f"{workers:,} workers: {sentence(summary)}", _fields(summary))


def broke_off(summary: Summary, config: Config, error: LmstreamError) -> None:
    """Say how far a run came that ends with an error, and give the error its exit code."""
    if summary.records:
        terminal.insist(sentence(summary, "broke off after"), _fields(summary))
        _say_where_letters_are(summary, config)
    # Not one record could be used: a breaker that says so early is no other end than a run to the last record.
    if error.reason == "dead_letters.breaker" and config.finite and not summary.rows:
        error.exit_code = PARTIAL


def _say_where_letters_are(summary: Summary, config: Config) -> None:
    part = letters_part(config)
    if summary.dead_letters and config.finite and part is not None and isinstance(part.settings, InFolder):
        terminal.say(f"why, and which: lmstream dlq ls {shlex.quote(part.settings.folder)}")
