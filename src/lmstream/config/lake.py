"""The outlet of a sink that is a place for objects which are made once: rows land there by claims."""

import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

from lmstream.abilities import Stored
from lmstream.codecs.inflating import zstandard
from lmstream.config.config import Config
from lmstream.delivery.outlet import MakeOutlet, Parts
from lmstream.engine.row_digest import of_run
from lmstream.lake import Claims, LakeOutlet, Layout, WindowPolicy
from lmstream.lake.division import Division
from lmstream.lake.formats import Format, Lines
from lmstream.lake.layout import EXTENSIONS
from lmstream.lake.requests import Requests
from lmstream.storage.compression import compressor
from lmstream.storage.parquet_format import ParquetFormat
from lmstream.storage.parquet_schema import pyarrow


def formats_of(level: int = 1) -> Mapping[str, Format]:
    """How objects of each format are made: also of those that this process does not land, but may make again. `level`
    is gzip's."""
    return {
        "gzip": Lines(EXTENSIONS["gzip"], compressor("gzip", level)),
        "zstd": Lines(EXTENSIONS["zstd"], compressor("zstd")),
        "parquet": ParquetFormat(EXTENSIONS["parquet"]),
    }


def now_ms() -> int:
    """Unix milliseconds, for people."""
    return time.time_ns() // 1_000_000


def division_of(settings: Any) -> Division:
    """How topics are divided into lanes."""
    return Division(lanes=settings.lanes, incarnation=settings.incarnation, number=settings.division)


def writer_of() -> str:
    """What tells this process from all others, and people where it ran."""
    return f"{socket.gethostname()} {secrets.token_hex(8)}"


def lake_outlet(config: Config, sink: Stored) -> MakeOutlet:
    """How a pipeline gets the outlet of this sink. Nothing connects yet."""
    settings = sink.settings
    if settings.format == "parquet":
        pyarrow()
    of_run(b"")  # with what the extra [lake] brings, before anything is read
    if settings.format == "zstd":
        zstandard()
    layout = Layout.of(config.engine, settings.format)
    policy = WindowPolicy(
        seconds=settings.window_seconds,
        longest=settings.window_max_seconds,
        rows=settings.window_rows,
        bytes=settings.window_bytes,
        object_bytes=settings.object_bytes,
        dollars=settings.monthly_dollars,
    )
    formats, division = formats_of(getattr(settings, "level", 1)), division_of(settings)
    source = config.source
    reads = None if source is None or source.traits.reads is None else source.traits.reads(source.settings)

    def make(parts: Parts) -> LakeOutlet:
        requests = Requests(sink.store, parts.attempts, parts.flight.counts)
        claims = Claims(requests, settings.claims, config.engine.source_id, settings.rows)
        writer = writer_of()
        return LakeOutlet(
            parts,
            requests,
            claims,
            formats,
            layout,
            policy,
            writer=writer,
            wall=now_ms,
            division=division,
            read=reads,
        )

    return make
