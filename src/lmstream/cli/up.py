"""`lmstream up`: a Kafka broker, a Firehose and an S3 of this machine that stay, for every other verb to work with."""

import asyncio
import contextlib
import os
import shlex
import signal
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter, validators

from lmstream.cli import terminal
from lmstream.cli.flags import Json
from lmstream.cli.itself import command
from lmstream.cli.up_folder import STREAM, USUAL, Folder, SinkKind, State, settings
from lmstream.cli.without_broker import bundles_in
from lmstream.config import load
from lmstream.errors import LmstreamError
from lmstream.settings import Settings

_BUNDLES: Final = 300  # in files, where no broker runs
_SPEED: Final = 30.0
"""Rows are visible after 2 s instead of the 60 that Firehose waits at least."""


def up(
    *,
    folder: Annotated[Path, Parameter(name="--dir")] = Path(USUAL),
    sink: SinkKind | None = None,
    topic: str | None = None,
    partitions: Annotated[int | None, Parameter(validator=validators.Number(gte=1, lte=1000))] = None,
    chaos: bool = False,
    seed: int = 1,
    as_json: Json = False,
) -> int:
    """Start a Kafka broker behind mTLS, a strict Firehose and an S3 on 127.0.0.1, and keep them until Ctrl-C.

    Writes a configuration for them, with which every other verb works as in production: run, publish, lag, inspect,
    verify, query, dlq, topic, validate --connect. Topics with their records, commits of groups, landed objects,
    certificates and ports are in the folder: the next `up` continues with them. Rows that Firehose has accepted and
    not yet written (2 s) are in memory: Ctrl-C writes them, kill -9 loses them.

    Parameters
    ----------
    folder
        Folder of all that is kept, and of the configuration. Removing it while nothing runs forgets everything.
    sink
        Where the configuration lets rows go: firehose, s3 (a lake, without Firehose), or local (a folder).
        Default: firehose, or what the folder was made with.
    topic
        Topic that is created. Default: lm.metrics.otlp.
    partitions
        Its partitions. Default: 4.
    chaos
        Let Firehose and S3 throttle, refuse and hang up now and then, and break the network and the broker.
    seed
        Seed of the chaos: the same calls meet the same faults.
    as_json
        Print where everything is as one line of JSON when it is ready, instead of commands.
    """
    with Folder(folder) as kept:
        state = kept.state(sink, topic, partitions)
        return asyncio.run(_stay(kept, state, seed if chaos else None, as_json=as_json))


async def _stay(folder: Folder, state: State, seed: int | None, *, as_json: bool) -> int:
    from lmstream.lab import StreamConfig
    from lmstream.lab.ports import LANDED, Ports
    from lmstream.lab.site import Site

    stopped = _told_to_stop()
    began = time.monotonic()
    terminal.say(f"starting a Kafka broker, an mTLS proxy, a strict local Firehose and S3 in {folder.path}")
    stream = StreamConfig.for_settings(STREAM, _engine(folder), speed_up=_SPEED, bucket=LANDED)
    make = partial(Site, folder.path, stream, ports=state.ports, seed=seed, say=terminal.say)
    async with contextlib.AsyncExitStack() as parts:
        try:
            site = await parts.enter_async_context(make())
        except LmstreamError as e:
            if state.ports.kafka:  # its records are in the folder: to do without them would be another topic
                raise
            bundles_in(folder.path, _BUNDLES, 1, e)
            site = await parts.enter_async_context(make(broker=False))
        moved = state.ports not in (Ports(), site.ports)
        if site.ports.kafka:
            await site.kafka.create_topic(state.topic, state.partitions, there_or_not=True)
        now = msgspec.structs.replace(state, ports=site.ports)
        ours = folder.write(now, settings(folder, now, site.ports))
        if moved:
            what = "has the new one" if ours else f"is changed by you and stays: put these ports into it, {site.ports}"
            terminal.say(f"a port of the last time is taken by somebody else; {folder.config} {what}")
        _show(folder, now, time.monotonic() - began, as_json=as_json)
        await stopped.wait()
        terminal.say("stopping: Firehose writes what it holds; again to exit at once")
    terminal.say(f"stopped; `lmstream up` continues with what is in {folder.path}")
    return 0


def _engine(folder: Folder) -> Settings:
    """The engine's settings of the user's file: the stream is partitioned by its path."""
    if folder.config.exists():
        return load(folder.config, env={}).engine
    return load(env={}, overrides={"engine.org_id": "acme"}).engine


def _told_to_stop() -> asyncio.Event:
    """Set by the first SIGINT or SIGTERM; the second ends the process at once."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stopped.is_set():
            os._exit(130)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    return stopped


def _show(folder: Folder, state: State, seconds: float, *, as_json: bool) -> None:
    ports = state.ports
    if as_json:
        with terminal.read_or_not():
            terminal.print_json(
                {
                    "pid": os.getpid(),
                    "config": str(folder.config.resolve()),
                    "env": str(folder.env.resolve()),
                    "topic": state.topic,
                    "bootstrap": f"127.0.0.1:{ports.kafka}",
                    "firehose": f"http://127.0.0.1:{ports.firehose}",
                    "s3": f"http://127.0.0.1:{ports.s3}",
                    "landed": str(folder.landed.resolve()),
                    "dead_letters": str(folder.dead_letters.resolve()),
                },
                indent=None,
            )
        return
    me, landed = command(), shlex.quote(str(folder.landed))
    settle = " --settle 5" if state.sink == "firehose" else ""  # what it buffers is on the way, not lost
    others = f"Firehose at 127.0.0.1:{ports.firehose}, S3 at 127.0.0.1:{ports.s3}"
    topic = f"topic {state.topic} at 127.0.0.1:{ports.kafka} (mTLS), " if ports.kafka else ""
    lines = [
        f"up after {seconds:.1f} s, pid {os.getpid()}: {topic}{others}",
        f"{folder.config} is ready: sink {state.sink}, rows land in {landed}. In a second terminal:",
        f"  . {shlex.quote(str(folder.env))}",
        *([f"  {me} publish --count 300"] if ports.kafka else []),
        f"  {me} run",
        f"  {me} query",
        *([f"  {me} verify{settle}"] if ports.kafka else []),
        f"Ctrl-C stops it; the next `{me} up` continues with what is in {folder.path}.",
    ]
    with contextlib.suppress(OSError), terminal.read_or_not():
        print("\n".join(lines))
