"""Check a configuration without a connection: one set of checks, for every verb and host that begins something."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lmstream.abilities import Check, Examinable, InFolder, InGroup, OnTopics, Walking
from lmstream.aws import credentials
from lmstream.config import contradictions
from lmstream.config.build import build_letters, build_source, unkept, unkeyed, unplaced
from lmstream.config.config import Config
from lmstream.errors import REASONS, ConfigError, LmstreamError
from lmstream.errors import refuse as refuse_all
from lmstream.members import GROUP_FIX, NO_GROUP
from lmstream.partitioning import path_renderer


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
    for each in START:
        yield from each.look(config)


def refuse(config: Config, looks: Sequence[Look]) -> None:
    """Raise ConfigError for all that is wrong, before anything is begun."""
    refuse_all([error for each in looks for error in each.failed(config)])


def remarks(config: Config) -> list[str]:
    """What a start says before it continues: warnings, a sentence each with what to do about it."""
    found = [check for each in (*_CALLS, *_MEMBER) for check in each.look(config) if check.verdict == "warning"]
    return ["; ".join(filter(None, (f"{check.name}: {check.said}", check.fix))) for check in found]


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


def _engine(config: Config) -> Iterator[Check]:
    """See whether rows can have a path at all."""
    try:
        path_renderer(config.engine)
    except LmstreamError as e:
        yield _of("engine", e)


def _source(config: Config) -> Iterator[Check]:
    part = config.source
    try:
        name = config.need("source").name
        build_source(config)
    except LmstreamError as e:
        yield _of("source", e)
        return
    said = (
        [] if part is None or not isinstance(part.settings, Examinable) else list(part.settings.mistakes(config.engine))
    )
    said += _own_rows(config)
    if not said:
        yield Check("source", "ok", name)
    for what in said:
        fix = "name only files and folders that hold bundles, dead letters, or documents of Lambda or Firehose"
        yield Check("source", "failed", what, fix, REASONS["source.file"].code)


def _own_rows(config: Config) -> Iterator[str]:
    """Folders that are read and into which the rows of the same run would go."""
    source = None if config.source is None else config.source.settings
    sink = None if config.sink is None else config.sink.settings
    if isinstance(source, Walking) and isinstance(sink, InFolder):
        for path in source.paths:
            if Path(path).is_dir() and Path(path).resolve() == Path(sink.folder).resolve():
                yield f"{path}: rows would land in the folder that is read, and the next run would read them"


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
    if error := unkept(config) or unkeyed(config):
        yield _of("sink", error)
    else:
        yield Check("sink", "ok", name)


def _placed(config: Config) -> Iterator[Check]:
    """See whether the source can be told where to read on, where the sink needs that. Letters cannot, and need not."""
    if config.sink is not None and (error := unplaced(config)):
        yield _of("sink", error)


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


def _telemetry(config: Config) -> Iterator[Check]:
    settings = config.telemetry
    if not settings.endpoint:
        return
    try:
        from lmstream.observability.telemetry import secret_headers

        secret_headers(settings)
    except LmstreamError as e:
        yield _of("telemetry", e)
    else:
        spans = f", and a span of {settings.traces:.0%} of the batches" if settings.traces else ""
        yield Check("telemetry", "ok", f"metrics every {settings.interval:g} s{spans} to {settings.endpoint}")


ORGANIZATION: Final = Look(("engine", "source"), _organization)
ENGINE: Final = Look(("engine",), _engine)
GROUP: Final = Look(("source",), _group)


def _gathers(config: Config) -> Iterator[Check]:
    """See whether the sink fits a host that is called, and cannot read on."""
    if config.sink is not None and config.sink.traits.claims:
        what = f"type {config.sink.name} lands windows of many records, which a function that is called cannot gather"
        yield Check("sink", "failed", what, "use sink.type firehose here, or land this topic with the container")


_SINK: Final = Look(("sink", "source", "run", "engine"), _sink)
_CREDENTIALS: Final = Look(("sink", "dead_letters"), _credentials)
_COLLECTOR: Final = Look(("telemetry",), _telemetry)
_CALLS: Final = (
    Look(("run", "source", "engine"), contradictions.memory),
    Look(("runtime",), contradictions.grace),
    Look(("delivery", "sink"), contradictions.calls),
    Look(("delivery", "sink"), contradictions.requests),
    Look(("sink", "rolling"), contradictions.rolling),
    Look(("sink",), contradictions.before_claims),
    Look(("sink", "source"), contradictions.at_least_once),
)
"""Numbers of whatever delivers rows from a process of its own."""
_MEMBER: Final = (
    Look(("run", "source"), contradictions.bombs),
    Look(("source",), contradictions.heartbeat),
    Look(("source",), contradictions.joining),
    Look(("runtime", "source"), contradictions.drains),
    Look(("delivery", "runtime", "source"), contradictions.requests_and_drain),
)
"""Numbers of a member of a group."""
_LETTERS: Final = Look(("dead_letters", "source", "engine"), _letters)
_ROWS: Final = (ORGANIZATION, ENGINE, _SINK, _LETTERS, _CREDENTIALS, _COLLECTOR)
REPLAY: Final = (*_ROWS, *_CALLS)
"""Of dead letters that go through the engine again."""
PURGING: Final = (*REPLAY, Look(("sink", "run"), _purged))
"""Of those that are deleted once they are delivered."""
START: Final = (
    Look(("source", "engine"), _source),
    GROUP,
    Look(("sink", "source"), _placed),
    *_ROWS,
    *_CALLS,
    *_MEMBER,
)
"""Of a run."""
IN_LAMBDA: Final = (
    ORGANIZATION,
    ENGINE,
    _SINK,
    Look(("sink",), _gathers),
    Look(("dead_letters",), _letters_chosen),
    _CREDENTIALS,
    *_CALLS[2:],
)
"""Of the function: its source is what calls it, its memory and its end the function's."""
READING: Final = (ORGANIZATION, ENGINE, GROUP)
"""Of a topic that is read again beside its group: nothing of it waits, is sent or is drained."""
