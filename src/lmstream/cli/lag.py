"""`lmstream lag`: how far the consumer group is behind, and when rows would begin to be lost."""

import asyncio
import time
from typing import Annotated, Final

from cyclopts import Parameter, validators

from lmstream.behind import Behind, said, taken
from lmstream.cli import terminal
from lmstream.cli.flags import NO_CLUSTER, ClusterFlags, Json, Seconds, given
from lmstream.cli.kafka import client_overrides, settings_of
from lmstream.cli.tables import Column, Wide, table
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
        Repeat every so many seconds, until interrupted.
    retention
        Retention of the topic, as 72h or 7d, if the brokers do not report it.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per partition and line.
    """
    overrides = client_overrides(cluster, group=group) | given({"source.topics": topic or None})
    settings = settings_of(cluster.load(overrides, [GROUP]))

    async def look() -> None:
        while True:
            _show(await ask(settings, retention=retention), wide=wide, as_json=as_json)
            if watch is None:
                return
            await asyncio.sleep(watch)

    asyncio.run(look())
    return 0


def _show(found: list[Behind], *, wide: bool, as_json: bool) -> None:
    now = time.time()
    remember("topics", [each.topic for each in found])
    if as_json:
        terminal.print_lines(found)
    else:
        rows = [(e.topic, e.partition, e.committed, e.end, e.records, human(e.seconds), _left(e)) for e in found]
        table(_HEADS, rows, wide=wide)
        known = [each.records for each in found if each.records is not None]
        first = said(found, now)
        print(f"{sum(known):,} records wait in {len(found):,} partitions" + (f"; {first}" if first else ""))
    for each in found:
        if each.end is None:
            terminal.insist(f"{each.topic}/{each.partition} did not answer")
        if each.soon:
            terminal.say(f"{each.topic}/{each.partition}: {taken(each, now)}")


def _left(each: Behind) -> str:
    """Answer the time to data loss in a few letters."""
    if not each.waits or each.records is None or each.loss is not None:
        return human(each.loss)
    if not each.retention_known:
        return "retention unknown"
    return "-" if each.retention is not None else "never" if each.retention_bytes is None else "by size"
