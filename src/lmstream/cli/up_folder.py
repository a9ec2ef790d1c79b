"""The folder of `lmstream up`: who runs in it, what it was made with, and the files for other verbs."""

import fcntl
import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from lmstream.errors import ConfigError
from lmstream.lab.ports import LANDED, Ports

USUAL: Final = "lmstream-up"
"""The folder, unless another one is named."""
CONFIG: Final = "lmstream.toml"
_STATE, _LOCK, _ENV = "up.json", "up.lock", "env"
SinkKind = Literal["firehose", "s3", "local"]
STREAM: Final = "lmstream-up"
REGION: Final = "us-east-1"
_SESSION: Final = 3_000  # milliseconds

_HEAD: Final = """\
# Written by `lmstream up`: a Kafka broker, a Firehose and an S3 of this machine, and certificates that they accept.
# Change what you like: the next start keeps it, unless a port has changed, which it then says.
"""
_BUNDLES: Final[dict[str, Any]] = {"type": "files"}  # where no broker runs
_WHY: Final = {
    "session_timeout_ms": "the lab's broker answers a first member after half a session; in production leave this out",
    "window_seconds": "rows are visible after seconds, in objects that are far too small for production",
    "age": "rows are visible after seconds, in files that are far too small for production",
}


class State(msgspec.Struct, frozen=True):
    """What a folder was made with; kept in it."""

    sink: SinkKind
    topic: str
    partitions: int
    ports: Ports = Ports()
    written: str = ""
    """Digest of the configuration as it was written last: a file of other bytes is the user's."""


class Folder:
    """`with Folder(path) as folder`: it is this process's alone until the end of the block."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.config: Path = path / CONFIG
        self.env: Path = path / _ENV
        self.landed: Path = path / LANDED
        self.dead_letters: Path = path / "dead-letters"
        self._lock = -1

    def __enter__(self) -> Self:
        """Raises ConfigError for a folder that is somebody else's, or in which an `up` runs."""
        path = self.path
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ConfigError("config.invalid", f"--dir {path} is not a plain folder")
        if path.is_dir() and any(path.iterdir()) and not (path / _STATE).is_file() and not (path / _LOCK).is_file():
            what = f"--dir {path} is not empty and not from an earlier `lmstream up`"
            raise ConfigError("config.invalid", what, "name another folder with --dir")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise ConfigError("config.invalid", f"--dir {path}: {e.strerror}") from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            pid = os.pread(self._lock, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            what = f"an `lmstream up` runs in {path} already: pid {pid}"
            raise ConfigError("config.invalid", what, f"stop it (kill {pid}), or name another folder with --dir") from e
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def state(self, sink: SinkKind | None, topic: str | None, partitions: int | None) -> State:
        """What the folder was made with, or what it shall be made with. Raises ConfigError when both say something and
        not the same: rows of two kinds in one place cannot be verified."""
        try:
            made = msgspec.json.decode((self.path / _STATE).read_bytes(), type=State)
        except FileNotFoundError:
            return State(sink or "firehose", topic or "lm.metrics.otlp", partitions or 4)
        except (OSError, msgspec.MsgspecError) as e:
            raise ConfigError("config.invalid", f"{self.path / _STATE}: {e}", "name another folder with --dir") from e
        asked = {"--sink": sink, "--topic": topic, "--partitions": partitions}
        had = {"--sink": made.sink, "--topic": made.topic, "--partitions": made.partitions}
        for flag, value in asked.items():
            if value is not None and value != had[flag]:
                what = f"{flag} {value}: {self.path} was made with {flag} {had[flag]}"
                raise ConfigError("config.invalid", what, f"leave {flag} out, or name another folder with --dir")
        return made

    def write(self, state: State, tables: Mapping[str, Mapping[str, Any]]) -> bool:
        """Write the configuration and what goes with it, and keep the state. A configuration that the user has changed
        is left alone: answers whether it is ours."""
        self.landed.mkdir(exist_ok=True)  # so that who asks too early is told of no rows, not of no folder
        text = toml(tables)
        there = self.config.read_bytes() if self.config.is_file() else b""
        ours = not there or _digest(there) == state.written
        if ours:
            self.config.write_text(text, encoding="utf-8")
        self.env.write_text(environment(self.config.resolve(), state.ports.s3), encoding="utf-8")
        kept = msgspec.structs.replace(state, written=_digest(text.encode()) if ours else state.written)
        waiting = self.path / f".{_STATE}"
        waiting.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
        waiting.replace(self.path / _STATE)
        return ours


def running_here() -> Path | None:
    """The configuration of the `up` that runs in this folder, or in `lmstream-up` below it; None without one."""
    for path in (Path(), Path(USUAL)):
        try:
            lock = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return path / CONFIG
        finally:
            os.close(lock)
    return None


def settings(folder: Folder, state: State, ports: Ports) -> dict[str, dict[str, Any]]:
    """The configuration of a run against the lab, by table. Paths are absolute: it is used from wherever."""
    root = folder.path.resolve()
    sinks: dict[SinkKind, dict[str, Any]] = {
        "firehose": {"stream": STREAM, "region": REGION, "endpoint_url": f"http://127.0.0.1:{ports.firehose}"},
        "s3": {
            "bucket": LANDED,
            "region": REGION,
            "endpoint_url": f"http://127.0.0.1:{ports.s3}",
            "window_seconds": 2.0,
        },
        "local": {"root": str(root / LANDED)},
    }
    return {
        "engine": {"org_id": "acme"},
        "source": _BUNDLES | {"paths": [str(root / "bundles")]}
        if not ports.kafka
        else {
            "type": "kafka",
            "bootstrap": f"127.0.0.1:{ports.kafka}",
            "topics": [state.topic],
            "group": "acme-rows",
            "security": "ssl",
            "ca": str(root / "certificates/ca.pem"),
            "cert": str(root / "certificates/client.pem"),
            "key": str(root / "certificates/client.key"),
            "session_timeout_ms": _SESSION,
            "heartbeat_interval_ms": _SESSION // 10,
        },
        "sink": {"type": state.sink, **sinks[state.sink]},
        **({"rolling": {"age": 2.0}} if state.sink == "local" else {}),
        "dead_letters": {"root": str(root / "dead-letters")},
    }


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """As TOML, with the reason for what one would not expect."""
    lines = [_HEAD]
    for table, values in tables.items():
        lines.append(f"[{table}]")
        for key, value in values.items():
            why = f"  # {_WHY[key]}" if key in _WHY else ""
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}{why}")
        lines.append("")
    return "\n".join(lines)


def environment(config: Path, s3: int) -> str:
    """What a shell reads so that verbs find the lab: the configuration, made-up AWS keys, and the port of its S3."""
    return f"""\
# For a shell of its own: . {shlex.quote(str(config.parent / _ENV))}
# Verbs in it talk to the lab of `lmstream up`. The AWS keys are made up, and yours are out of the way.
export LMSTREAM_CONFIG={shlex.quote(str(config))}
unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_CA_BUNDLE
export AWS_ACCESS_KEY_ID=lab AWS_SECRET_ACCESS_KEY=lab AWS_DEFAULT_REGION={REGION}
export AWS_ENDPOINT_URL_S3=http://127.0.0.1:{s3}
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
"""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
