"""Records of one partition for `lmstream inspect`: one offset, a range, or the last ones."""

import re
from contextlib import aclosing
from typing import Final, NamedTuple

from lmstream.cli.flags import BrokerFlags, EngineFlags
from lmstream.errors import ConfigError, SourceError
from lmstream.model import Record

_FORM: Final = re.compile(r"([A-Za-z0-9._-]+)/(\d{1,9})(?:/(\d{1,18})(?:\.\.(\d{1,18}))?)?")


_FIX: Final = "`lmstream lag` shows where each partition ends; retention and compaction leave gaps"


class Wanted(NamedTuple):
    """Offsets of one partition."""

    topic: str
    partition: int
    start: int | None
    """None with `last`."""
    stop: int | None
    """The offset to stop before; None for one record."""


def wanted(target: str, last: int | None) -> Wanted | None:
    """What a target names; None when it is not in Kafka. Raises ConfigError for one that does not fit --last."""
    found = _FORM.fullmatch(target)
    if found is None or (found[3] is None and last is None):
        return None
    start, stop = (None if each is None else int(each) for each in found.groups()[2:])
    if last is not None and start is not None:
        raise ConfigError("usage.arguments", "--last goes with TOPIC/PARTITION, without offsets")
    if stop is not None and start is not None and stop <= start:
        raise ConfigError("usage.arguments", f"{target}: no offset is in this range; it ends before {stop}")
    return Wanted(found[1], int(found[2]), start, stop)


async def fetched(at: Wanted, last: int | None, most: int, broker: BrokerFlags, engine: EngineFlags) -> list[Record]:
    """The records, `most` at most. Raises SourceError when there is none."""
    from lmstream.cli.kafka import client_overrides, settings_of
    from lmstream.kafka.range_reader import Span, ends, read_topic

    settings = settings_of(engine.load(client_overrides(broker, at.topic)))
    start, stop = at.start, at.stop
    if start is None:
        begin, end = await ends(settings, at.topic, at.partition)
        start = max(begin, end - (last or 1))
    found: list[Record] = []
    # To the end, though the first one may be all that is looked at: what cannot be read stands at the end of its batch.
    span = Span({at.partition: start}, {} if stop is None else {at.partition: stop}, only=True)
    async with aclosing(read_topic(settings, span)) as records:
        async for record in records:
            single = at.start is not None and stop is None
            if single and record.offset != start and not record.closed:
                break
            found.append(record)
            if single or len(found) >= most:
                break
    if not found:
        offsets = f"{start}" if stop is None else f"{start}..{stop}"
        what = f"{at.topic}/{at.partition}/{offsets}: the topic has no record there"
        raise SourceError("source.offset", what, _FIX)
    return found
