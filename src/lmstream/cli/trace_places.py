"""Where a traced row is: among the objects of its path, in a dead letter, or nowhere, and what that means."""

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from lmstream.cli.kafka import settings_of
from lmstream.cli.landed import landed_in
from lmstream.cli.settling import interval
from lmstream.cli.verify_lake import letters_of
from lmstream.config import Config
from lmstream.engine import Engine
from lmstream.errors import REASONS, ConfigError
from lmstream.kafka.log_bounds import log_bounds
from lmstream.model import DeadLetter, Record
from lmstream.partitioning import token
from lmstream.settings import human
from lmstream.storage.objects import Folder, Place, Prefix, S3Access, place
from lmstream.verification.landed import failed_lines, row_id
from lmstream.verification.tracing import Copy, Made, State, copies_of, made_of, state_of
from lmstream.verification.verify import letters_in

_NOT_LOOKED: Final = "nobody said where rows land: give --landed"


class Traced(Struct, kw_only=True):
    """One row that was followed."""

    record: Record
    made: Made
    row_id: str
    state: State
    said: str = ""
    """What became of it, in words."""
    copies: list[Copy] = field(default_factory=list)
    letter: DeadLetter | None = None

    @property
    def told(self) -> dict[str, Any]:
        """For machines."""
        record, made, letter = self.record, self.made, self.letter
        return {
            "row_id": self.row_id,
            "state": self.state,
            "said": self.said,
            "record": {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": record.timestamp,
                "key": _base64(record.key),
                "headers": [[name, _base64(data)] for name, data in record.headers],
                "bytes": len(record.value or b""),
            },
            "point": {"ordinal": made.ordinal, "points": made.points, "path": made.path, "metric": made.metric},
            "row": json.loads(made.row) if made.row else None,
            "below": made.below,
            "reason": made.reason,
            "landed": msgspec.to_builtins(self.copies),
            "letter": None
            if letter is None
            else {"reason": letter.reason, "code": letter.code, "detail": letter.detail},
        }

    @property
    def cells(self) -> tuple[object, ...]:
        """For a line of a table."""
        row = json.loads(self.made.row) if self.made.row else {}
        copy = next((each for each in self.copies if each.same), None)
        where = self.said if copy is None else f"{copy.object} line {copy.line}"
        return (
            self.row_id,
            row.get("metric"),
            row.get("ts"),
            row.get("value"),
            self.record.coordinates,
            self.state,
            where,
        )


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def landing(config: Config, landed: str | None, access: S3Access) -> Place | None:
    """Where rows land; None where neither a flag nor the sink says it."""
    if landed is not None:
        return place(landed, access)
    try:
        return place(*landed_in(config, access))
    except ConfigError:
        return None


def follow(
    rows: Sequence[tuple[Record, int]],
    maker: Engine,
    config: Config,
    landed: Place | None,
    dead_letters: str | None,
    access: S3Access,
    say: Callable[[str], None],
) -> list[Traced]:
    """Say of each (record, ordinal) what it becomes and where that is. Reads the objects of their paths alone."""
    from lmstream.engine import bundle_id

    traced = []
    for record, ordinal in rows:
        made = made_of(record, ordinal, maker)
        name = f"{bundle_id(maker.settings.source_id, *record.identified)}:{ordinal}"
        traced.append(Traced(record=record, made=made, row_id=name, state="unknown"))
    if landed is not None:
        _look(traced, landed, say)
    letters = place(dead_letters, access) if dead_letters is not None else letters_of(config, access)
    failed = _failed(landed, traced)
    commits: dict[str, dict[int, int | None]] = {}
    for each in traced:
        _judge(each, landed, letters, failed, config, commits, say)
    return traced


def _look(traced: Sequence[Traced], landed: Place, say: Callable[[str], None]) -> None:
    """Find the copies of rows below their own paths."""
    lines: dict[str, dict[str, bytes]] = {}
    for each in traced:
        if each.made.row:
            lines.setdefault(each.made.below, {})[each.row_id] = each.made.row
    for below, wanted in sorted(lines.items()):
        there = landed.below(below.rstrip("/"))
        copies, objects = copies_of(wanted, there) if _is_there(there) else ({}, 0)
        say(f"{objects:,} objects read at {there.name}")
        for each in traced:
            each.copies += copies.get(each.row_id, []) if each.made.below == below else []


