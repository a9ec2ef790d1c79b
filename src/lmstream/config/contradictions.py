"""Whether the numbers of a configuration fit each other and the machine: memory, times, requests.

What would end the work or hold it up permanently is `failed`, and refuses a start. What may cost duplicates, when
partitions move or a process stops, is a `warning`, which a start says before it continues.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmstream.abilities import Buffering, Check, InFolder, Joining, Pooled, Rebalanced, Timed, Verdict
from lmstream.config.config import ROLLED, Config
from lmstream.delivery import RollPolicy
from lmstream.settings import MIB

_MEMORY: Final = 2  # times the budget, with the gaps between what comes and goes
_OWN: Final = 80 * MIB  # of a process that has read nothing yet
_KILL: Final = 30.0  # seconds after which Fargate and Kubernetes kill, unless they are told otherwise
_AFTER: Final = 4.0  # seconds that a stop takes beyond the grace
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


def memory(config: Config) -> Iterator[Check]:
    """More than the container has: the kernel would kill the process at full load, again and again."""
    budget = config.run.budget_bytes
    source = None if config.source is None else config.source.settings
    fetched = source.fetch_bytes if isinstance(source, Buffering) else 0
    needed = _OWN + _MEMORY * budget + config.engine.limits.cache_bytes + fetched
    said = f"about {needed / MIB:,.0f} MiB for each of {config.run.workers} processes at full load"
    limit = _limit()
    if limit is not None and needed * config.run.workers > limit:
        what = f"{said}, and the limit of this container is {limit / MIB:,.0f} MiB"
        yield Check("memory", "failed", what, "raise the container's memory, or lower run.budget_bytes or run.workers")
    else:
        yield Check("memory", "ok", said + ("" if limit is None else f" of {limit / MIB:,.0f} MiB"))


def bombs(config: Config) -> Iterator[Check]:
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


def grace(config: Config) -> Iterator[Check]:
    """A stop that may take longer than an orchestrator waits by default. Its own setting is not seen from here, so that
    this is no more than a warning."""
    long = config.runtime.grace
    if long + _AFTER <= _KILL:
        yield Check("times", "ok", f"runtime.grace {long:g} s and {_AFTER:g} s to close end within {_KILL:g} s")
    else:
        usual = f"Kubernetes and Fargate kill after {_KILL:g} s by default"
        what = f"runtime.grace {long:g} s and {_AFTER:g} s to close: {usual}"
        fix = f"lower runtime.grace, unless the orchestrator's grace period is set to more than {long + _AFTER:g} s"
        yield Check("times", "warning", what, fix)


def calls(config: Config) -> Iterator[Check]:
    """A request that may run longer than what waits for it."""
    sink = None if config.sink is None else config.sink.settings
    if isinstance(sink, Timed):
        call, timeout = sink.call_timeout, config.delivery.timeout
        yield _true(
            call <= timeout,
            f"sink.call_timeout {call:g} s is within delivery.timeout {timeout:g} s",
            "raise delivery.timeout: a request that is cancelled while it runs has an unknown outcome",
        )


def heartbeat(config: Config) -> Iterator[Check]:
    """Heartbeats so rare that one that is lost ends the membership."""
    source = None if config.source is None else config.source.settings
    if isinstance(source, Rebalanced):
        session, beat = source.session_timeout_ms / 1000, source.heartbeat_interval_ms / 1000
        yield _true(
            3 * beat <= session,
            f"source.heartbeat_interval_ms {beat:g} s is a third of the session of {session:g} s, or less",
            "lower source.heartbeat_interval_ms: one lost heartbeat must not lose the partitions",
        )


def joining(config: Config) -> Iterator[Check]:
    """A request to join that ends before the group has answered: the member would never be in it."""
    source = None if config.source is None else config.source.settings
    if isinstance(source, Joining):
        rebalance, request = source.rebalance_timeout_ms / 1000, source.request_timeout_ms / 1000
        yield _true(
            rebalance < request,
            f"source.rebalance_timeout_ms {rebalance:g} s is within source.request_timeout_ms {request:g} s",
            "raise source.request_timeout_ms: the group answers a member that joins when all others have joined",
        )


def drains(config: Config) -> Iterator[Check]:
    """A drain that is cut off before it ends."""
    source = None if config.source is None else config.source.settings
    if isinstance(source, Rebalanced):
        rebalance, drain = source.rebalance_timeout_ms / 1000, source.drain_timeout_ms / 1000
        yield _true(
            config.runtime.drain_timeout < drain < rebalance,
            f"drains: runtime {config.runtime.drain_timeout:g} s < source {drain:g} s < the group's {rebalance:g} s",
            "keep runtime.drain_timeout < source.drain_timeout_ms < source.rebalance_timeout_ms",
            otherwise="warning",
        )


def requests_and_drain(config: Config) -> Iterator[Check]:
    """Requests that a drain cuts off."""
    source = None if config.source is None else config.source.settings
    timeout, drain = config.delivery.timeout, config.runtime.drain_timeout
    if isinstance(source, Rebalanced):
        yield _true(
            timeout < drain,
            f"delivery.timeout {timeout:g} s fits into runtime.drain_timeout {drain:g} s",
            "lower delivery.timeout: requests must end before partitions are revoked",
            otherwise="warning",
        )


def _true(good: bool, said: str, fix: str, otherwise: Verdict = "failed") -> Check:  # noqa: FBT001 - the condition itself
    return Check("times", "ok", said) if good else Check("times", otherwise, f"not true: {said}", fix)


def requests(config: Config) -> Iterator[Check]:
    """More requests at once than the client has connections for."""
    sink = None if config.sink is None else config.sink.settings
    if isinstance(sink, Pooled) and config.delivery.concurrency > sink.concurrency:
        what = f"delivery.concurrency {config.delivery.concurrency} is above sink.concurrency {sink.concurrency}"
        fix = "raise sink.concurrency: requests that wait in the client's pool may outlive their signature"
        yield Check("requests", "failed", what, fix)
    else:
        yield Check("requests", "ok", f"{config.delivery.concurrency} at once")


def at_least_once(config: Config) -> Iterator[Check]:
    """A folder that takes rows of a source that cannot be told where to read on."""
    source, part = config.source, config.sink
    if source is None or part is None or not part.traits.claims or not isinstance(part.settings, InFolder):
        return
    if not source.traits.placed:
        said = f"source.type {source.name} cannot be read again from a place: what it hands out twice lands twice"
        yield Check("sink", "warning", said, "see docs/lake.md for what lands exactly once")


def before_claims(config: Config) -> Iterator[Check]:
    """Rows that an earlier version put into the folder: no claim says which records they are of."""
    part = config.sink
    if part is None or part.name != "local":
        return
    root = Path(part.settings.folder)
    if not (root / part.settings.claims).exists() and next(root.rglob("part-*.ndjson.gz"), None) is not None:
        said = f"{root} has rows of an earlier version, without claims: the same records land there once more"
        fix = "name another folder; in this one the view `rows` of query has each row once, and verify names the copies"
        yield Check("sink", "warning", said, fix)


def rolling(config: Config) -> Iterator[Check]:
    """Settings of files that were rolled, of a sink that lands windows now."""
    if config.sink is not None and config.sink.name == "local" and config.rolling != RollPolicy():
        kept = ", ".join(f"rolling.{key} is read as sink.{to}" for key, to in ROLLED.items())
        yield Check("rolling", "warning", f"sink.type local lands windows: in this version {kept}", "set those instead")
