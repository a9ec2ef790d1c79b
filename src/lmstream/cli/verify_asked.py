"""What `lmstream verify` is asked: its flags, and the configuration where they say nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmstream.cli import terminal
from lmstream.cli.flags import BrokerFlags, EngineFlags, RowFlags, given
from lmstream.cli.landed import landed_in
from lmstream.cli.verify_flags import NEEDS, configurations, refuse_missing, unreachable
from lmstream.cli.verify_lake import claims_of, letters_of
from lmstream.config import Config
from lmstream.config.validation import READING
from lmstream.errors import ConfigError, LmstreamError, refuse
from lmstream.kafka.settings import Settings as KafkaSettings
from lmstream.storage.objects import Folder, Place, S3Access, place
from lmstream.verification import Judged


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything that a verdict is about."""

    config: Config
    others: list[Judged]
    """Older settings, with the records that were read with them."""
    topics: tuple[str, ...]
    """Topics to read again; none where a log or claims say what must be there."""
    rows: Place
    access: S3Access
    """How the bucket of rows is reached."""
    letters: Place | None
    errors: Place | None
    lake: Place | None
    """Claims of a lake; None where rows do not land by claims."""


def asked(
    wrong: list[LmstreamError],
    config: Sequence[str],
    engine: RowFlags,
    broker: BrokerFlags,
    access: S3Access,
    places: Mapping[str, str | None],
    *,
    expected: Sequence[Path],
    topic: tuple[str, ...],
    group: str | None,
    ranged: bool,
) -> Asked:
    """Work it out. `wrong` is what is wrong with the flags alone; `places` are texts by flag; `ranged` is whether a
    topic is needed even for a lake. Raises ConfigError for all that is wrong, SourceError."""
    named: dict[str, Place] = {}
    for flag, text in places.items():
        try:
            named |= {} if text is None else {flag: place(text, access)}
        except ConfigError as e:
            wrong += e.errors
    wrong += unreachable(named)
    try:
        flags, others = configurations(config, engine)
        loaded = _loaded(flags, broker, topic, group)
    except ConfigError as e:
        refuse([*wrong, *e.errors])
        raise
    refuse(wrong)
    rows = named.get("--landed")
    if rows is None:
        where, access = landed_in(loaded, access)
        rows = place(where, access)
    refuse(unreachable({"--landed": rows}))
    refuse_missing({"--landed": rows} | named)
    lake = None if expected else claims_of(rows, named.get("--claims"), loaded)
    topics = topic
    if not (expected or topic) and (lake is None or ranged):
        topics = _topics_of(loaded, rows)
        loaded = _loaded(flags, broker, topics, group)
    if not topics and others:
        raise ConfigError("config.invalid", "--config FILE@TOPIC needs --topic: a log says itself what must land")
    letters = named.get("--dead-letters") or _letters(loaded, access)
    found = Asked(
        config=loaded,
        others=others,
        topics=topics,
        rows=rows,
        access=access,
        letters=letters,
        errors=named.get("--errors"),
        lake=lake,
    )
    _say(found, places, topic)
    return found


def _loaded(flags: EngineFlags, broker: BrokerFlags, topics: Sequence[str], group: str | None) -> Config:
    from lmstream.cli.kafka import client_overrides

    if topics:
        return flags.load(client_overrides(broker, *topics) | given({"source.group": group}), READING)
    if group or broker.overrides():
        return flags.load(client_overrides(broker) | given({"source.group": group}))
    return flags.load()


def _topics_of(config: Config, rows: Place) -> tuple[str, ...]:
    """The topics of the configured source. Raises ConfigError."""
    source = None if config.source is None else config.source.settings
    if not isinstance(source, KafkaSettings):
        raise ConfigError("config.invalid", f"{NEEDS}; no claims of a lake lie at {rows.name} (--claims)")
    if pattern := next((each for each in source.topics if each.startswith("^")), None):
        what = f"source.topics has the pattern {pattern}, and verify reads topics by their names"
        raise ConfigError("config.invalid", what, "name each topic whose rows land there with --topic")
    return source.topics


def _letters(config: Config, access: S3Access) -> Place | None:
    """Those of the configuration. A folder that is not here may be one of another machine: nothing is known of it."""
    letters = letters_of(config, access)
    if not isinstance(letters, Folder) or letters.exists():
        return letters
    terminal.say(f"dead letters: {letters.name} of the configuration is not on this machine, or nothing wrote into it")
    return None


def _say(found: Asked, places: Mapping[str, str | None], topic: Sequence[str]) -> None:
    """Say what was taken from the configuration."""
    taken = [f"rows {found.rows.name}"] if places["--landed"] is None else []
    taken += [f"topics {', '.join(found.topics)}"] if found.topics and not topic else []
    if places["--dead-letters"] is None and found.letters is not None:
        taken.append(f"dead letters {found.letters.name}")
    if taken:
        terminal.say(f"from the configuration: {'; '.join(taken)}")
