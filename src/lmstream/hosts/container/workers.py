"""Several processes for one `run`, one core each: members of one consumer group, or each with a share of the files."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from lmstream.abilities import Shared
from lmstream.config import Config
from lmstream.errors import ConfigError
from lmstream.runtime import Progress

PARTIAL: Final = 4
"""Exit code of a run that went through and delivered nothing, or with run.strict not all."""
Work = Callable[..., int]
"""Is one worker, in a process of its own: a function of a module. Called with what `supervise` is given, the worker's
own settings, its number from 1, and its Link; answers its exit code."""
Look = Callable[[list[bytes]], None]
"""Takes what each worker told last; empty for one that told nothing yet."""
LOOK: Final = 0.25
"""Seconds between two looks."""
TOLD: Final = 64 * 1024
"""Bytes that a worker tells at most; more is not told."""


class Link:
    """What a worker tells the process that started it. It never waits for that one: a worker settles records."""

    def __init__(self, totals: Any, told: Any) -> None:
        self._totals = totals
        self._told = told

    def add(self, progress: Progress) -> None:
        """Add the records with a value that were read, and the rows that were delivered, to those of all."""
        with self._totals.get_lock():
            self._totals[0] += ours(progress)
            self._totals[1] += progress.rows

    def tell(self, data: bytes) -> None:
        """Where it stands, in the place of what it told before."""
        lock = self._told.get_lock()
        if len(data) <= TOLD and lock.acquire(block=False):
            try:
                self._told.get_obj()[: _HEAD + len(data)] = len(data).to_bytes(_HEAD, "big") + data
            finally:
                lock.release()

    def told(self) -> bytes:
        """What it told last. A worker that died while it told keeps the lock: then that is not to be had."""
        lock, raw = self._told.get_lock(), self._told.get_obj()
        if not lock.acquire(timeout=LOOK):
            return b""
        try:
            return bytes(raw[_HEAD : _HEAD + int.from_bytes(raw[:_HEAD], "big")])
        finally:
            lock.release()


_HEAD: Final = 4  # bytes of the length before what is told


def check(config: Config) -> None:
    """Refuse what several processes cannot share."""
    if config.need("sink").traits.prints:
        raise ConfigError("config.invalid", "run.workers: rows of several processes would mix on standard output")


def shares(config: Config, count: int) -> list[dict[str, Any]]:
    """What each worker is told beside the settings: its share of a source that can be shared. Raises ConfigError."""
    source = config.need("source").settings
    if not isinstance(source, Shared):
        return [{}] * count
    return [{f"source.{name}": value for name, value in own.items()} for own in source.shares(count)]


def supervise(
    work: Work,
    arguments: tuple[Any, ...],
    told: Sequence[dict[str, Any]],
    say: Callable[[str], None],
    look: Look | None = None,
    starting: AbstractContextManager[None] | None = None,
) -> int:
    """Start a worker for each of `told` and wait for them; one that fails stops the others, and its exit code is the
    answer. Else it is the worst one, and 4 when nothing was delivered of what all of them shared.

    `look` sees every LOOK seconds, and at the end, what the workers told; they are started within `starting`. SIGTERM
    and Ctrl-C are passed on; twice is passed on twice, which ends them at once.
    """
    context = multiprocessing.get_context("spawn")
    totals = context.Array("Q", 2)
    links = [Link(totals, context.Array("c", _HEAD + TOLD)) for _ in told]
    workers = [
        context.Process(target=_work, args=(work, arguments, own, number, link), name=f"worker {number}")
        for number, (own, link) in enumerate(zip(told, links, strict=True), 1)
    ]

    def see() -> None:
        if look is not None:
            look([link.told() for link in links])

    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        for worker in workers:
            if worker.is_alive():
                worker.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with starting or nullcontext():
            _start(workers, stopping)
        failed = _until_ended(list(workers), stop, stopping, say, see)
        see()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed:
        return _code(failed)
    # One that the signal itself ended had not begun to read, or had done all: else it listens for it.
    code = max(0 if worker.exitcode == -signal.SIGTERM else _code(worker) for worker in workers)
    if not code and any(told) and nothing_delivered(totals[0], totals[1], say):
        return PARTIAL
    return code


def _start(workers: Sequence[BaseProcess], stopping: threading.Event) -> None:
    for worker in workers:
        worker.start()
        if stopping.is_set():  # the signal came before this one could hear of it
            worker.terminate()


def _until_ended(
    workers: list[BaseProcess],
    stop: Callable[[], None],
    stopping: threading.Event,
    say: Callable[[str], None],
    see: Callable[[], None],
) -> BaseProcess | None:
    """Wait for all; answer the one for which the others were stopped."""
    failed = None
    while workers:
        ended = wait([worker.sentinel for worker in workers], LOOK)
        see()
        for worker in [w for w in workers if w.sentinel in ended]:
            worker.join()
            workers.remove(worker)
            # Workers that were told to stop are settling: a second signal would end them before they are done.
            if worker.exitcode not in {0, PARTIAL} and not stopping.is_set():
                say(f"{worker.name} ended with exit code {worker.exitcode}; stopping the others")
                failed = worker
                stop()
    return failed


def _code(worker: BaseProcess) -> int:
    code = worker.exitcode or 0
    return code if code >= 0 else 128 - code  # killed by a signal: as shells say it


def ours(progress: Progress) -> int:
    """Records with a value that this process was to deliver. What it gave back by the end, another one had claimed."""
    return progress.records - progress.tombstones - progress.given_back


def nothing_delivered(records: int, rows: int, say: Callable[[str], None]) -> bool:
    """Whether records with values were read and no row was delivered; says so."""
    if records and not rows:
        say(f"nothing was delivered: no row from {records:,} records")
        return True
    return False


def _work(work: Work, arguments: tuple[Any, ...], own: dict[str, Any], number: int, link: Link) -> None:
    """Be one worker."""
    # Ctrl-C on the terminal goes to the parent alone, which passes it on once.
    os.setpgrp()
    sys.exit(work(*arguments, own, number, link))
