"""Several processes for one `run`, one core each: members of one consumer group, or each with a share of the files."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lmstream.abilities import Shared
from lmstream.cli import terminal
from lmstream.cli.ending import PARTIAL, nothing_delivered
from lmstream.config import Config, load
from lmstream.errors import ConfigError
from lmstream.observability.unblocked import unblocked
from lmstream.runtime.progress import Progress as Summary


def check(config: Config) -> None:
    """Refuse what several processes cannot share."""
    if config.need("sink").traits.prints:
        raise ConfigError("config.invalid", "run.workers: lines of several processes would mix on standard output")


def shares(config: Config, count: int) -> list[dict[str, Any]]:
    """What each worker is told beside the settings: its share of a source that can be shared. Raises ConfigError."""
    source = config.need("source").settings
    if not isinstance(source, Shared):
        return [{}] * count
    return [{f"source.{name}": value for name, value in own.items()} for own in source.shares(count)]


def supervise(
    path: Path | None, overrides: dict[str, Any], told: Sequence[dict[str, Any]], *, as_json: bool = False
) -> int:
    """Start a worker for each of `told` and wait for them; one that fails stops the others, and its exit code is the
    answer. Else it is the worst one, and 4 when nothing was delivered of the files that all of them read.

    SIGTERM and Ctrl-C are passed on; twice is passed on twice, which ends them at once.
    """
    context = multiprocessing.get_context("spawn")
    totals = context.Array("Q", 2)
    workers = [
        context.Process(target=_work, args=(path, overrides | own, number, totals, as_json), name=f"worker {number}")
        for number, own in enumerate(told, 1)
    ]

    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        for worker in workers:
            if worker.is_alive():
                worker.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for worker in workers:
            worker.start()
            if stopping.is_set():  # the signal came before this one could hear of it
                worker.terminate()
        failed = _until_ended(list(workers), stop, stopping)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed:
        return _code(failed)
    # One that the signal itself ended had not begun to read, or had done all: else it listens for it.
    code = max(0 if worker.exitcode == -signal.SIGTERM else _code(worker) for worker in workers)
    if not code and any(told) and nothing_delivered(totals[0], totals[1]):
        return PARTIAL
    return code


def _until_ended(workers: list[BaseProcess], stop: Callable[[], None], stopping: threading.Event) -> BaseProcess | None:
    """Wait for all; answer the one for which the others were stopped."""
    failed = None
    while workers:
        ended = wait([worker.sentinel for worker in workers])
        for worker in [w for w in workers if w.sentinel in ended]:
            worker.join()
            workers.remove(worker)
            # Workers that were told to stop are settling: a second signal would end them before they are done.
            if worker.exitcode not in {0, PARTIAL} and not stopping.is_set():
                terminal.say(f"{worker.name} ended with exit code {worker.exitcode}; stopping the others")
                failed = worker
                stop()
    return failed


def _code(worker: BaseProcess) -> int:
    code = worker.exitcode or 0
    return code if code >= 0 else 128 - code  # killed by a signal: as shells say it


def _work(path: Path | None, overrides: dict[str, Any], number: int, totals: Any, as_json: bool) -> None:  # noqa: FBT001 - across processes
    """Be one worker; add the records with a value that it read, and the rows that it delivered, to `totals`."""
    from lmstream.cli import guarded
    from lmstream.cli.run import carried_out
    from lmstream.cli.watching import logged

    # Ctrl-C on the terminal goes to the parent alone, which passes it on once.
    os.setpgrp()
    terminal.prefix = f"worker {number}: "

    def add(summary: Summary) -> None:
        with totals.get_lock():
            totals[0] += summary.records - summary.tombstones
            totals[1] += summary.rows

    def work() -> int:
        config = load(path, overrides=overrides)
        with terminal.logging_to_stderr(debug=False), logged(config, number):
            return carried_out(config, as_json=as_json, worker=number, told=add)

    with unblocked():
        code = guarded(work)
    sys.exit(code)
