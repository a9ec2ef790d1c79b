"""S3 servers of other makers as processes on loopback: MiniStack, an emulator, and SeaweedFS, a store that people run.

Both come with the environment that `make rehearsal` and `make test-faults` make; LMSTREAM_TEST_MINISTACK and
LMSTREAM_TEST_SEAWEEDFS name other programs.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_PROGRAMS = {"ministack": "ministack", "seaweedfs": "weed"}
_PATIENCE = 60.0
"""Seconds. One to two are usual."""
_TRIES = 3
"""Starts: another process can take a free port between our look and the server's bind."""
KEYS = ("lab", "lab")


def missing(name: str) -> str:
    """Why it cannot run; empty when it can."""
    program = _program(name)
    if program.exists():
        return ""
    return f"{program} is not installed: make .venv-rehearsal/.installed, or set LMSTREAM_TEST_{name.upper()}"


@contextlib.contextmanager
def served(name: str, bucket: str) -> Iterator[str]:
    """Run one with an empty bucket; gives its URL, and ends it and what it started."""
    with tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True) as text:  # short: sockets lie there too
        folder = Path(text)
        for left in reversed(range(_TRIES)):
            process, url = _started(name, folder)
            try:
                if _is_ready(process, url, bucket):
                    yield url
                    return
                assert left, (folder / "log").read_text(errors="replace")[-2000:]
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for port in re.findall(r"grpc=(\d+)", " ".join(map(str, process.args))):
                    for left_behind in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # wherever temporary files go
                        left_behind.unlink(missing_ok=True)


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    """boto3's, for what lies in a bucket of one."""
    made = boto3.client(
        "s3",
        "us-east-1",
        endpoint_url=url,
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
        config=Config(max_pool_connections=16, retries={"total_max_attempts": 1}),
    )
    try:
        yield made
    finally:
        made.close()


def _program(name: str) -> Path:
    here = Path(__file__).parents[2] / ".venv-rehearsal" / "bin" / _PROGRAMS[name]
    return Path(os.environ.get(f"LMSTREAM_TEST_{name.upper()}") or here)


def _ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def _ministack(_: Path) -> tuple[list[str], Mapping[str, str], str]:
    (port,) = _ports(1)
    # Its default is to listen on all interfaces, and its MQTT port does so in any case.
    env = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "IOT_MTLS_ENABLED": "0", "LAMBDA_EXECUTOR": "local"}
    return [], env, f"http://127.0.0.1:{port}"


def _seaweedfs(folder: Path) -> tuple[list[str], Mapping[str, str], str]:
    parts = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3", "admin") for kind in ("", ".grpc")]
    ports = dict(zip(parts, _ports(len(parts)), strict=True))
    config = folder / "s3.json"
    credentials = [{"accessKey": KEYS[0], "secretKey": KEYS[1]}]
    config.write_text(json.dumps({"identities": [{"name": "l", "credentials": credentials, "actions": ["Admin"]}]}))
    flags = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "admin.ui": "false", "webdav": "false",
        "s3.config": config, "s3.port.iceberg": 0, "s3.port.lance": 0, "master.telemetry": "false",
        "filer.localSocket": folder / "filer.sock", "s3.localSocket": folder / "s3.sock", **ports,
    }  # fmt: skip
    arguments = ["mini", *(f"-{name}={value}" for name, value in flags.items())]
    return arguments, {}, f"http://127.0.0.1:{ports['s3.port']}"


_STARTS: dict[str, Callable[[Path], tuple[list[str], Mapping[str, str], str]]] = {
    "ministack": _ministack,
    "seaweedfs": _seaweedfs,
}


def _started(name: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    arguments, env, url = _STARTS[name](folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [_program(name), *arguments],
            env={**os.environ, **env},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, url


def _is_ready(process: subprocess.Popen[bytes], url: str, bucket: str) -> bool:
    """Wait until the bucket is there and takes an object; False when the process has ended."""
    until = time.monotonic() + _PATIENCE
    with client(url) as s3:
        steps: list[Callable[[], object]] = [
            lambda: s3.create_bucket(Bucket=bucket),
            lambda: s3.put_object(Bucket=bucket, Key="first", Body=b"x"),
            lambda: s3.delete_object(Bucket=bucket, Key="first"),
        ]
        while steps and process.poll() is None and time.monotonic() < until:
            try:
                steps[0]()
            except (ClientError, BotoCoreError) as error:
                if "BucketAlready" not in str(error):  # its own answer, which came too late
                    time.sleep(0.1)
                    continue
            del steps[0]
    return not steps
