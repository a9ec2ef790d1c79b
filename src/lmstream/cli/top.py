"""`lmstream top`: several members in one table, by what they say at /statusz; the one in most danger on top."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final

from cyclopts import Parameter, validators
from msgspec import Struct

from lmstream.cli import terminal
from lmstream.cli.flags import NO_FILE, FileFlags, Json
from lmstream.cli.tables import Column, Wide, lay_out, marks, redraw
from lmstream.config.layers import layers_of, merge
from lmstream.settings import MIB, human

_PATIENCE: Final = 3.0  # seconds for one answer
_BYTES: Final = 16 * MIB  # of one answer: a partition takes 500
_SIDE_BY_SIDE: Final = 32
_HEADS: Final = (
    Column("member", 1, "id"),
    Column("time to data loss", 2, "whole"),
    Column("state", 4, "whole"),
    Column("rows/s", 5, "count"),
    Column("lag", 3, "count"),
    Column("behind", 6, "whole"),
    Column("in flight", 8, "whole"),
    Column("dead letters", 7, "count"),
    Column("partitions", 9, "count"),
    Column("pid", 10, "whole"),
    Column("group", 11),
    Column("why", 12, "prose"),
)


class Member(Struct, kw_only=True, frozen=True):
    """What one member says of itself. What it does not say is None."""

    address: str
    error: str = ""
    """Why it does not answer; nothing else is known then."""
    pid: int | None = None
    group: str | None = None
    state: str = ""
    ready: bool = False
    why: str = ""
    partitions: int = 0
    loss_seconds: float | None = None
    """Until retention takes the oldest record that is not settled, of the partition that it reaches first."""
    loss_partition: str = ""
    lag_records: int = 0
    lag_seconds: float | None = None
    rows: int = 0
    """Since its start."""
    rows_per_second: float | None = None
    """Since the last look, or on average since its start."""
    dead_letters: int = 0
    in_flight_bytes: int = 0
    budget_bytes: int = 0
    up_seconds: float = 0.0


def top(
    *addresses: str,
    every: Annotated[float, Parameter(validator=validators.Number(gte=0.2, lte=3600))] = 2.0,
    once: bool = False,
    wide: Wide = False,
    as_json: Json = False,
    file: FileFlags = NO_FILE,
) -> int:
    """Show the members of a deployment in one table, again and again until Ctrl-C.

    What each says at /statusz: time until retention takes rows, lag, rate, memory, dead letters. The member in most
    danger is the first line. With --once the exit code is 1 when one does not answer.

    Parameters
    ----------
    addresses
        Endpoints of members, as host:port. Default: endpoints.address and run.workers of the configuration, else
        127.0.0.1:9464.
    every
        Seconds between two looks.
    once
        Look once.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print one JSON object per member and look, one a line.
    """
    asked = list(dict.fromkeys(addresses)) or _configured(file)
    before: dict[str, Member] = {}
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
            while True:
                now = time.monotonic()
                answers = dict(zip(asked, threads.map(_ask, asked), strict=True))
                members = in_order([_member(at, answer, before.get(at), now - began) for at, answer in answers.items()])
                before = {each.address: each for each in members}
                began = now
                _show(members, once=once, wide=wide, as_json=as_json)
                if once:
                    return 1 if any(each.error for each in members) else 0
                time.sleep(max(0.0, every - (time.monotonic() - now)))
    except KeyboardInterrupt:
        return 0


def in_order(members: Sequence[Member]) -> list[Member]:
    """Who does not answer first, then by the time that is left, then by lag."""

    def key(each: Member) -> tuple[bool, float, int, str]:
        loss = float("inf") if each.loss_seconds is None else each.loss_seconds
        return not each.error, loss, -each.lag_records, each.address

    return sorted(members, key=key)


def _ask(address: str) -> Mapping[str, Any] | str:
    """The answer of one member, or why there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/statusz", timeout=_PATIENCE) as answer:
            found = json.loads(answer.read(_BYTES))
    except (OSError, ValueError, urllib.error.URLError) as e:
        why = getattr(e, "reason", e)
        return terminal.clean(str(getattr(why, "strerror", None) or why) or type(e).__name__)
    return found if isinstance(found, dict) and "assignment" in found else "it is not lmstream"


