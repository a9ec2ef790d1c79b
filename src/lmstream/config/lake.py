"""The outlet of a sink that is a place for objects which are made once: rows land there by claims."""

import secrets
import socket
import time
from collections.abc import Mapping

from lmstream.abilities import Stored
from lmstream.config.config import Config
from lmstream.delivery.outlet import MakeOutlet, Parts
from lmstream.lake import Claims, LakeOutlet, Layout, WindowPolicy
from lmstream.lake.formats import Format, Lines
from lmstream.lake.layout import EXTENSIONS
from lmstream.lake.requests import Requests
from lmstream.model import TopicPartition
from lmstream.storage.compression import compressor
from lmstream.storage.parquet_format import ParquetFormat
from lmstream.storage.parquet_schema import pyarrow


def formats_of() -> Mapping[str, Format]:
    """How objects of each format are made: also of those that this process does not land, but may make again."""
    return {
        "gzip": Lines(EXTENSIONS["gzip"], compressor("gzip")),
        "zstd": Lines(EXTENSIONS["zstd"], compressor("zstd")),
        "parquet": ParquetFormat(EXTENSIONS["parquet"]),
    }


def _now() -> int:
    return time.time_ns() // 1_000_000


def lake_outlet(config: Config, sink: Stored) -> MakeOutlet:
    """How a pipeline gets the outlet of this sink. Nothing connects yet."""
    settings = sink.settings
    if settings.format == "parquet":
        pyarrow()
    layout = Layout.of(config.engine, settings.format)
    policy = WindowPolicy(
        seconds=settings.window_seconds,
        longest=settings.window_max_seconds,
        rows=settings.window_rows,
        bytes=settings.window_bytes,
        object_bytes=settings.object_bytes,
    )
    formats = formats_of()

    def lane_of(tp: TopicPartition) -> str:
        return f"{settings.incarnation}.{tp.partition}" if settings.incarnation else str(tp.partition)

    def make(parts: Parts) -> LakeOutlet:
        requests = Requests(sink.store, parts.attempts, parts.flight.counts)
        claims = Claims(requests, settings.claims, config.engine.source_id, settings.rows)
        writer = f"{socket.gethostname()} {secrets.token_hex(8)}"
        return LakeOutlet(parts, requests, claims, formats, layout, policy, writer=writer, wall=_now, lane_of=lane_of)

    return make
