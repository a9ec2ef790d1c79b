"""Which dead letters a verb is about, and where they are: the flags of `lmstream dlq`, and the store that they name."""

import re
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from lmstream.abilities import InTopic
from lmstream.aws import credentials
from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_S3, BrokerFlags, FileFlags, S3Flags, given, of_kafka
from lmstream.dead_letters.filters import Filters
from lmstream.dead_letters.store import DeadLetterStore, FolderStore, ObjectStore, TopicStore
from lmstream.errors import ConfigError, SourceError
from lmstream.kafka.settings import KafkaConnection

Letters = Annotated[
    str | None,
    Parameter(help="Folder, s3://BUCKET/PREFIX or kafka://TOPIC. Default: the one in the configuration."),
]
LettersOrRecord = Annotated[
    str | None,
    Parameter(
        name="LETTERS",
        help="Folder, s3://BUCKET/PREFIX or kafka://TOPIC; or TOPIC/PARTITION/OFFSET, one record as `dlq ls` prints "
        "it, of those in the configuration. Default: the one in the configuration.",
    ),
]


_EVERY: Final = Filters()
_RECORD: Final = re.compile(r"([^/:]+)/(\d{1,10})/(\d{1,19})")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which letters, and how their place is reached."""

    filters: Annotated[Filters, Parameter(name="*")] = _EVERY
    s3: S3Flags = NO_S3
    broker: BrokerFlags = NO_BROKER

    def store(self, target: str | None, file: FileFlags) -> DeadLetterStore:
        """Open the place of letters that is named, or the one in the configuration `file`. Nothing connects yet."""
        return self.opened(target, file)[0]

    def of_record(self, target: str | None) -> "tuple[str | None, Which]":
        """The place and the letters where `target` is one record, as `dlq ls` prints it: TOPIC/PARTITION/OFFSET."""
        record = None if target is None or Path(target).exists() else _RECORD.fullmatch(target)
        if record is None:
            return target, self
        topic, partition, offset = record.groups()
        own = replace(self.filters, topic=(escape(topic),), partition=(int(partition),), offset=(offset,))
        return None, replace(self, filters=own)

    def opened(self, target: str | None, file: FileFlags) -> tuple[DeadLetterStore, dict[str, Any]]:
        """The same, with the settings that keep letters there; none for a topic."""
        if target is None:
            return self._configured(file)
        kind, slashes, where = target.partition("://")
        if slashes and kind == "s3":
            from lmstream.dead_letters.letters_s3 import Settings

            bucket, _, prefix = where.partition("/")
            access = given({"endpoint_url": self.s3.s3_endpoint_url, "region": self.s3.s3_region})
            settings = Settings(bucket=bucket, prefix=prefix, **access)
            credentials.need(target)
            return ObjectStore(settings, terminal.say), _kept("letters_s3", settings)
        if slashes and kind == "kafka":
            return self._topic(where, self.broker.overrides(), file), {}
        if slashes:
            raise ConfigError("config.invalid", f"{target}: expected a folder, s3://BUCKET/PREFIX or kafka://TOPIC")
        if not Path(target).exists():
            raise SourceError("source.file", f"{target}: no such dead-letter folder")
        return FolderStore(Path(target), terminal.say), {"dead_letters.type": "letters", "dead_letters.root": target}

    def _configured(self, file: FileFlags) -> tuple[DeadLetterStore, dict[str, Any]]:
        part = file.load().dead_letters
        if part is not None and part.traits.store is not None:
            if part.traits.service:
                credentials.need(f"dead_letters.type {part.name}")
            return part.traits.store(part.settings, terminal.say), _kept(part.name, part.settings)
        own = None if part is None else part.settings
        if not isinstance(own, InTopic) or not isinstance(own, KafkaConnection):
            raise ConfigError("config.invalid", "name the dead letters: a folder, s3://BUCKET/PREFIX or kafka://TOPIC")
        names = {*KafkaConnection.__struct_fields__} - {"request_timeout_ms"}
        named = {f"source.{name}": getattr(own, name) for name in names if getattr(own, name)}
        return self._topic(own.topic, named if own.bootstrap else self.broker.overrides(), file), {}

    def _topic(self, topic: str, overrides: dict[str, Any], file: FileFlags) -> DeadLetterStore:
        from lmstream.cli.kafka import settings_of

        config = file.load({"source.type": of_kafka, "source.topics": (topic,), **overrides})
        return TopicStore(settings_of(config), terminal.say)


NOTHING: Final = Which()


def _kept(name: str, settings: Any) -> dict[str, Any]:
    own = {f"dead_letters.{key}": value for key, value in msgspec.structs.asdict(settings).items()}
    return {"dead_letters.type": name, **own}
