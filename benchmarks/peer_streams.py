"""Peers of `make bench-peers` that cannot read a file: from a topic of the embedded broker.

The work of their clients is in their figures, so there is one of ours that reads the topic, too.
"""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

from benchmarks import baselines
from benchmarks.peer_files import SENT_MS, TOPIC, Source
from lmstream import Record

PATIENCE = 120.0


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _group() -> str:
    """A group of this run's own: another has nothing committed."""
    return f"peers-{os.getpid()}"


def _lines(offset: int, value: bytes) -> bytes:
    return baselines.orjson_lines(Record(topic=TOPIC, partition=0, offset=offset, timestamp=SENT_MS, value=value))


def lmstream(source: Source, rows: Path) -> None:
    """A container host: a supervised consumer, the ledger, commits; rows to standard output."""
    from lmstream.config import build_runtime, load

    settings = {
        "engine.org_id": baselines.ORG,
        "source.type": "kafka",
        "source.bootstrap": source.bootstrap,
        "source.security": "plaintext",
        "source.topics": (TOPIC,),
        "source.group": _group(),
        "source.start_from": "earliest",
        "sink.type": "stdout",
        "run.discard": True,  # whoever reads standard output takes the rows
        "dead_letters.root": f"{rows}.letters",
    }
    done = 0

    def settled(*_: object) -> None:
        nonlocal done
        done += 1
        if done == source.bundles:
            runtime.stop()

    kept = os.dup(1)
    with rows.open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            runtime = build_runtime(load(env={}, overrides=settings), on_settled=settled)
            asyncio.run(runtime.run())
        finally:
            os.dup2(kept, 1)


def quixstreams(source: Source, rows: Path) -> None:
    """A streaming dataframe that is expanded to lines."""
    from quixstreams import Application, message_context

    app = Application(
        broker_address=source.bootstrap, consumer_group=_group(), auto_offset_reset="earliest", loglevel="WARNING"
    )
    with rows.open("wb") as file:
        frame = app.dataframe(app.topic(TOPIC, key_deserializer="bytes", value_deserializer="bytes"))
        frame = frame.apply(
            lambda value: _lines(message_context().offset, value).splitlines(keepends=True), expand=True
        )
        frame.update(file.write)
        app.run(count=source.rows, timeout=PATIENCE)


def faust(source: Source, rows: Path) -> None:
    """An agent of one worker, its stores in memory."""
    asyncio.run(_faust(source, rows))


async def _faust(source: Source, rows: Path) -> None:
    import faust as library

    app = library.App(
        _group(),
        broker=f"kafka://{source.bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_partitions=1,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        datadir=f"{rows}.faust",
        loop=asyncio.get_running_loop(),
    )
    whole = asyncio.Event()
    with rows.open("wb") as file:

        @app.agent(app.topic(TOPIC, value_type=bytes, value_serializer="raw"))
        async def flatten(stream: Any) -> None:
            seen = 0
            async for event in stream.events():
                file.write(_lines(event.message.offset, event.value))
                seen += 1
                if seen == source.bundles:
                    whole.set()

        app.finalize()
        await app.start()
        try:
            await asyncio.wait_for(whole.wait(), PATIENCE)
        finally:
            await app.stop()
