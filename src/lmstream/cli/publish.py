"""`lmstream publish`: generated LMDP bundles to a topic, with a log of what the broker acknowledged."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal

import msgspec
from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, BrokerFlags
from lmstream.config import load
from lmstream.engine import bundle_id
from lmstream.errors import ConfigError
from lmstream.lab.generator import Bundle, Generator
from lmstream.model import TopicPartition
from lmstream.verification.checker import Expected

if TYPE_CHECKING:
    from lmstream.kafka.settings import Settings

IN_FLIGHT: Final = 1000
"""Bundles sent and not yet acknowledged, at most: some 25 MB."""
COUNT: Final = 1000
_APPEND_TIME: Final = 1  # Kafka's timestamp type when the broker sets the time
_PATIENCE: Final = 30.0  # seconds to wait for the last acknowledgements


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GeneratorFlags:
    """What is generated."""

    seed: int = 1
    """The same seed gives the same bundles, but for their time."""
    devices: int = 50
    """Devices that are polled."""
    datasources: int = 8
    """Datasources of each device; each poll of one is a bundle."""
    instances: int = 8
    """Instances of each datasource."""
    resources_per_bundle: int = 1
    """Devices in one bundle."""
    format: Literal["json", "protobuf"] = "json"
    """Encoding of the bundles."""
    compress: bool = False
    """Send bundles as gzip."""
    chaos: float = 0.0
    """Share of data points that are odd: NaN, no time, histograms, hostile names, bad values."""
    poison: float = 0.0
    """Share of records that are no bundles at all."""
    start_ms: int | None = None
    """Time of the first poll, in Unix milliseconds. Default: now."""

    def generator(self) -> Generator:
        """Answer the generator."""
        return Generator(
            seed=self.seed,
            devices=self.devices,
            datasources=self.datasources,
            instances=self.instances,
            resources_per_bundle=self.resources_per_bundle,
            format=self.format,
            compress=self.compress,
            chaos=self.chaos,
            poison=self.poison,
            start_ms=int(time.time() * 1000) if self.start_ms is None else self.start_ms,
        )


_DEFAULTS: Final = GeneratorFlags()


def publish(
    *,
    topic: str,
    count: int | None = None,
    duration: float | None = None,
    rate: float = 0.0,
    verifiable: Path | None = None,
    source_id: str = "",
    config: Annotated[Path | None, Parameter(env_var="LMSTREAM_CONFIG")] = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    what: GeneratorFlags = _DEFAULTS,
    broker: BrokerFlags = NO_BROKER,
) -> int:
    """Generate LMDP bundles and publish them. Exit 1 when the broker did not acknowledge all of them.

    Parameters
    ----------
    topic
        Topic to publish to; it must exist.
    count
        Bundles to publish. Default: 1000, or what fits into --duration.
    duration
        Seconds to publish for.
    rate
        Bundles a second; 0 is as fast as the broker takes them.
    verifiable
        Log for `lmstream verify --expected`: a line for each bundle that the broker acknowledged. Appended to.
    source_id
        As the engine's setting source_id: part of the row ids in the log.
    config
        TOML file whose [source] has brokers and certificates.
    as_json
        Print the result as JSON.
    """
    from lmstream.cli.kafka import client_overrides, settings_of

    if (count is not None and count < 0) or (duration is not None and duration <= 0) or rate < 0:
        raise ConfigError("config.invalid", "--count, --duration and --rate take no negative numbers")
    if count is None and duration is None:
        count = COUNT
    settings = settings_of(load(config, overrides=client_overrides(broker, topic)))
    bundles = islice(what.generator().bundles(), count)
    log = _open_log(verifiable)
    began = time.monotonic()
    try:
        with terminal.Progress("bundles acknowledged", count) as progress:
            sender = Publisher(settings, log, source_id, progress.advance)
            asyncio.run(sender.send(bundles, rate=rate, seconds=duration))
    finally:
        if log is not None:
            log.close()
    seconds = time.monotonic() - began
    done = {"bundles": sender.acknowledged, "rows": sender.rows, "bytes": sender.bytes}
    if as_json:
        terminal.print_json({"v": 1, **done, "seconds": round(seconds, 3), "failed": sender.failed})
    else:
        counts = ", ".join(f"{n:,} {name}" for name, n in done.items())
        print(f"published {counts} in {seconds:.1f} s")
    for error, times in sender.failed.items():
        terminal.say(f"{times:,} bundles were not acknowledged: {terminal.clean(error)}")
    return 1 if sender.failed else 0


def _open_log(path: Path | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        if path.exists() and path.stat().st_size:
            terminal.say(f"{path} exists: appending")
        return path.open("ab")
    except OSError as e:
        raise ConfigError("config.invalid", f"--verifiable {path}: {e.strerror}") from e


class Publisher:
    """Sends bundles to one topic with acks=all, and logs those that the broker acknowledged."""

    def __init__(
        self,
        settings: "Settings",
        log: BinaryIO | None = None,
        source_id: str = "",
        done: Callable[[], None] | None = None,
    ) -> None:
        """`settings` are those of a client of one topic; `done` is called for each acknowledged bundle."""
        self.acknowledged = self.rows = self.bytes = 0
        self.failed: dict[str, int] = {}
        """Bundles that were not acknowledged, by error. Each may be in the topic all the same."""
        self._settings, self._log, self._source_id, self._done = settings, log, source_id, done
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._waiting: set[asyncio.Task[None]] = set()

    async def send(self, bundles: Iterable[Bundle], *, rate: float = 0.0, seconds: float | None = None) -> None:
        """Send until the bundles or the `seconds` end; `rate` bundles a second, 0 is as fast as possible."""
        from lmstream.cli.kafka import producing

        loop = asyncio.get_running_loop()
        async with producing(self._settings) as producer:
            began = loop.time()
            try:
                for number, bundle in enumerate(bundles):
                    if rate:
                        await asyncio.sleep(began + number / rate - loop.time())
                    if seconds is not None and loop.time() - began >= seconds:
                        break
                    await self._room.acquire()
                    task = asyncio.create_task(self._one(producer, bundle))
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
            finally:
                # Also when interrupted: what the broker acknowledges belongs into the log.
                await self._settle()

    async def _one(self, producer: Any, bundle: Bundle) -> None:
        (topic,) = self._settings.topics
        timestamp = int(time.time() * 1000)
        try:
            placed = await producer.send_and_wait(topic, bundle.payload, timestamp_ms=timestamp)
        except Exception as e:  # noqa: BLE001 - whatever the client raises: this bundle was not acknowledged
            self._fail(f"{type(e).__name__}: {e}")
            return
        finally:
            self._room.release()
        self.acknowledged += 1
        self.rows += bundle.rows
        self.bytes += len(bundle.payload)
        if self._log is not None:
            # RecordMetadata.timestamp is the batch's: the record has ours, unless the broker sets the time.
            stamp = placed.timestamp if placed.timestamp_type == _APPEND_TIME else timestamp
            self._log.write(
                _entry(bundle, TopicPartition(topic, placed.partition), placed.offset, stamp, self._source_id)
            )
        if self._done is not None:
            self._done()

    async def _settle(self) -> None:
        if self._waiting:
            await asyncio.wait(set(self._waiting), timeout=_PATIENCE)
        for task in set(self._waiting):
            task.cancel()
            self._fail("no answer from the broker")
        if self._log is not None:
            self._log.flush()

    def _fail(self, why: str) -> None:
        self.failed[why] = self.failed.get(why, 0) + 1


def _entry(bundle: Bundle, tp: TopicPartition, offset: int, timestamp: int, source_id: str) -> bytes:
    entry = Expected(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        timestamp=timestamp,
        bundle_id=bundle_id(source_id, *tp, offset, timestamp),
        points=bundle.points,
        absent=bundle.absent,
        rejected=bundle.rejected,
        poison=bundle.poison,
    )
    return msgspec.json.encode(entry) + b"\n"
