"""`lmstream publish`: generated LMDP bundles to a topic, with a log of what the broker acknowledged."""

import asyncio
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal

from cyclopts import Parameter

from lmstream.cli import terminal
from lmstream.cli.flags import NO_BROKER, NO_ENGINE, BrokerFlags, EngineFlags, Json, Seconds
from lmstream.cli.up_folder import running_here
from lmstream.dead_letters.filters import moment
from lmstream.errors import ConfigError
from lmstream.kafka.settings import Settings
from lmstream.lab.generator import Generator

COUNT: Final = 1000


@Parameter(name="*")
@dataclass(kw_only=True)
class GeneratorFlags(Generator):
    """What is generated."""

    start: str | None = None
    """Time of the first poll: 2024-05-09T14:00Z, 2h for two hours ago, or Unix milliseconds. Default: now."""
    start_ms: Annotated[int | None, Parameter(parse=False)] = None
    format: Annotated[Literal["json", "protobuf"], Parameter(name="--bundle-format")] = "json"
    interval_ms: Annotated[int, Parameter(parse=False)] = 60_000

    def __post_init__(self) -> None:
        """Look at the flags. Raises ConfigError."""
        if self.start is not None:
            first = moment("--start", self.start) if not self.start.isdecimal() else None
            self.start_ms = int(self.start) if first is None else int(first.timestamp() * 1000)
        super().__post_init__()


_DEFAULTS: Final = GeneratorFlags()


def publish(
    *,
    topic: str | None = None,
    count: int | None = None,
    duration: Seconds | None = None,
    rate: float = 0.0,
    verifiable: Path | None = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
    what: GeneratorFlags = _DEFAULTS,
    broker: BrokerFlags = NO_BROKER,
    engine: EngineFlags = NO_ENGINE,
) -> int:
    """Generate LMDP bundles and publish them. Exit 1 if the broker did not acknowledge all of them.

    Without a configuration and --bootstrap they go to the lab of the `lmstream up` that runs in this folder.

    Parameters
    ----------
    topic
        Topic to publish to; it must exist. Default: the only one of the configuration.
    count
        Bundles to publish. Default: 1000, or what fits into --duration.
    duration
        Seconds to publish for.
    rate
        Bundles per second; 0 is as fast as the broker accepts them.
    verifiable
        Log for `lmstream verify --expected`: a line for each bundle that the broker acknowledged, with digests of the
        rows that a run with these settings of the engine makes of it. Appended to.
    yes
        Publish invented metrics to brokers that are not the lab's, unless the topic holds such ones and no others.
        Without it, a terminal is asked.
    as_json
        Print the result as JSON.
    """
    from lmstream.cli.kafka import client_overrides, settings_of
    from lmstream.lab.publisher import Publisher, why_not

    if (count is not None and count < 0) or (duration is not None and duration <= 0) or rate < 0:
        raise ConfigError("config.invalid", "--count, --duration and --rate must not be negative")
    if count is None and duration is None:
        count = COUNT
    engine = _of_the_lab(engine, broker)
    config = engine.load(client_overrides(broker, *([topic] if topic else [])))
    settings = _of_one_topic(settings_of(config))
    if not yes:
        _ask(asyncio.run(why_not(settings)))
    bundles = islice(what.bundles(), count)
    log = _open_log(verifiable)
    began = time.monotonic()
    try:
        with terminal.Progress("bundles acknowledged", count) as progress:
            sender = Publisher(settings, log, config.engine, progress.advance)
            asyncio.run(sender.send(bundles, rate=rate, seconds=duration))
    finally:
        if log is not None:
            with suppress(OSError):  # said below
                log.close()
    seconds = time.monotonic() - began
    done = {"bundles": sender.acknowledged, "rows": sender.rows, "bytes": sender.bytes}
    if as_json:
        terminal.print_json({**done, "seconds": round(seconds, 3), "failed": sender.failed}, indent=None)
    else:
        counts = ", ".join(f"{n:,} {name}" for name, n in done.items())
        print(f"published {counts} in {seconds:.1f} s")
    for error, times in sender.failed.items():
        terminal.insist(f"{times:,} bundles were not acknowledged: {terminal.clean(error)}")
    if sender.log_error:
        missing = "bundles that were acknowledged are missing in it, verify by --topic instead"
        terminal.insist(f"--verifiable {verifiable}: {sender.log_error}: {missing}")
    return 1 if sender.failed or sender.log_error else 0


def _of_the_lab(engine: EngineFlags, broker: BrokerFlags) -> EngineFlags:
    """The flags, with the configuration of the `lmstream up` that runs here where they name no brokers."""
    named = engine.config or broker.bootstrap or "LMSTREAM_SOURCE__BOOTSTRAP" in os.environ
    if named or any(each.startswith("source.bootstrap=") for each in engine.settings):
        return engine
    here = running_here()
    if here is not None:
        terminal.say(f"publishing to the lab of `lmstream up`, by {here}")
    return replace(engine, config=here)


def _of_one_topic(settings: Settings) -> Settings:
    """The settings, which have to name one topic and no pattern."""
    if len(settings.topics) != 1 or settings.topics[0].startswith("^"):
        what = f"the configuration names the topics {', '.join(settings.topics)}: publishing takes one"
        raise ConfigError("config.invalid", what, "name it with --topic")
    return settings


def _ask(why: str) -> None:
    """Raise ConfigError unless invented metrics may be published although `why`."""
    if not why:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        terminal.insist(f"{why}: publish invented metrics there? [y/N]")
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return
    raise ConfigError("config.invalid", why, "name another topic, or add --yes to publish invented metrics there")


def _open_log(path: Path | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        if path.exists() and path.stat().st_size:
            terminal.say(f"{path} exists: appending")
        return path.open("ab")
    except OSError as e:
        raise ConfigError("config.invalid", f"--verifiable {path}: {e.strerror}") from e
