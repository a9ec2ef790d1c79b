"""Everything a run needs, in one folder and on this machine: broker behind mTLS, Firehose, S3. Made to stay: what they
hold is there at the next start, on the same ports."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lmstream.delivery.tasks import end
from lmstream.errors import LmstreamError
from lmstream.lab import weather
from lmstream.lab.firehose import FirehoseLab
from lmstream.lab.firehose_config import StreamConfig
from lmstream.lab.kafka import KafkaLab
from lmstream.lab.part import HOST, Part
from lmstream.lab.ports import LANDED, Ports
from lmstream.lab.s3 import S3Lab
from lmstream.lab.s3_objects import S3Object

_RECORDS: Final = "broker"
_LOOK: Final = 0.5  # seconds between two looks whether the broker lives
_STOP: Final = 5.0
_QUIET: Final = range(20_000, 32_768)
"""Ports below those that Linux (32768 to 60999) and macOS (49152 on) give to outgoing connections."""
_TRIES: Final = 100


class Site(Part):
    """`async with Site(folder, stream) as site: ... site.kafka, site.firehose, site.s3`.

    The folder has the certificates, the records of the topics with the commits of the groups (`broker`), and the
    objects (`landed`): of S3, and of the Firehose that lands there. What Firehose holds back until its buffer is full
    or old enough lies in memory: `close` writes it, a kill loses it.
    """

    def __init__(
        self,
        folder: Path,
        stream: StreamConfig,
        *,
        ports: Ports | None = None,
        broker: bool = True,
        seed: int | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """A port that is taken is replaced by a free one. Without `broker` there are Firehose and S3 alone. With a
        `seed` there is weather. `say` gets a line of what happens to the network and the broker."""
        self._broker = broker
        self._folder, self._wanted, self._seed, self._say = folder, ports or Ports(), seed, say
        self._records = S3Lab(_RECORDS, folder=folder)
        self.s3: S3Lab = S3Lab(LANDED, folder=folder)
        self.firehose: FirehoseLab = FirehoseLab(stream, _Landing(self.s3))
        self.kafka: KafkaLab = KafkaLab()
        self._parts = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ports(self) -> Ports:
        """Where the parts listen now."""
        port = self.kafka.proxy.port if self.kafka.proxy is not None else 0
        return Ports(kafka=port, firehose=self.firehose.port, s3=self.s3.port)

    async def start(self) -> None:
        """Start all parts; on an error none is left running."""
        self.s3.port, self.firehose.port = _lasting(self._wanted.s3), _lasting(self._wanted.firehose)
        async with contextlib.AsyncExitStack() as parts:
            await parts.enter_async_context(self._records)
            await parts.enter_async_context(self.s3)
            await parts.enter_async_context(self.firehose)
            if self._broker:
                await self._start_broker(parts)
            self._parts = parts.pop_all()
        if self._seed is not None:
            self.firehose.faults = weather.of_firehose(self._seed)
            self.s3.faults = weather.of_s3(self._seed + 1)
        if self._seed is not None and self._broker:
            storms = weather.of_network(self.kafka, self._seed + 2, self._say)
            self._tasks.append(asyncio.create_task(storms))
        if self._broker:
            self._tasks.append(asyncio.create_task(self._keep()))

    async def _start_broker(self, parts: contextlib.AsyncExitStack) -> None:
        self.kafka = KafkaLab(
            self._folder / "certificates",
            mtls=True,
            keep=True,
            port=_lasting(self._wanted.kafka),
            storage=f"s3://{_RECORDS}/",
            env={
                **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "lab"),
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT": self._records.endpoint_url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_CONDITIONAL_PUT": "etag",
            },
        )
        await parts.enter_async_context(self.kafka)

    async def _keep(self) -> None:
        """Bring the broker back when it has died."""
        broker = self.kafka.broker
        while True:
            await asyncio.sleep(_LOOK)
            if not broker.pid:
                with contextlib.suppress(LmstreamError):  # it is retried
                    await broker.restart()
                    self._say("the broker had ended, and runs again with all its records")

    async def close(self) -> None:
        """Stop all parts, and write what waits. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            await end(task, _STOP)
        await self._parts.aclose()


class _Landing:
    """The bucket that Firehose writes to, in the same process."""

    def __init__(self, s3: S3Lab) -> None:
        self._s3 = s3

    async def put(self, key: str, body: bytes, *, gzip: bool) -> None:  # noqa: ARG002 - the name's ending says it here
        self._s3.put(LANDED, key, S3Object(body))

    async def close(self) -> None:
        """It is closed by who opened it."""


def _lasting(port: int) -> int:
    """The port, or a free one when somebody else has it: one that systems give to no client, for while the site is
    stopped its ports stay written in its configuration."""
    wanted = [port] if port else []
    return next(filter(_free, [*wanted, *random.sample(_QUIET, _TRIES)]), 0)


def _free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, port))
        except OSError:
            return False
    return True
