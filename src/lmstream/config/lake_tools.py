"""What verbs of a lake need of a configuration: its bucket, its claims, and how its rows are made and read."""

import asyncio
import contextlib
import random
import time
import zlib
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from typing import Final, cast

from lmstream.abilities import Stored
from lmstream.codecs.inflating import zstandard
from lmstream.config.config import Config
from lmstream.config.lake import formats_of, now_ms, writer_of
from lmstream.delivery import DeliveryPolicy
from lmstream.delivery.counts import Counts
from lmstream.delivery.dead_letter import bound, letter
from lmstream.delivery.in_flight import InFlightRecord
from lmstream.delivery.retry import Attempts
from lmstream.errors import ConfigError
from lmstream.interfaces import DeadLetterSink, ReplacingStore
from lmstream.lake import Claims, Layout
from lmstream.lake.again import Maker, Read
from lmstream.lake.chains import Chains
from lmstream.lake.compacting import Compacting
from lmstream.lake.compactions import Compactions
from lmstream.lake.contents import Contents, LineContents
from lmstream.lake.layout import EXTENSIONS
from lmstream.lake.repair import Repair
from lmstream.lake.replaying import Replaying
from lmstream.lake.requests import Impatient
from lmstream.model import Record
from lmstream.settings import MIB
from lmstream.storage.compression import compressor
from lmstream.storage.parquet_contents import ParquetContents
from lmstream.storage.set_right import replaced

_POLICY: Final = DeliveryPolicy(concurrency=32, timeout=310.0, backoff_max=5.0)
"""A request may be a listing of all claims; that of the client itself ends earlier (storage.objects_s3)."""
_INFLATED: Final = 1024 * MIB


def _gunzip(data: bytes) -> bytes:
    """All members of a gzip. Raises ValueError for what is not one, or too large."""
    found, size = [], 0
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            part = member.decompress(data, max(1, _INFLATED - size))  # 0 would be without a bound
            if not member.eof:
                raise ValueError(f"a gzip that is cut, or has more than {_INFLATED:,} bytes of lines")
            found.append(part)
            size += len(part)
            data = member.unused_data
    except zlib.error as error:
        raise ValueError(f"not a gzip: {error}") from error
    return b"".join(found)


def _unzstd(data: bytes) -> bytes:
    """All frames of a zstd, each of which says its size as ours do. Raises ValueError."""
    library = zstandard()
    found, size = [], 0
    try:
        while data:
            size += (said := library.frame_content_size(data))
            if said < 0 or size > _INFLATED:
                raise ValueError(f"a frame of an unknown size, or more than {_INFLATED:,} bytes of lines")
            frame = library.ZstdDecompressor().decompressobj()
            found.append(frame.decompress(data))
            if not frame.eof:
                raise ValueError("a zstd that is cut")
            data = frame.unused_data
    except library.ZstdError as error:
        raise ValueError(f"not zstd: {error}") from error
    return b"".join(found)


def contents_of() -> Mapping[str, Contents]:
    """How objects are read again, by extension."""
    return {
        EXTENSIONS["gzip"]: LineContents(compressor("gzip"), _gunzip),
        EXTENSIONS["zstd"]: LineContents(compressor("zstd"), _unzstd),
        EXTENSIONS["parquet"]: ParquetContents(),
    }


def impatient(store: ReplacingStore) -> Impatient:
    """Requests of a verb that runs and ends: repeated some times, then what keeps an answer away is raised."""
    return Impatient(store, Attempts(_POLICY, time.monotonic, asyncio.sleep, random.random), Counts())


class LakeTools:
    """The lake of a configuration."""

    def __init__(self, config: Config, sink: Stored) -> None:
        settings = sink.settings
        self.config: Config = config
        self.sink: Stored = sink
        # Whether the store can replace is asked by who needs it.
        self.requests: Impatient = impatient(cast("ReplacingStore", sink.store))
        self.claims: Claims = Claims(self.requests, settings.claims, config.engine.source_id, settings.rows)
        self.chains: Chains = Chains(self.claims)
        self.compactions: Compactions = Compactions(self.claims)
        self.contents: Mapping[str, Contents] = contents_of()
        self._maker = Maker(formats_of())
        self._writer = writer_of()

    async def has(self, record: Record) -> bool:
        """Whether the topic of a letter's record has claims."""
        return bool(await self.claims.lanes(record.listed_at.tp.topic))

    def repair(self, read: Read, damaged: Collection[str] = ()) -> Repair:
        """What repairs its claims, from records that are read again; `damaged` are keys of objects with other rows than
        their claims say."""
        return Repair(
            self.claims,
            self._maker,
            self.contents,
            read,
            budget=self.config.run.budget_bytes,
            replace=partial(replaced, self.requests) if hasattr(self.sink.store, "replace") else None,
            damaged=damaged,
        )

    def compacting(self, size: int) -> Compacting:
        """What compacts its paths to objects of about so many bytes. Raises ConfigError for a store that cannot."""
        if not hasattr(self.sink.store, "replace"):
            raise ConfigError("config.invalid", f"{self.sink.store.name}: only a lake in a bucket can be compacted")
        return Compacting(
            self.requests,
            self.compactions,
            self.contents,
            rows=self.claims.rows,
            writer=self._writer,
            size=size,
            now=now_ms,
        )

    def replaying(self, letters: DeadLetterSink) -> Replaying:
        """What lands dead letters in it; what is refused once more goes to `letters`."""
        largest = min(letters.largest, bound(self.config.engine.limits))

        async def bury(each: InFlightRecord) -> None:
            await letters.write([letter(each, largest)])

        settings = self.sink.settings
        layout, again = Layout.of(self.config.engine, settings.format), settings.incarnation
        return Replaying(
            self.claims, self.chains, self._maker, layout, bury, incarnation=again, writer=self._writer, now=now_ms
        )


@contextlib.asynccontextmanager
async def lake_tools(config: Config) -> AsyncIterator[LakeTools]:
    """The lake that a configuration names, until the end of the block. Raises ConfigError for another sink."""
    part = config.need("sink")
    if not part.traits.claims:
        what = f"sink.type is {part.name!r}: its rows do not land by claims"
        raise ConfigError("config.invalid", what, "name the configuration of a lake (sink.type s3)")
    sink: Stored = part.make()
    try:
        yield LakeTools(config, sink)
    finally:
        await sink.close()
