"""MiniStack, a second S3 of another maker, on loopback: from the environment that `make rehearsal` makes, or LMSTREAM_TEST_MINISTACK."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3

_HERE = Path(__file__).parents[2] / ".venv-rehearsal" / "bin" / "ministack"
_PATIENCE = 60


def _program():
    return Path(os.environ.get("LMSTREAM_TEST_MINISTACK") or _HERE)


def missing():
    """Why it cannot run; empty when it can."""
    return (
        ""
        if _program().exists()
        else f"{_program()} is not installed: make .venv-rehearsal, or set LMSTREAM_TEST_MINISTACK"
    )


@contextlib.contextmanager
def ministack(folder, bucket):
    """Run it with one bucket; gives its URL, and ends it and what it started."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    # Its default is to listen on all interfaces, and its MQTT port does so in any case.
    env = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "IOT_MTLS_ENABLED": "0", "LAMBDA_EXECUTOR": "local"}
    with (folder / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            [_program()],
            env={**os.environ, **env},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{url}/_ministack/health", timeout=2).close()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, (folder / "ministack.log").read_text()[-2000:]
                assert time.monotonic() < end, "MiniStack does not answer"
                time.sleep(0.1)
            else:
                break
        client = boto3.client(
            "s3", "us-east-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
