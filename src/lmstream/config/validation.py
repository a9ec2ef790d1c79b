"""Check a configuration without a connection: what is missing, and numbers at odds with each other or the machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmstream.abilities import Buffering, Check, Pooled, Rebalanced, Timed
from lmstream.config.build import build_letters
from lmstream.config.config import Config
from lmstream.errors import LmstreamError
from lmstream.settings import MIB

_MEMORY: Final = 2  # times the budget, with the gaps between what comes and goes
_OWN: Final = 80 * MIB  # of a process that has read nothing yet
_KILL: Final = 30.0  # seconds after which Fargate and Kubernetes kill
_AFTER: Final = 4.0  # seconds that a stop takes beyond the grace
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


def arithmetic(config: Config) -> Iterator[Check]:
    """Numbers that contradict each other, or the machine. Nothing connects."""
    yield organization(config)
    yield from _parts(config)
    yield _memory(config)
    yield from _bombs(config)
    yield from _times(config)
    yield _requests(config)


def organization(config: Config) -> Check:
    """See whether rows can have an organization at all."""
    engine = config.engine
    if engine.org_id or engine.org_by_topic or engine.org_attributes:
        how = engine.org_id or ("by topic" if engine.org_by_topic else f"from {', '.join(engine.org_attributes)}")
        return Check("organization", "ok", how)
    what = "none is set, and LMDP sends none: every point is rejected (org.unresolved)"
    return Check("organization", "failed", what, "set engine.org_id, engine.org_by_topic or engine.org_attributes")


def _parts(config: Config) -> Iterator[Check]:
    for name in ("source", "sink"):
        part = getattr(config, name)
        if part is None:
            yield Check(name, "failed", f"{name}.type is not set", f"set {name}.type")
        else:
            yield Check(name, "ok", part.name)
    if config.source is not None:
        try:
            build_letters(config)
        except LmstreamError as e:
            yield Check("dead letters", "failed", e.detail, e.fix)
        else:
            part = config.dead_letters
            yield Check("dead letters", "ok", part.name if part is not None else "letters in ./dead-letters")


def _memory(config: Config) -> Check:
    budget = config.run.budget_bytes
    source = None if config.source is None else config.source.settings
    fetched = source.fetch_bytes if isinstance(source, Buffering) else 0
    needed = _OWN + _MEMORY * budget + config.engine.limits.cache_bytes + fetched
    said = f"about {needed / MIB:,.0f} MiB for each of {config.run.workers} processes at full load"
    limit = _limit()
    if limit is not None and needed * config.run.workers > limit:
        what = f"{said}, and the limit of this container is {limit / MIB:,.0f} MiB"
        return Check("memory", "failed", what, "raise the container's memory, or lower run.budget_bytes or run.workers")
    return Check("memory", "ok", said + ("" if limit is None else f" of {limit / MIB:,.0f} MiB"))


def _bombs(config: Config) -> Iterator[Check]:
    """How much memory batches may take that inflate a thousandfold, where that has no bound."""
    peak = 0 if config.source is None else config.source.traits.unbounded_bytes
    if not peak:
        return
    limit = _limit()
    said = (
        f"its client decompresses whole fetches: {peak / MIB:,.0f} MiB with one partition whose batches inflate "
        "20,000-fold (measured), and the same for each further one; after a death the guarded reader reads them"
    )
    if limit is not None and limit < peak * config.run.workers:
        what = f"{said}; the limit of this container is {limit / MIB:,.0f} MiB"
        yield Check("batches", "warning", what, 'use source.type = "kafka" for producers that you do not trust')
    else:
        yield Check("batches", "ok", said)


def _limit() -> int | None:
    try:
        text = _CGROUP.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _times(config: Config) -> Iterator[Check]:
    source = None if config.source is None else config.source.settings
    sink = None if config.sink is None else config.sink.settings
    runtime, delivery = config.runtime, config.delivery
    rules: list[tuple[bool, str, str]] = [
        (
            runtime.grace + _AFTER <= _KILL,
            f"runtime.grace {runtime.grace:g} s and {_AFTER:g} s to close are less than the {_KILL:g} s until a kill",
            "lower runtime.grace, or raise the orchestrator's grace period above it",
        ),
    ]
    if isinstance(sink, Timed):
        call = sink.call_timeout
        rules.append(
            (
                call <= delivery.timeout,
                f"sink.call_timeout {call:g} s is within delivery.timeout {delivery.timeout:g} s",
                "raise delivery.timeout: a request that is cancelled while it runs has an unknown outcome",
            )
        )
    if isinstance(source, Rebalanced):
        session, beat = source.session_timeout_ms / 1000, source.heartbeat_interval_ms / 1000
        rebalance, drain = source.rebalance_timeout_ms / 1000, source.drain_timeout_ms / 1000
        rules += [
            (
                3 * beat <= session,
                f"source.heartbeat_interval_ms {beat:g} s is a third of the session of {session:g} s, or less",
                "lower source.heartbeat_interval_ms: one lost heartbeat must not lose the partitions",
            ),
            (
                runtime.drain_timeout < drain < rebalance,
                f"drains: runtime {runtime.drain_timeout:g} s < source {drain:g} s < the group's {rebalance:g} s",
                "keep runtime.drain_timeout < source.drain_timeout_ms < source.rebalance_timeout_ms",
            ),
            (
                delivery.timeout < runtime.drain_timeout,
                f"delivery.timeout {delivery.timeout:g} s fits into runtime.drain_timeout {runtime.drain_timeout:g} s",
                "lower delivery.timeout: requests must end before partitions are revoked",
            ),
        ]
    for good, said, fix in rules:
        yield Check("times", "ok", said) if good else Check("times", "failed", f"not true: {said}", fix)


def _requests(config: Config) -> Check:
    sink = None if config.sink is None else config.sink.settings
    if isinstance(sink, Pooled) and config.delivery.concurrency > sink.concurrency:
        what = f"delivery.concurrency {config.delivery.concurrency} is above sink.concurrency {sink.concurrency}"
        return Check(
            "requests",
            "failed",
            what,
            "raise sink.concurrency: requests that wait in the client's pool may outlive their signature",
        )
    return Check("requests", "ok", f"{config.delivery.concurrency} at once")
