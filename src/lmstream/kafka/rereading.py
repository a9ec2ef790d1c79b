"""Dead letters of a client that cannot give the headers of every record: read again, by the other reader."""

import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from lmstream.delivery.dead_letter import Headers, readable
from lmstream.errors import SourceError
from lmstream.interfaces import DeadLetterSink
from lmstream.kafka.settings import Settings
from lmstream.model import DeadLetter, Record

UNREAD: Final = f"lmstream-headers-unread-{secrets.token_hex(16)}"
"""Name of the one header of a record whose headers the client could not give: of this process, so that no producer can
write it."""


class Rereading:
    """A place of dead letters that asks the topic for what is missing in one.

    Raises what keeps it from that: the letter is then retried, as one that cannot be written.
    """

    def __init__(self, sink: DeadLetterSink, settings: Settings) -> None:
        self._sink, self._settings = sink, settings
        self.largest: int = sink.largest

    async def check(self) -> None:
        """As the place's own."""
        await self._sink.check()
        self.largest = self._sink.largest

    async def write(self, letters: Sequence[DeadLetter], /) -> None:
        """As the place's own, with the headers."""
        await self._sink.write([await self._whole(each) if is_unread(each.headers) else each for each in letters])

    async def close(self) -> None:
        """As the place's own."""
        await self._sink.close()

    async def _whole(self, letter: DeadLetter) -> DeadLetter:
        record = await self._again(letter)
        if record is None:
            gone = "; its headers are lost: no client could read them before retention deleted the record"
            return msgspec.structs.replace(letter, headers=(), detail=letter.detail + gone)
        headers, keys = readable(record.headers)
        whole = msgspec.structs.replace(letter, headers=headers, header_keys=keys)
        return whole if len(msgspec.json.encode(whole)) < self.largest else msgspec.structs.replace(letter, headers=())

    async def _again(self, letter: DeadLetter) -> Record | None:
        """The record of a letter, by the guarded reader; None when the topic no longer holds it."""
        from lmstream.kafka.range_reader import read_range  # noqa: PLC0415 - an extra, needed here only

        span = {letter.partition: (letter.offset, letter.offset + 1)}
        try:
            async for record in read_range(self._settings, letter.topic, span):
                if (record.offset, record.value) == (letter.offset, letter.value) or letter.value is None:
                    return record
        except SourceError as error:
            if error.reason != "source.offset":
                raise
        return None


def is_unread(headers: Headers) -> bool:
    """Whether these stand for headers that the client could not give."""
    return bool(headers) and headers[0][0] == UNREAD
