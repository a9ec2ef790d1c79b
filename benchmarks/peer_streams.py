"""Peers of `make bench-peers` that cannot read a file: from a topic of the embedded broker, and over HTTP.

The work of their clients is in their figures, so there is one of ours that reads the topic, too.
"""

import asyncio
import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import baselines
from benchmarks.peer_files import SENT_MS, TOPIC, Source
from benchmarks.procs import usage
from lmstream import Record

PATIENCE = 120.0


def _free_port() -> int:
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


class _ClickHouse(BaseHTTPRequestHandler):
    """Takes what is inserted, and counts rows by an attribute that each of them has once."""

    protocol_version = "HTTP/1.1"
    rows = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            _ClickHouse.rows += body.count(b"\x06hostId")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def rotel(source: Source, rows: Path) -> float:
    """The agent, from OTLP over HTTP to a ClickHouse that says yes; answers the agent's CPU, not the poster's."""
    package = find_spec("rotel")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("rotel")
    sink = ThreadingHTTPServer(("127.0.0.1", 0), _ClickHouse)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    port, other = _free_port(), _free_port()
    command = [
        str(Path(package.origin).with_name("rotel-agent")),
        "start",
        *("--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{other}"),
        *("--exporter", "clickhouse", "--clickhouse-exporter-endpoint", f"http://127.0.0.1:{sink.server_port}"),
        *("--clickhouse-exporter-compression", "none", "--disable-batching"),
    ]
    with tempfile.TemporaryFile() as said:
        agent = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            _post(source, port)
            until = time.monotonic() + PATIENCE
            while _ClickHouse.rows < source.rows and time.monotonic() < until:
                time.sleep(0.05)
            used = usage(agent.pid)
        finally:
            agent.kill()
            agent.wait()
            sink.shutdown()
    if _ClickHouse.rows != source.rows or used is None:
        raise RuntimeError(f"{_ClickHouse.rows} rows instead of {source.rows}")
    rows.write_bytes(b"")
    return used.cpu_seconds


def _post(source: Source, port: int) -> None:
    until = time.monotonic() + PATIENCE
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for line in source.file.read_bytes().splitlines():
        while True:
            try:
                connection.request("POST", "/v1/metrics", line, {"Content-Type": "application/json"})
                answer = connection.getresponse()
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
                connection.close()
                continue
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"rotel answers {answer.status}")
            break
