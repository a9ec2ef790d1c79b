"""`lmstream lag`: how far the consumer group is behind, and when rows would begin to be lost."""

import asyncio
import contextlib
import sys
import time
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter, validators

from lmstream.behind import Behind, said, taken, utc
from lmstream.cli import terminal
from lmstream.cli.flags import NO_CLUSTER, ClusterFlags, Json, Seconds, given
from lmstream.cli.kafka import client_overrides, settings_of
from lmstream.cli.tables import Column, Wide, lay_out, marks, redraw, table
from lmstream.cli.values import remember
from lmstream.config.validation import GROUP
from lmstream.kafka.lag import lag as ask
from lmstream.settings import human

_HEADS: Final = (
    Column("topic", 2, "id"),
    Column("partition", 1, "whole"),
    Column("committed", 6, "whole"),
    Column("end", 7, "whole"),
    Column("lag", 3, "count"),
    Column("oldest unread", 5, "whole"),
    Column("time to data loss", 4, "whole"),
)
_RATE: Final = Column("settled/s", 8, "whole")
Offsets = dict[tuple[str, int], int]
"""What is committed, by topic and partition."""


def lag(
    *,
    topic: tuple[str, ...] = (),
    group: str | None = None,
    watch: Annotated[Seconds | None, Parameter(validator=validators.Number(gte=0.5))] = None,
    retention: Seconds | None = None,
    wide: Wide = False,
    as_json: Json = False,
    cluster: ClusterFlags = NO_CLUSTER,
) -> int:
    """Show consumer lag (records and time) and time to data loss of every partition. Read-only; joins no group.

    Parameters
    ----------
    topic
        Topic; may be repeated. Default: those of the configuration.
    group
        Consumer group. Default: that of the configuration.
    watch
        Repeat every so many seconds, until Ctrl-C, with the time and how many records are settled a second. A terminal
        is drawn over.
    retention
        Retention of the topic, as 72h or 7d, if the brokers do not report it.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per partition and line.
    """
    overrides = client_overrides(cluster, group=group) | given({"source.topics": topic or None})
    settings = settings_of(cluster.load(overrides, [GROUP]))

    if watch is None:
        _show(asyncio.run(ask(settings, retention=retention)), wide=wide, as_json=as_json)
        return 0

    async def look() -> None:
        before: tuple[float, int, Offsets] | None = None
        while True:
            found, at = await ask(settings, retention=retention), time.time()
            total, committed = _total(found), _committed(found)
            rates = {} if before is None else _rates(before[2], committed, at - before[0])
            if as_json:
                for each in found:
                    rate = rates.get((each.topic, each.partition))
                    terminal.print_lines([msgspec.to_builtins(each) | {"at": at, "settled_per_second": rate}])
                sys.stdout.flush()
            else:
                change = "" if before is None else f" ({total - before[1]:+,} in {at - before[0]:.0f} s)"
                title = f"{utc(at)}  group {settings.group}  lag {total:,}{change}"
                redraw([title, *_lines(found, at, rates, wide=wide)])
            before = at, total, committed
            await asyncio.sleep(watch)

    with contextlib.suppress(KeyboardInterrupt):  # it is how this ends
        asyncio.run(look())
    return 0


def _total(found: list[Behind]) -> int:
    return sum(each.records or 0 for each in found)


def _committed(found: list[Behind]) -> Offsets:
    return {(each.topic, each.partition): each.committed for each in found if each.committed is not None}


def _rates(before: Offsets, now: Offsets, seconds: float) -> dict[tuple[str, int], float]:
    """Records settled a second, of partitions that were there before too. A commit that went back counts as nothing."""
    return {at: round(max(0, now[at] - before[at]) / max(seconds, 1e-9), 1) for at in now.keys() & before.keys()}


def _show(found: list[Behind], *, wide: bool, as_json: bool) -> None:
    now = time.time()
    remember("topics", [each.topic for each in found])
    if as_json:
        terminal.print_lines(found)
    else:
        table(_HEADS, [_row(each) for each in found], wide=wide)
        print(_sentence(found, now))
    for each in found:
        if each.end is None:
            terminal.insist(f"{each.topic}/{each.partition} did not answer")
        if each.soon:
            terminal.say(f"{each.topic}/{each.partition}: {taken(each, now)}")


def _row(each: Behind) -> tuple[object, ...]:
    return (
        *(each.topic, each.partition, each.committed, each.end, each.records),
        *(human(each.seconds), _left(each)),
    )


def _sentence(found: list[Behind], now: float) -> str:
    first = said(found, now)
    return f"{_total(found):,} records wait in {len(found):,} partitions" + (f"; {first}" if first else "")


def _lines(found: list[Behind], now: float, rates: dict[tuple[str, int], float], *, wide: bool) -> list[str]:
    """The same table as lines, with the rates, and what is in danger below it."""
    rows = [(*_row(each), rates.get((each.topic, each.partition))) for each in found]
    laid = lay_out((*_HEADS, _RATE), rows, None if wide else terminal.columns(), marks())
    odd = [f"{each.topic}/{each.partition} did not answer" for each in found if each.end is None]
    odd += [f"{each.topic}/{each.partition}: {taken(each, now)}" for each in found if each.soon]
    return [*laid.lines, _sentence(found, now), *map(terminal.cell, odd)]


def _left(each: Behind) -> str:
    """Answer the time to data loss in a few letters."""
    if not each.waits or each.records is None or each.loss is not None:
        return human(each.loss)
    if not each.retention_known:
        return "retention unknown"
    return "-" if each.retention is not None else "never" if each.retention_bytes is None else "by size"
