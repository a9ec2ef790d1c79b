"""Events of Pipes and event source mappings to records; a bad record is named apart from an event of another service.

Shapes: docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-msk.html (a bare list, partition as text or number)
and docs.aws.amazon.com/lambda/latest/dg/with-msk.html (an object with lists by "topic-partition").
"""

import binascii
import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from lmstream import __version__
from lmstream.errors import REASONS, ConfigError
from lmstream.model import DeadLetter, Record, TopicPartition

FAULT: Final = "record.envelope"
"""Reason of the letter of an entry that is not a Kafka record."""
_SOURCES: Final = ("aws:kafka", "SelfManagedKafka")
_PARTITIONS: Final = range(2**31)
_OFFSETS: Final = range(2**63)
_TIMES: Final = range(-(2**63), 2**63)
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_NOWHERE: Final = "unknown"
_SHAPES: Final = (
    "a Pipe's list of Kafka records without an input template, or a mapping's object with eventSource aws:kafka or "
    "SelfManagedKafka and records by topic-partition"
)


class Faulty(NamedTuple):
    """An entry that is not a Kafka record: its letter, and where it lay if that can be told."""

    letter: DeadLetter
    tp: TopicPartition | None
    offset: int | None


class Event(NamedTuple):
    """One invocation's records, in the event's order."""

    kind: Literal["pipe", "mapping"]
    records: list[Record]
    faulty: list[Faulty]


class _FaultError(Exception):
    """Why an entry is not a record."""


def parse(event: object) -> Event:
    """Read an event. Raises ConfigError `event.shape` for one of another kind: nothing of it may be acknowledged."""
    if isinstance(event, list):
        if event and not any(map(_is_kafka, event)):
            raise _shape(f"a list of {_seen(event[0])}")
        return _event("pipe", ((None, entry) for entry in event))
    if isinstance(event, Mapping) and isinstance(event.get("records"), Mapping):
        source = event.get("eventSource", "aws:kafka")
        if source not in _SOURCES:
            raise _shape(f"eventSource {source!r:.100}")
        return _event("mapping", _entries(event["records"]))
    raise _shape(_seen(event))


def _entries(records: Mapping[Any, Any]) -> Iterator[tuple[str | None, Any]]:
    for where, entries in records.items():
        if not isinstance(entries, list):
            raise _shape(f"records[{where!r:.100}] is {_seen(entries)}")
        for entry in entries:
            yield str(where), entry


def _event(kind: Literal["pipe", "mapping"], entries: Iterator[tuple[str | None, Any]]) -> Event:
    records: list[Record] = []
    faulty: list[Faulty] = []
    for where, entry in entries:
        try:
            records.append(_record(entry))
        except _FaultError as fault:
            faulty.append(_faulty(where, entry, str(fault)))
    return Event(kind, records, faulty)


def _is_kafka(entry: object) -> bool:
    """Whether an entry claims to be a Kafka record, however broken."""
    return isinstance(entry, Mapping) and (
        entry.get("eventSource") in _SOURCES or ("topic" in entry and "offset" in entry)
    )


def _record(entry: Any) -> Record:
    if not isinstance(entry, Mapping):
        raise _FaultError(f"expected an object, saw {_seen(entry)}")
    topic = _topic(entry.get("topic"))
    if topic is None:
        raise _FaultError(f"topic: expected text, saw {_seen(entry.get('topic'))}")
    partition, offset = _integer(entry, "partition", _PARTITIONS), _integer(entry, "offset", _OFFSETS)
    timestamp = _integer(entry, "timestamp", _TIMES) if entry.get("timestamp") is not None else -1
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        value=_value(entry.get("value")),
        key=_key(entry.get("key")),
        headers=tuple(_headers(entry.get("headers"))),
    )


def _topic(found: object) -> str | None:
    """A name that can be written: JSON can escape half a character, and neither an id nor a key is made of that."""
    return found if isinstance(found, str) and found and _unpaired(found) == found else None


def _unpaired(text: str) -> str:
    """Text with each half of a character as a question mark."""
    return text.encode(errors="replace").decode()


