"""The demo of a lake: two members of a group as processes, killed and stopped on the way, into a bucket here."""

import asyncio
import contextlib
import importlib.util
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lmstream.cli.kafka import settings_of
from lmstream.config import Config
from lmstream.errors import ConfigError, SinkError
from lmstream.storage.by_key import keyed
from lmstream.storage.objects import place
from lmstream.verification import Report, verify_lake

BUCKET: Final = "lake"
_SESSION: Final = 3.0
"""Seconds after which the group gives partitions of a silent member to the other."""
_KILLS: Final = 3
_STOPS: Final = 1


def need() -> None:
    """Raises ConfigError when something is not installed that a lake needs."""
    for name in ("obstore", "xxhash"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError.missing("a lake", "lake", package=name)


def form() -> str:
    """What objects are: Parquet where it can be written here."""
    return "parquet" if importlib.util.find_spec("pyarrow") is not None else "gzip"


def settings(folder: Path, kafka: Any, endpoint_url: str) -> dict[str, dict[str, Any]]:
    """The configuration of the members, by table."""
    certificates = kafka.certificates
    return {
        "source": {
            "type": "kafka",
            "bootstrap": kafka.bootstrap,
            "topics": ["lm.metrics.otlp"],
            "group": "lmstream-demo",
            "security": "ssl",
            "ca": str(certificates.ca),
            "cert": str(certificates.client_cert),
            "key": str(certificates.client_key),
            # The lab's broker answers a first JoinGroup after half a session: production values would cost 20 s here.
            "session_timeout_ms": int(_SESSION * 1000),
            "heartbeat_interval_ms": 300,
        },
        "engine": {"org_id": "acme"},
        "sink": {
            "type": "s3",
            "bucket": BUCKET,
            "region": "us-east-1",
            "endpoint_url": endpoint_url,
            "format": form(),
            "window_seconds": 1.0,
        },
        "dead_letters": {"root": str(folder / "dead-letters")},
        "runtime": {"commit_interval": 0.2},
        "endpoints": {"address": "off"},
    }


def written(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """As TOML."""
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


class Members:
    """Processes of one group."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config, self._log = config, log
        self._running: list[asyncio.subprocess.Process] = []
        self.killed = self.stopped = 0

    async def join(self) -> None:
        """Start one more."""
        command = [sys.executable, "-m", "lmstream", "run", "--config", str(self._config)]
        with self._log.open("ab") as out:
            self._running.append(
                await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out)
            )

    async def kill(self, draw: random.Random) -> None:
        """Kill one, without a word to it, and start another in its place."""
        gone = self._running.pop(draw.randrange(len(self._running)))
        gone.kill()
        await gone.wait()
        self.killed += 1
        await self.join()

    async def stop(self, draw: random.Random) -> None:
        """Stop one until the group has given its partitions away, and let it continue as if nothing had been."""
        one = draw.choice(self._running)
        one.send_signal(signal.SIGSTOP)
        await asyncio.sleep(_SESSION + 1)
        one.send_signal(signal.SIGCONT)
        self.stopped += 1

    async def leave(self) -> None:
        """End all of them in order; those that do not are killed."""
        for each in self._running:
            if each.returncode is None:
                each.send_signal(signal.SIGCONT)
                each.terminate()
        for each in self._running:
            try:
                await asyncio.wait_for(each.wait(), 30)
            except TimeoutError:
                each.kill()
                await each.wait()

    def said(self) -> str:
        """The end of what they logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextlib.asynccontextmanager
async def members(config: Path, log: Path) -> AsyncIterator[Members]:
    """Two members; none is left running."""
    group = Members(config, log)
    try:
        for _ in range(2):
            await group.join()
        yield group
    finally:
        await group.leave()


async def work(
    folder: Path, config: Config, publish: Callable[[], Awaitable[int]], patience: float, seed: int, *, faults: bool
) -> str:
    """Publish while members land, are killed and stopped; wait until all is committed. Answers what happened."""
    draw = random.Random(seed)  # noqa: S311 - which member is killed is no secret
    async with members(folder / "lmstream.toml", folder / "members.log") as group:
        publishing = asyncio.ensure_future(publish())
        try:
            if faults:
                for _ in range(_KILLS):
                    await asyncio.sleep(1.5 + draw.random())
                    await group.kill(draw)
                for _ in range(_STOPS):
                    await group.stop(draw)
            published = await publishing
        finally:
            publishing.cancel()
        await _settled(config, patience, group)
    return (
        f"{published:,} bundles landed by two members; {group.killed} were killed (SIGKILL) on the way, "
        f"{group.stopped} stopped until its partitions had another owner, and continued"
    )


async def _settled(config: Config, patience: float, group: Members) -> None:
    from lmstream.kafka.lag import lag

    source = settings_of(config)
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while loop.time() < until:
        found = await lag(source, retention=3600.0)
        if not any(each.waits or each.end is None for each in found):
            return
        await asyncio.sleep(0.5)
    raise SinkError("verify.failed", f"not all of the topic was committed in {patience:g} s: {group.said()}")


def proof(bucket: Path) -> Report:
    """What the bucket alone proves."""
    rows = keyed(place(bucket))
    return verify_lake(rows, keyed(place(bucket / "_lmstream")))


def environment() -> None:
    """Let processes that are started find this installation."""
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
