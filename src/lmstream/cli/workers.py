"""Several processes for one `run`, each a member of the consumer group of its own: one core each."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lmstream.cli import terminal
from lmstream.config import Config, load
from lmstream.errors import ConfigError


def check(config: Config) -> None:
    """Refuse what several processes cannot share."""
    if config.need("source").name == "files":
        # A share of the files would number them anew, and their row ids with them.
        raise ConfigError("config.invalid", "run.workers: files are read by one process; start one run per folder")
    if config.need("sink").name == "stdout":
        raise ConfigError("config.invalid", "run.workers: lines of several processes would mix on standard output")


def supervise(path: Path | None, overrides: dict[str, Any], count: int) -> int:
    """Start `count` workers and wait for them; one that fails stops the others. Answer the worst exit code.

    SIGTERM and Ctrl-C are passed on; twice is passed on twice, which ends them at once.
    """
    context = multiprocessing.get_context("spawn")
    numbers = range(1, count + 1)
    workers = [context.Process(target=_work, args=(path, overrides, n), name=f"worker {n}") for n in numbers]

    told = threading.Event()

    def stop(*_: object) -> None:
        told.set()
        for worker in workers:
            if worker.is_alive():
                worker.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for worker in workers:
            worker.start()
        _until_ended(list(workers), stop, told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return max(_code(worker) for worker in workers)


def _until_ended(workers: list[BaseProcess], stop: Callable[[], None], told: threading.Event) -> None:
    while workers:
        ended = wait([worker.sentinel for worker in workers])
        for worker in [w for w in workers if w.sentinel in ended]:
            worker.join()
            workers.remove(worker)
            # Workers that were told to stop are settling: a second signal would end them before they are done.
            if worker.exitcode and not told.is_set():
                terminal.say(f"{worker.name} ended with exit code {worker.exitcode}; stopping the others")
                stop()


def _code(worker: BaseProcess) -> int:
    code = worker.exitcode or 0
    return code if code >= 0 else 128 - code  # killed by a signal: as shells say it


def _work(path: Path | None, overrides: dict[str, Any], number: int) -> None:
    """Be one worker."""
    from lmstream.cli import guarded
    from lmstream.cli.run import conclude, execute
    from lmstream.cli.watching import logged

    # Ctrl-C on the terminal goes to the parent alone, which passes it on once.
    os.setpgrp()
    terminal.prefix = f"worker {number}: "

    def work() -> int:
        config = load(path, overrides=overrides)
        with terminal.logging_to_stderr(debug=False), logged(config, number):
            return conclude(asyncio.run(execute(config, worker=number)), config)

    sys.exit(guarded(work))
