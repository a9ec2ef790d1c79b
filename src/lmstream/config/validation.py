"""Check a configuration without a connection: one set of checks, for every verb and host that begins something."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lmstream.abilities import (
    GROUP_FIX,
    NO_GROUP,
    Buffering,
    Check,
    Examinable,
    InGroup,
    OnTopics,
    Pooled,
    Rebalanced,
    Timed,
)
from lmstream.aws import credentials
from lmstream.config.build import build_letters, build_source, unkept
from lmstream.config.config import Config
from lmstream.errors import REASONS, ConfigError, LmstreamError
from lmstream.errors import refuse as refuse_all
from lmstream.settings import MIB

_MEMORY: Final = 2  # times the budget, with the gaps between what comes and goes
_OWN: Final = 80 * MIB  # of a process that has read nothing yet
_KILL: Final = 30.0  # seconds after which Fargate and Kubernetes kill
_AFTER: Final = 4.0  # seconds that a stop takes beyond the grace
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


class Look(NamedTuple):
    """One of the checks."""

    of: tuple[str, ...]
    """Tables of the configuration that it looks at: where one of them is wrong itself, it has nothing to say."""
    look: Callable[[Config], Iterator[Check]]

    def failed(self, config: Config) -> list[ConfigError]:
        """What is wrong, as errors."""
        return [_error(check) for check in self.look(config) if check.verdict == "failed"]


def arithmetic(config: Config) -> Iterator[Check]:
    """All that can be seen without a connection."""
    for each in (*START, *NUMBERS):
        yield from each.look(config)


def refuse(config: Config, looks: Sequence[Look]) -> None:
    """Raise ConfigError for all that is wrong, before anything is begun."""
    refuse_all([error for each in looks for error in each.failed(config)])


def _error(check: Check) -> ConfigError:
    reason = next((name for name, why in REASONS.items() if why.code == check.code), "config.invalid")
    return ConfigError(reason, f"{check.name}: {check.said}", check.fix)


def _organization(config: Config) -> Iterator[Check]:
    """See whether rows can have an organization at all."""
    engine = config.engine
    fix = "set engine.org_id (--org), engine.org_by_topic or engine.org_attributes"
    if not (engine.org_id or engine.org_by_topic or engine.org_attributes):
        what = "none is set, and LMDP sends none: every point is rejected (org.unresolved)"
        yield Check("organization", "failed", what, fix)
        return
    source = None if config.source is None else config.source.settings
    if not (engine.org_id or engine.org_attributes) and isinstance(source, OnTopics):
        without = [each for each in source.topics if not each.startswith("^") and each not in engine.org_by_topic]
        if without:
            what = (
                f"engine.org_by_topic has none for {', '.join(without)}: every point there is rejected (org.unresolved)"
            )
            yield Check("organization", "failed", what, fix)
            return
    how = engine.org_id or ("by topic" if engine.org_by_topic else f"from {', '.join(engine.org_attributes)}")
    yield Check("organization", "ok", how)


def _source(config: Config) -> Iterator[Check]:
    part = config.source
    try:
        name = config.need("source").name
        build_source(config)
    except LmstreamError as e:
        yield _of("source", e)
        return
    said = [] if part is None or not isinstance(part.settings, Examinable) else part.settings.mistakes(config.engine)
    if not said:
        yield Check("source", "ok", name)
    for what in said:
        fix = "name only files and folders that hold bundles, dead letters, or documents of Lambda or Firehose"
        yield Check("source", "failed", what, fix, REASONS["source.file"].code)


def _group(config: Config) -> Iterator[Check]:
    settings = None if config.source is None else config.source.settings
    if not isinstance(settings, InGroup):
        return
    if settings.group:
        yield Check("group", "ok", settings.group)
    else:
        yield Check("group", "failed", NO_GROUP, GROUP_FIX)


def _sink(config: Config) -> Iterator[Check]:
    try:
        name = config.need("sink").name
    except ConfigError as e:
        yield _of("sink", e)
        return
    if error := unkept(config):
        yield _of("sink", error)
    else:
        yield Check("sink", "ok", name)


def _purged(config: Config) -> Iterator[Check]:
    if config.sink is not None and (error := unkept(config, letters=True)):
        yield _of("sink", error)


def _letters(config: Config) -> Iterator[Check]:
    if config.source is None:
        return
    try:
        build_letters(config)
    except LmstreamError as e:
        yield _of("dead letters", e)
    else:
        part = config.dead_letters
        yield Check("dead letters", "ok", part.name if part is not None else "letters in ./dead-letters")


def _letters_chosen(config: Config) -> Iterator[Check]:
    if config.dead_letters is None:
        fix = "set it to letters_s3, and LMSTREAM_DEAD_LETTERS__BUCKET"
        yield Check("dead letters", "failed", "LMSTREAM_DEAD_LETTERS__TYPE is not set", fix)
    else:
        yield Check("dead letters", "ok", config.dead_letters.name)


def _credentials(config: Config) -> Iterator[Check]:
    named = {"sink.type": config.sink, "dead_letters.type": config.dead_letters}
    needing = [f"{key} {part.name}" for key, part in named.items() if part is not None and part.traits.service]
    if not needing:
        return
    if why := credentials.missing():
        what = f"needed for {' and '.join(needing)}: {why}"
        yield Check(
            "AWS credentials", "failed", what, REASONS[credentials.REASON].fix, REASONS[credentials.REASON].code
        )
    else:
        yield Check("AWS credentials", "ok", f"found, for {' and '.join(needing)}")


def _of(name: str, error: LmstreamError) -> Check:
    return Check(name, "failed", error.detail, error.fix, error.code)


def _memory(config: Config) -> Iterator[Check]:
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


def _requests(config: Config) -> Iterator[Check]:
    sink = None if config.sink is None else config.sink.settings
    if isinstance(sink, Pooled) and config.delivery.concurrency > sink.concurrency:
        what = f"delivery.concurrency {config.delivery.concurrency} is above sink.concurrency {sink.concurrency}"
        fix = "raise sink.concurrency: requests that wait in the client's pool may outlive their signature"
        yield Check("requests", "failed", what, fix)
    else:
        yield Check("requests", "ok", f"{config.delivery.concurrency} at once")


ORGANIZATION: Final = Look(("engine", "source"), _organization)
GROUP: Final = Look(("source",), _group)


def _calls(config: Config) -> Iterator[Check]:
    """See whether the sink fits a host that is called, and cannot read on."""
    if config.sink is not None and config.sink.traits.claims:
        what = f"type {config.sink.name} lands windows of many records, which a function that is called cannot gather"
        yield Check("sink", "failed", what, "use sink.type firehose here, or land this topic with the container")


_SINK: Final = Look(("sink", "source", "run"), _sink)
_CREDENTIALS: Final = Look(("sink", "dead_letters"), _credentials)
_TIMES: Final = (Look(("runtime", "delivery", "sink", "source"), _times), Look(("delivery", "sink"), _requests))
NUMBERS: Final = (Look(("run", "source", "engine"), _memory), Look(("run", "source"), _bombs), *_TIMES)
"""What contradicts itself or the machine, and may cost duplicates or a restart, but no row: `validate` fails for it, a
start says it and continues."""
REPLAY: Final = (ORGANIZATION, _SINK, Look(("dead_letters", "source", "engine"), _letters), _CREDENTIALS)
"""Of dead letters that go through the engine again."""
PURGING: Final = (*REPLAY, Look(("sink", "run"), _purged))
"""Of those that are deleted once they are delivered."""
START: Final = (Look(("source", "engine"), _source), GROUP, *REPLAY)
"""Of a run."""
IN_LAMBDA: Final = (
    ORGANIZATION,
    _SINK,
    Look(("sink",), _calls),
    Look(("dead_letters",), _letters_chosen),
    _CREDENTIALS,
    *_TIMES,
)
"""Of the function: its source is what calls it, its memory the function's."""
READING: Final = (ORGANIZATION, GROUP)
"""Of a topic that is read again beside its group."""