def _member(address: str, answer: Mapping[str, Any] | str, before: Member | None, seconds: float) -> Member:
    if isinstance(answer, str):
        return Member(address=address, error=answer)
    partitions = answer["assignment"]
    losing = min((each for each in partitions if each["loss_seconds"] is not None), key=_loss, default=None)
    ages = [each["lag_seconds"] for each in partitions if each["lag_seconds"] is not None]
    rows, up = answer["counts"]["rows_accepted"], answer["up_seconds"]
    same = before is not None and before.pid == answer["pid"] and before.rows <= rows and seconds > 0
    since, span = (before.rows, seconds) if same and before is not None else (0, up)
    return Member(
        address=address,
        pid=answer["pid"],
        group=answer["group"],
        state=answer["state"],
        ready=answer["ready"],
        why=answer["why"],
        partitions=len(partitions),
        loss_seconds=None if losing is None else losing["loss_seconds"],
        loss_partition="" if losing is None else f"{losing['topic']}/{losing['partition']}",
        lag_records=sum(each["lag_records"] or 0 for each in partitions),
        lag_seconds=max(ages, default=None),
        rows=rows,
        rows_per_second=round((rows - since) / span, 1) if span else None,
        dead_letters=answer["counts"]["dead_letters"],
        in_flight_bytes=answer["in_flight"]["bytes"],
        budget_bytes=answer["in_flight"]["budget_bytes"],
        up_seconds=up,
    )


def _loss(partition: Mapping[str, Any]) -> float:
    return float(partition["loss_seconds"])


def _show(members: Sequence[Member], *, once: bool, wide: bool, as_json: bool) -> None:
    if as_json:
        terminal.print_lines(members)
        sys.stdout.flush()
        return
    table = lay_out(_HEADS, map(_row, members), None if wide else terminal.columns(), marks())
    lines = [_first_line(members), *table.lines]
    if once:
        print("\n".join(lines), flush=True)
    else:
        redraw(lines)


def _first_line(members: Sequence[Member]) -> str:
    known = [each for each in members if not each.error]
    danger = next((each for each in members if each.loss_seconds is not None), None)
    left = "nothing waits that retention could take"
    if danger is not None:
        left = f"{human(danger.loss_seconds)} to data loss, in {danger.loss_partition} at {danger.address}"
    rate = sum(each.rows_per_second or 0.0 for each in known)
    lag = sum(each.lag_records for each in known)
    silent = f"; {len(members) - len(known)} of {len(members)} do not answer" if len(known) < len(members) else ""
    return f"{left}; {rate:,.0f} rows/s, {lag:,} records wait{silent}"


def _row(each: Member) -> tuple[object, ...]:
    if each.error:
        return (each.address, None, "no answer", *[None] * 8, each.error)
    return (
        each.address,
        human(each.loss_seconds),
        each.state if each.ready else "not ready",
        None if each.rows_per_second is None else round(each.rows_per_second),
        each.lag_records,
        human(each.lag_seconds),
        f"{each.in_flight_bytes / MIB:.1f} of {each.budget_bytes / MIB:.0f} MiB",
        each.dead_letters,
        each.partitions,
        each.pid,
        each.group,
        each.why,
    )


def _configured(file: FileFlags) -> list[str]:
    """Addresses of this machine's members by file, environment and --set."""
    from lmstream.observability.endpoints import USUAL, parsed

    found = merge(layers_of(file.config, None, file.over()))
    address = found.get("endpoints", {}).get("address") or USUAL
    host, port = parsed(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - asked, not listened at
    workers = int(str(found.get("run", {}).get("workers", 1)))
    return [f"{host}:{port + number}" for number in range(workers)]
