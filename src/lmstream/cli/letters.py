"""Which dead letters, and where they are kept: in a folder, in a bucket, or in a topic.

What an event source mapping gave up (lambda_failures.py) lies in a folder or bucket as well: a document of several
records, each of which is a letter here.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream.cli.flags import BrokerFlags, EngineFlags, given
from lmstream.cli.letter_stores import FolderStore, Found, ObjectStore, Store, TopicStore
from lmstream.errors import ConfigError, SourceError

_AGO: Final = re.compile(r"^(\d+)([smhd])$")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"^(\d+)(?:-(\d+))?$")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which letters; all of the filters must fit, and any value of one that is repeated."""

    reason: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = ()
    """Reason of the letter, as in decode.json or 'decode.*'; may be repeated."""
    topic: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = ()
    """Topic the record came from; may be repeated."""
    partition: Annotated[tuple[int, ...], Parameter(consume_multiple=False)] = ()
    """Partition the record came from; may be repeated."""
    offset: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = ()
    """Offset of the record, or the first and last as in 100-200; may be repeated."""
    since: str | None = None
    """Records from this time on: 2024-05-09T14:00Z, or 2h for two hours ago (s, m, h, d). UTC without a zone."""
    until: str | None = None
    """Records before this time."""

    @property
    def given(self) -> bool:
        """Whether anything is filtered."""
        return self != Filters()

    def compiled(self) -> Callable[[Found], bool]:
        """Answer the filter. ConfigError for texts that are none."""
        spans = [_span(text) for text in self.offset]
        since, until = _moment("--since", self.since), _moment("--until", self.until)

        def fits(found: Found) -> bool:
            letter = found.letter
            return (
                (not self.reason or any(fnmatchcase(letter.reason, each) for each in self.reason))
                and (not self.topic or letter.topic in self.topic)
                and (not self.partition or letter.partition in self.partition)
                and (not spans or any(first <= letter.offset <= last for first, last in spans))
                and (since is None or found.time >= since)
                and (until is None or found.time < until)
            )

        return fits


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class S3Flags:
    """How to reach a bucket of letters."""

    s3_endpoint_url: str | None = None
    """Another endpoint for s3:// letters: a VPC endpoint, or any store that speaks S3."""
    s3_region: str | None = None
    """AWS region of s3:// letters."""


NO_FILTERS: Final = Filters()
NO_S3: Final = S3Flags()


def store_of(target: str | None, s3: S3Flags, broker: BrokerFlags, engine: EngineFlags) -> tuple[Store, dict[str, Any]]:
    """Open the place of letters that is named, or the configured one, and answer the settings that keep letters there.

    Nothing connects yet.
    """
    if target is None:
        part = engine.load().dead_letters
        if part is None or part.name not in {"letters", "letters_s3", "letters_kafka"}:
            raise ConfigError("config.invalid", "name the letters: a folder, s3://BUCKET/PREFIX or kafka://TOPIC")
        if part.name == "letters":
            return store_of(part.settings.root, s3, broker, engine)
        if part.name == "letters_s3":
            return _in_bucket(part.settings)
        own = part.settings
        named = {"bootstrap": own.bootstrap, **{k: getattr(own, k) for k in ("ca", "cert", "key", "key_password")}}
        overrides = {f"source.{k}": v for k, v in named.items() if v} if own.bootstrap else broker.overrides()
        if own.bootstrap:
            overrides["source.security"] = own.security
        return _in_topic(own.topic, overrides, engine), {}
    kind, slashes, where = target.partition("://")
    if slashes and kind == "s3":
        from lmstream.dead_letters.letters_s3 import Settings as S3Settings

        bucket, _, prefix = where.partition("/")
        options = given({"endpoint_url": s3.s3_endpoint_url, "region": s3.s3_region})
        return _in_bucket(S3Settings(bucket=bucket, prefix=prefix, **options))
    if slashes and kind == "kafka":
        return _in_topic(where, broker.overrides(), engine), {}
    if slashes:
        raise ConfigError("config.invalid", f"{target}: expected a folder, s3://BUCKET/PREFIX or kafka://TOPIC")
    if not Path(target).exists():
        raise SourceError("source.file", f"{target}: no such folder of dead letters")
    return FolderStore(Path(target)), {"dead_letters.type": "letters", "dead_letters.root": target}


def _in_bucket(settings: Any) -> tuple[Store, dict[str, Any]]:
    kept = {f"dead_letters.{k}": v for k, v in msgspec.structs.asdict(settings).items()}
    return ObjectStore(settings), {"dead_letters.type": "letters_s3", **kept}


def _in_topic(topic: str, overrides: dict[str, Any], engine: EngineFlags) -> Store:
    from lmstream.cli.kafka import settings_of

    return TopicStore(settings_of(engine.load({"source.type": "kafka", "source.topics": (topic,), **overrides})))


@asynccontextmanager
async def reading(store: Store) -> AsyncIterator[AsyncGenerator[Found]]:
    """The letters of a place, which is closed at the end."""
    try:
        async with aclosing(store.read()) as found:
            yield found
    finally:
        await store.close()


def _span(text: str) -> tuple[int, int]:
    found = _SPAN.match(text)
    if not found:
        raise ConfigError("config.invalid", f"--offset {text}: expected OFFSET or FIRST-LAST, as in 100-200")
    return int(found[1]), int(found[2] or found[1])


def _moment(flag: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    if ago := _AGO.match(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ConfigError(
            "config.invalid", f"{flag} {text}: expected 2024-05-09T14:00Z, or 2h for two hours ago"
        ) from e
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