def _is_there(there: Place) -> bool:
    return isinstance(there, Prefix) or there.exists()


def _judge(
    each: Traced,
    landed: Place | None,
    letters: Place | None,
    failed: set[str],
    config: Config,
    commits: dict[str, dict[int, int | None]],
    say: Callable[[str], None],
) -> None:
    """Decide what became of a row."""
    state = state_of(each.made, each.copies)
    if state is not None:
        each.state = state
        each.said = _said_of(state, each)
        return
    each.letter = _letter(each, letters, say) if letters is not None else None
    if each.letter is not None:
        each.state, reason = "letter", each.letter.reason
        each.said = f"in a dead letter: {each.letter.code} {each.letter.detail or reason} [{reason}]"
        return
    topic, partition = each.record.topic, each.record.partition
    if topic not in commits:
        settings = msgspec.structs.replace(settings_of(config), topics=(topic,))
        bounds = asyncio.run(log_bounds(settings, topic))
        commits[topic] = {number: found.committed for number, found in bounds.items()}
    committed = commits[topic].get(partition)
    group = settings_of(config).group
    at = f"{topic}/{partition}={each.record.offset}..{each.record.offset + 1}"
    if committed is None or each.record.offset >= committed:
        each.state = "not_read"
        far = "nothing there" if committed is None else f"up to offset {committed}"
        each.said = f"not there yet: group {group} has committed {far}, so the record is not read, or in flight"
    elif each.row_id in failed:
        each.state = "lost"
        each.said = (
            "in the error prefix of Firehose: it accepted the row and could not partition it (lmstream dlq replay)"
        )
    elif each.made.row and landed is None:
        each.said = _NOT_LOOKED
    elif not each.made.row:
        why = REASONS[each.made.reason].code if each.made.reason in REASONS else ""
        each.state = "unknown" if letters is None else "lost"
        nowhere = "no letter names it" if letters is not None else "no letters were looked at: give --dead-letters"
        each.said = f"refused, {why} {each.made.why}, and {nowhere}"
    else:
        _lost(each, landed, config, at)


def _lost(each: Traced, landed: Place | None, config: Config, at: str) -> None:
    seconds = interval(config, landed.name) if landed is not None else 0.0
    age = datetime.now(UTC).timestamp() - each.record.timestamp / 1000
    if each.record.timestamp >= 0 and age < seconds:
        each.state = "buffered"
        each.said = f"committed, and {human(age)} old: Firehose may buffer it for {human(seconds)}"
        return
    each.state = "lost"
    each.said = (
        "its record is committed, and it is in no object of its path. Send it again:"
        f" lmstream run --offsets {at}, or lmstream verify --repair"
    )


def _said_of(state: State, each: Traced) -> str:
    if state == "skipped":
        why = REASONS[each.made.reason].meaning if each.made.reason in REASONS else each.made.reason
        return f"{each.made.why}{f': {why} [{each.made.reason}]' if each.made.reason else ''}"
    if state == "changed":
        return "it landed, with other bytes than the engine makes of its record: lmstream verify --repair"
    right = sum(copy.same for copy in each.copies)
    return "landed, byte for byte" + (f", {right:,} copies" if right > 1 else "")


def _letter(each: Traced, letters: Place, say: Callable[[str], None]) -> DeadLetter | None:
    """The letter that has the record, or names the point. Letters lie by topic and partition."""
    record, ordinal = each.record, each.made.ordinal
    there = letters.below(f"{token(record.topic)}/{record.partition}")
    for root in (there, letters):
        if not _is_there(root):
            continue
        for letter in letters_in(root, say):
            same = letter.identified == record.identified
            named = {n for n, _ in letter.rejected}
            if same and (ordinal in named or not (named or letter.parts)):
                return letter
        if isinstance(letters, Folder) or root is there:
            break  # letters of this place lie by topic and partition, and nowhere else
    return None


def _failed(landed: Place | None, traced: Sequence[Traced]) -> set[str]:
    """Those of the rows that Firehose could not partition. Read only if some row is not where it must be."""
    if landed is None or not any(each.made.row and not each.copies for each in traced):
        return set()
    wanted = {each.row_id for each in traced}
    found = set()
    for line in failed_lines(landed.below("errors")):
        key, ordinal = row_id(line)
        if (name := f"{key.decode()}:{ordinal.decode()}") in wanted:
            found.add(name)
    return found
