"""Peers of `make bench-peers` that are programs of their own: Rotel from its wheel, and those built from Go modules.

Their CPU is that of their process alone. Go peers are built into a folder beside the interpreter (`build`).
"""

import http.client
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peer_files import Source
from benchmarks.peer_streams import PATIENCE, free_port
from benchmarks.procs import usage

SOURCES = Path(__file__).parent / "peers_go"
BUILT = Path(sys.prefix, "go")
GO = {"connect": "github.com/redpanda-data/benthos/v4", "collector": "go.opentelemetry.io/collector/otelcol"}
"""By program, the module that gives it its version."""


def build() -> None:
    """Build the Go peers that are not built yet. What fails is said, and is then left out of the table."""
    if shutil.which("go") is None:
        print("no Go here: Redpanda Connect and the OpenTelemetry Collector are left out", file=sys.stderr)
        return
    for name in GO:
        made = BUILT / name
        if made.exists():
            continue
        folder = BUILT / f"{name}.source"
        shutil.copytree(SOURCES / name, folder, dirs_exist_ok=True)
        print(f"building {name} from Go modules", file=sys.stderr, flush=True)
        env = os.environ | {"GOFLAGS": "-mod=mod -buildvcs=false"}
        for command in (["go", "mod", "tidy"], ["go", "build", "-trimpath", "-o", str(made), "."]):
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} cannot be built: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                break


def version_of(module: str) -> str | None:
    """The version that is pinned of a Go module."""
    for path in SOURCES.glob("*/go.mod"):
        for line in path.read_text("utf-8").splitlines():
            name, _, version = line.removeprefix("require").strip().partition(" ")
            if name == module:
                return version.removeprefix("v")
    return None


def _built(name: str) -> str:
    path = BUILT / name
    if not path.exists():
        raise FileNotFoundError(f"{name} was not built")
    return str(path)


def connect(source: Source, rows: Path) -> float:
    """The engine of Redpanda Connect on one thread, file to file, by a mapping in its own language."""
    env = os.environ | {"IN": str(source.file), "OUT": str(rows), "GOMAXPROCS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [_built("connect"), "run", str(SOURCES / "connect" / "rows.yaml")]
    subprocess.run(command, env=env, capture_output=True, check=True, timeout=PATIENCE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def collector(source: Source, rows: Path) -> float:
    """The OpenTelemetry Collector on one thread, from OTLP over HTTP to a file of OTLP/JSON; the poster's CPU is not
    counted."""
    port = free_port()
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"file": {"path": f"{rows}.otlp"}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {"metrics": {"receivers": ["otlp"], "exporters": ["file"]}},
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "config.yaml")
        said.write_text(json.dumps(config), "utf-8")  # which is YAML too
        command = [_built("collector"), "--config", f"file:{said}"]
        used = _posted(source, port, command, lambda: True)
    Path(f"{rows}.otlp").unlink(missing_ok=True)
    rows.write_bytes(b"")
    return used


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


@contextmanager
def _clickhouse() -> Iterator[int]:
    sink = ThreadingHTTPServer(("127.0.0.1", 0), _ClickHouse)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    try:
        yield sink.server_port
    finally:
        sink.shutdown()


def rotel(source: Source, rows: Path) -> float:
    """The agent, from OTLP over HTTP to a ClickHouse that says yes; answers the agent's CPU, not the poster's."""
    package = find_spec("rotel")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("rotel")
    port, other = free_port(), free_port()
    with _clickhouse() as sink:
        command = [
            str(Path(package.origin).with_name("rotel-agent")),
            "start",
            *("--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{other}"),
            *("--exporter", "clickhouse", "--clickhouse-exporter-endpoint", f"http://127.0.0.1:{sink}"),
            *("--clickhouse-exporter-compression", "none", "--disable-batching"),
        ]
        used = _posted(source, port, command, lambda: _ClickHouse.rows >= source.rows)
    if _ClickHouse.rows != source.rows:
        raise RuntimeError(f"{_ClickHouse.rows} rows instead of {source.rows}")
    rows.write_bytes(b"")
    return used


def _posted(source: Source, port: int, command: list[str], done: Callable[[], bool]) -> float:
    """Start a program, post it the bundles, and answer the seconds of CPU that it took until all was done."""
    with tempfile.TemporaryFile() as said:
        agent = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"GOMAXPROCS": "1"})
        try:
            _post(source, port, agent)
            until = time.monotonic() + PATIENCE
            while not done() and time.monotonic() < until:
                time.sleep(0.05)
            used = usage(agent.pid)
        finally:
            agent.kill()
            agent.wait()
    if used is None:
        raise RuntimeError("the program has gone")
    return used.cpu_seconds


def _post(source: Source, port: int, agent: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for line in source.file.read_bytes().splitlines():
        while True:
            try:
                connection.request("POST", "/v1/metrics", line, {"Content-Type": "application/json"})
                answer = connection.getresponse()
            except ConnectionRefusedError:
                if time.monotonic() > until or agent.poll() is not None:
                    raise
                time.sleep(0.05)
                connection.close()
                continue
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"it answers {answer.status}")
            break
