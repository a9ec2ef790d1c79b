"""`lmstream run --workers N`: one view, or one line every few seconds, and one sum at the end, of all workers."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any

from lmstream.cli import terminal
from lmstream.cli.ending import counted, tell_sum
from lmstream.cli.invocation import guarded
from lmstream.cli.log_lines import logged
from lmstream.cli.loudness import Loudness
from lmstream.cli.run import PATIENCE, carried_out, print_counts
from lmstream.cli.standing import Standing, packed, summed, unpacked
from lmstream.cli.status import Reporter
from lmstream.config import Config, build_source, load
from lmstream.config.validation import remarks
from lmstream.hosts.container.service import tell_members
from lmstream.hosts.container.unfailing import Unfailing
from lmstream.hosts.container.workers import Link, check, shares, supervise
from lmstream.observability.readings import Readings
from lmstream.observability.unblocked import unblocked
from lmstream.runtime import Progress


def together(config: Config, path: Path | None, overrides: dict[str, Any], *, as_json: bool) -> int:
    """Start the workers, show them as one run, and say their sum; answer the exit code."""
    check(config)
    for remark in remarks(config):
        terminal.say(remark)
    told = shares(config, config.run.workers)
    asyncio.run(_tell_members(config))
    view, seen, unfailing = Reporter(config.run.report_seconds), list[Standing](), Unfailing()

    def look(told: list[bytes]) -> None:
        seen[:] = [unpacked(each) if each else _starting(number) for number, each in enumerate(told, 1)]
        unfailing.attempt(lambda: view.show(summed(seen)))

    with logged(config, 0):
        with view:
            if view.live:
                # A person looks, though the workers' own standard error is no terminal then.
                own = given_to_person(config)
                told = [own | each for each in told]
            arguments = (path, overrides, as_json, terminal.loudness)
            code = supervise(worked, arguments, told, terminal.say, look, view.lines_of_others())
        total = summed(seen).progress
        tell_sum(total, config.run.workers)
        if as_json:
            print_counts({"workers": config.run.workers, **counted(total)})
    return code


def given_to_person(config: Config) -> dict[str, Any]:
    """Settings of workers whose lines a person reads in the parent's view."""
    found: dict[str, Any] = {}
    if config.logs.format == "auto" and not config.finite:
        found["logs.format"] = "console"
    if config.runtime.fatal_patience is None:
        found["runtime.fatal_patience"] = PATIENCE
    return found


def worked(  # across processes, so plain arguments
    path: Path | None,
    overrides: dict[str, Any],
    as_json: bool,  # noqa: FBT001
    loud: Loudness,
    own: dict[str, Any],
    number: int,
    link: Link,
) -> int:
    """Be one worker of several; answer its exit code."""
    name = _name(number)
    terminal.prefix = f"{name}: "

    def work() -> int:
        config = load(path, overrides=overrides | own)
        with terminal.logging_to_stderr(), logged(config, number):
            return carried_out(config, as_json=as_json, worker=number, observer=_Told(name, link), told=link.add)

    with unblocked(), terminal.speaking(loud):
        return guarded(work, debug=loud.traces)


def _name(number: int) -> str:
    return f"worker {number}"


def _starting(number: int) -> Standing:
    return Standing(progress=Progress(), workers={_name(number): "starting"})


class _Told:
    """Tells the parent where this worker stands: the parent shows it."""

    def __init__(self, name: str, link: Link) -> None:
        self.readings: Readings | None = None
        self._name, self._link = name, link

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        return

    def __call__(self, progress: Progress) -> None:
        self._link.tell(packed(Standing.of(progress, self.readings, self._name)))


async def _tell_members(config: Config) -> None:
    """Say who shares the group, before the workers are in it."""
    source = build_source(config)
    try:
        await tell_members(source, config, terminal.say)
    finally:
        await source.close()