def _integer(entry: Mapping[str, Any], name: str, limits: range) -> int:
    """A number, or text of one: Pipes write the partition as "0", mappings as 0."""
    found = entry.get(name)
    if isinstance(found, str) and _NUMBER.fullmatch(found):
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or found not in limits:
        raise _FaultError(f"{name}: expected a number from {limits.start} to {limits.stop - 1}, saw {_seen(found)}")
    return found


def _value(found: object) -> bytes | None:
    """The bundle's bytes; None for a tombstone, whose value is null or not there."""
    if found is None:
        return None
    if not isinstance(found, str):
        raise _FaultError(f"value: expected base64 text, saw {_seen(found)}")
    try:
        return binascii.a2b_base64(found, strict_mode=True)
    except ValueError as error:  # binascii.Error, and text that is not ASCII
        raise _FaultError(f"value: {len(found):,} characters that are not base64: {error}") from None


def _key(found: object) -> bytes | None:
    """The key's bytes. No row depends on it, so one that is no base64 is kept as the text it is."""
    if not isinstance(found, str):
        return None
    try:
        return binascii.a2b_base64(found, strict_mode=True)
    except ValueError:
        return found.encode(errors="surrogatepass")


def _headers(found: object) -> Iterator[tuple[str, bytes | None]]:
    """Headers: objects of one name, bytes as numbers from -128. No row depends on them: odd ones are left out."""
    for header in found if isinstance(found, list) else ():
        for name, data in header.items() if isinstance(header, Mapping) else ():
            if data is None:
                yield _unpaired(str(name)), None
            elif isinstance(data, list) and all(isinstance(byte, int) and byte in range(-128, 256) for byte in data):
                yield _unpaired(str(name)), bytes(byte & 0xFF for byte in data)


def _faulty(where: str | None, entry: Any, fault: str) -> Faulty:
    """The letter of an entry: the coordinates that there are, and the entry itself as its bytes."""
    fields = entry if isinstance(entry, Mapping) else {}
    topic = _topic(fields.get("topic"))
    partition, offset = _maybe(fields, "partition", _PARTITIONS), _maybe(fields, "offset", _OFFSETS)
    if where is not None:  # a mapping says it twice
        name, _, number = where.rpartition("-")
        topic = topic or _topic(name)
        if partition is None:
            partition = _maybe({"partition": number}, "partition", _PARTITIONS)
    data = _bytes_of(entry)
    timestamp = _maybe(fields, "timestamp", _TIMES)
    letter = DeadLetter(
        topic=topic or _NOWHERE,
        partition=partition or 0,
        offset=offset or 0,
        timestamp=-1 if timestamp is None else timestamp,
        value=data,
        reason=FAULT,
        code=REASONS[FAULT].code,
        detail=f"{fault}; the letter holds the entry of the event, not the record's bytes",
        sha256=sha256(data).hexdigest(),
        version=__version__,
    )
    tp = TopicPartition(topic, partition) if topic is not None and partition is not None else None
    return Faulty(letter, tp, offset)


def _bytes_of(entry: Any) -> bytes:
    """An entry as JSON again: by the standard library, which writes whatever it has read."""
    try:
        return json.dumps(entry, separators=(",", ":")).encode()
    except RecursionError:  # read higher up on the stack; nothing that a record has is nested so
        fields = entry if isinstance(entry, dict) else {}
        plain = {name: found for name, found in fields.items() if not isinstance(found, list | dict)}
        return json.dumps(plain, separators=(",", ":")).encode()


def _maybe(fields: Mapping[str, Any], name: str, limits: range) -> int | None:
    try:
        return _integer(fields, name, limits)
    except _FaultError:
        return None


def _shape(seen: str) -> ConfigError:
    return ConfigError("event.shape", f"the event is {seen}; expected {_SHAPES}")


def _seen(found: object) -> str:
    """A value in a few words, payloads left out."""
    if found is None:
        return "nothing"
    if isinstance(found, Mapping):
        return f"an object with {', '.join(repr(str(key)[:40]) for key in list(found)[:8]) or 'no keys'}"
    if isinstance(found, str):
        return f"text of {len(found):,} characters" if len(found) > 40 else repr(found)  # noqa: PLR2004 - for reading
    if isinstance(found, list):
        return f"a list of {len(found):,}"
    return repr(found)[:40]
