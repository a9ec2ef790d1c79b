"""`lmstream init`: a first configuration that works, by questions to a person, the brokers and the stream."""

import asyncio
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cyclopts import Parameter

from lmstream.abilities import Check
from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, BrokerFlags, Json, SetFlags, given
from lmstream.cli.run import one_sink
from lmstream.cli.scaffold.answers import CONNECTION, RUN, Answers, again, ask, asking, fill, letters_at
from lmstream.cli.scaffold.facts import Facts, facts_of, topics_at
from lmstream.cli.scaffold.text import differing, text
from lmstream.cli.validate import UNREACHABLE, WRONG, show_checks
from lmstream.config import Config, load
from lmstream.config.questions import live
from lmstream.config.schema import NAME, schema
from lmstream.config.validation import arithmetic
from lmstream.errors import ConfigError

_FILE: Final = Path("lmstream.toml")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """What is read, and where it goes."""

    topic: tuple[str, ...] = ()
    """Topic of the bundles; may be repeated."""
    org: str | None = None
    """Organization of the rows."""
    group: str | None = None
    """Consumer group. Default: ORG-rows."""
    sink: Literal["firehose", "s3", "local"] | None = None
    """Where rows go. Or --stream, --bucket, --landed."""
    stream: str | None = None
    """Firehose stream."""
    bucket: str | None = None
    """Bucket that rows land in, exactly once, without Firehose."""
    prefix: str | None = None
    """Prefix in it."""
    landed: str | None = None
    """Landing folder on this machine."""
    region: str | None = None
    """AWS region of stream or bucket."""
    endpoint_url: str | None = None
    """Another endpoint for stream or bucket: a VPC endpoint, or a local one."""
    dead_letters: str | None = None
    """Folder of dead letters, or s3://BUCKET/PREFIX. Default: ./dead-letters."""

    def known(self) -> Answers:
        """Answer the settings that were given, by key path. Raises ConfigError for flags of two sinks."""
        flags = {"--stream": (self.stream, "firehose"), "--bucket": (self.bucket, "s3")}
        kind = one_sink(self.sink, flags | {"--landed": (self.landed, "local")})
        found = given(
            {
                "source.topics": list(self.topic) or None,
                "engine.org_id": self.org,
                "source.group": self.group,
                "sink.type": kind,
                "sink.stream": self.stream,
                "sink.bucket": self.bucket,
                "sink.prefix": self.prefix,
                "sink.root": self.landed,
                "sink.region": self.region,
                "sink.endpoint_url": self.endpoint_url,
            }
        )
        return found | (letters_at(self.dead_letters) if self.dead_letters else {})


_NO_RUN: Final = RunFlags()
_NO_SET: Final = SetFlags()


def init(
    file: Path = _FILE,
    /,
    *,
    offline: bool = False,
    force: bool = False,
    as_json: Json = False,
    run: RunFlags = _NO_RUN,
    broker: BrokerFlags = NO_BROKER,
    more: SetFlags = _NO_SET,
) -> int:
    """Write a configuration that works: ask what is not given, connect, and read what brokers and stream know.

    It asks on a terminal only. Nothing is written where a check fails: exit 2 if a setting is wrong, 1 if something
    does not answer. The schema for editors is written beside the file, as lmstream.schema.json.

    Parameters
    ----------
    file
        File to write.
    offline
        Connect to nothing; say what was not checked, here and in the file.
    force
        Replace a file that exists.
    as_json
        Print one JSON object per check and line.
    """
    beside = file.with_name(NAME)
    _refuse_present(file, beside, force=force)
    known = {**_flat(broker.overrides()), **run.known(), **more.over()}
    known.setdefault("source.type", "kafka")
    asked = asking() and _ask(known, offline=offline)
    fill(known)
    try:
        config = load(env={}, overrides=known)
        facts = Facts() if offline else asyncio.run(facts_of(config))
        known = facts.settings(config) | known
        config = load(env={}, overrides=known)
    except ConfigError:
        _say_again(known, asked=asked)
        raise
    static = list(arithmetic(config))
    checks = static if offline else [*static, *_not_repeated(static, asyncio.run(live(config)))]
    show_checks(checks, as_json=as_json)
    if not offline and any(check.verdict == "failed" for check in checks):
        terminal.insist(f"{file} was not written; correct what failed, or give --offline to write it all the same")
        _say_again(known, asked=asked)
        return WRONG if any(check.verdict == "failed" for check in static) else UNREACHABLE
    unchecked = _unchecked(checks) if offline else []
    _write(beside, json.dumps(schema(), indent=2) + "\n", force=True)
    _write(file, text(config, differing(config, known), facts, str(file), unchecked), force=force)
    _tell(file, config, unchecked)
    return 0


