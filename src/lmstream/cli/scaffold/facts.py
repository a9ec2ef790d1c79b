"""What brokers and stream say, and the settings that follow from it."""

from typing import NamedTuple

from lmstream.abilities import Describable
from lmstream.aws.described_stream import StreamFacts, stream_facts
from lmstream.cli.scaffold.answers import Answers
from lmstream.config import Config, build_sink
from lmstream.errors import LmstreamError
from lmstream.kafka.settings import Settings
from lmstream.kafka.topic_facts import TopicFacts, topic_facts, topic_names
from lmstream.partitioning import path_of

_SHOWN = 20


class Facts(NamedTuple):
    """What is known beside the answers. What could not be asked is missing: the checks say why."""

    topics: tuple[TopicFacts, ...] = ()
    stream: StreamFacts | None = None

    def settings(self, config: Config) -> Answers:
        """The settings that follow: they differ from the defaults because the world does."""
        found: Answers = {}
        largest = max((each.message_bytes or 0 for each in self.topics), default=0)
        if largest > config.engine.limits.record_bytes:
            found["engine.limits.record_bytes"] = largest
        if self.stream is not None:
            path = path_of(self.stream.prefix)
            if path is not None and path != config.engine.path:
                found["engine.path"] = path
            if self.stream.seconds and self.stream.seconds != config.delivery.partition_seconds:
                found["delivery.partition_seconds"] = float(self.stream.seconds)
        return found


async def facts_of(config: Config) -> Facts:
    """Ask brokers and stream."""
    return Facts(tuple(await _topics(config)), await _stream(config))


async def topics_at(settings: Settings) -> str:
    """The topics that there are, in a line for whoever has to name one; why they cannot be listed."""
    try:
        names = await topic_names(settings)
    except LmstreamError as e:
        return f"topics cannot be listed: {e.detail}"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"topics there: {', '.join(names[:_SHOWN]) or 'none'}{more}"


async def _topics(config: Config) -> list[TopicFacts]:
    settings = config.need("source").settings
    try:
        return await topic_facts(settings) if isinstance(settings, Settings) else []
    except LmstreamError:
        return []


async def _stream(config: Config) -> StreamFacts | None:
    try:
        sink = build_sink(config)
    except LmstreamError:
        return None
    try:
        return stream_facts(await sink.describe()) if isinstance(sink, Describable) else None
    except LmstreamError:
        return None
    finally:
        await sink.close()
