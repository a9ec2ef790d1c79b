"""The outlet of a sink that is a place for objects which are made once: rows land there by claims."""

import secrets
import socket
import time
from functools import partial

from lmstream.abilities import Stored
from lmstream.config.config import Config
from lmstream.delivery.outlet import MakeOutlet, Parts
from lmstream.lake import Claims, LakeOutlet, Layout, WindowPolicy
from lmstream.lake.formats import Lines
from lmstream.lake.requests import Requests
from lmstream.model import TopicPartition
from lmstream.storage.compression import gzip


def _now() -> int:
    return time.time_ns() // 1_000_000


def lake_outlet(config: Config, sink: Stored) -> MakeOutlet:
    """How a pipeline gets the outlet of this sink. Nothing connects yet."""
    settings = sink.settings
    layout = Layout.of(config.engine, settings.format)
    policy = WindowPolicy(
        seconds=settings.window_seconds,
        longest=settings.window_max_seconds,
        rows=settings.window_rows,
        bytes=settings.window_bytes,
        object_bytes=settings.object_bytes,
    )
    formats = {"gzip": Lines("ndjson.gz", "application/gzip", partial(gzip, level=1))}

    def lane_of(tp: TopicPartition) -> str:
        return f"{settings.incarnation}.{tp.partition}" if settings.incarnation else str(tp.partition)

    def make(parts: Parts) -> LakeOutlet:
        requests = Requests(sink.store, parts.attempts, parts.flight.counts)
        claims = Claims(requests, settings.claims, config.engine.source_id, settings.rows)
        writer = f"{socket.gethostname()} {secrets.token_hex(8)}"
        return LakeOutlet(parts, requests, claims, formats, layout, policy, writer=writer, wall=_now, lane_of=lane_of)

    return make