def _ask(known: Answers, *, offline: bool) -> bool:
    """Ask for what is not known, the topics of the brokers shown first. Answers whether anything was asked."""
    before = len(known)
    ask(known, CONNECTION)
    if not offline and "source.topics" not in known:
        try:
            there = load(env={}, overrides={**_of_source(known), "source.topics": ["^.*"]}).need("source").settings
            terminal.insist(asyncio.run(topics_at(there)))
        except ConfigError as e:  # told with all that is wrong, once the questions are answered
            terminal.insist(f"topics cannot be listed: {e.detail}")
    ask(known, RUN)
    return len(known) > before


def _of_source(known: Answers) -> Answers:
    return {key: value for key, value in known.items() if key.startswith("source.")}


def _flat(overrides: dict[str, Any]) -> Answers:
    """The settings of flags, each as a value: what would be made of a setting below is made of its default."""
    return {key: value("plaintext") if callable(value) else value for key, value in overrides.items()}


def _not_repeated(static: Sequence[Check], asked: Sequence[Check]) -> list[Check]:
    told = {check.name for check in static if check.verdict == "failed"}
    return [check for check in asked if check.verdict != "failed" or check.name not in told]


def _unchecked(checks: Sequence[Check]) -> list[str]:
    wrong = [f"{check.name} ({check.said})" for check in checks if check.verdict == "failed"]
    return ["brokers, topic and group", "the sink", "the place of dead letters", *wrong]


def _say_again(known: Answers, *, asked: bool) -> None:
    """Say how to give the same answers once more, to whoever has typed them."""
    if asked:
        terminal.insist(f"again: {again(known)}")


def _refuse_present(file: Path, beside: Path, *, force: bool) -> None:
    """Raise ConfigError for files that would be replaced, before anything is asked."""
    if file.exists() and not force:
        raise ConfigError("config.invalid", f"{file} exists", "give --force to replace it, or another name")
    if beside.exists() and not force and b'"title": "lmstream"' not in beside.read_bytes():
        what = f"{beside} exists, and is not the schema of lmstream that would be written there"
        raise ConfigError("config.invalid", what, "give --force to replace it, or write into another folder")


def _write(file: Path, content: str, *, force: bool) -> None:
    """Write a file, whole or not at all. ConfigError when it cannot be, or has come to be there meanwhile."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(content, encoding="utf-8")
        if force:
            draft.replace(file)
        else:
            os.link(draft, file)
    except FileExistsError as e:
        raise ConfigError("config.invalid", f"{file} exists now", "give --force to replace it") from e
    except OSError as e:
        raise ConfigError("config.invalid", f"{file} cannot be written: {e.strerror}") from e
    finally:
        draft.unlink(missing_ok=True)


def _tell(file: Path, config: Config, unchecked: Sequence[str]) -> None:
    terminal.say(f"wrote {file}, and {NAME} beside it for editors")
    if unchecked:
        terminal.say(f"not checked: {'; '.join(unchecked)}")
    named = shlex.quote(str(file))
    topic = config.need("source").settings.topics[0]
    terminal.say("next:")
    for command in (
        f"lmstream validate --config {named} --connect",
        f"lmstream run --config {named}",
        f"lmstream lag --config {named}",
        f"lmstream inspect {shlex.quote(topic)}/0/0 --rows --config {named}",
        f"lmstream query --config {named}",
        f"lmstream verify --config {named}",
    ):
        terminal.say(f"  {command}")
