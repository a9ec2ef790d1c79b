"""Doubles for the delivery core that are of no use to others: an engine of toy bundles, and pipelines of doubles."""

import asyncio
import json
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

from lmstream.delivery import DeliveryPolicy, Pipeline
from lmstream.delivery.sender import Sender
from lmstream.engine.fan_out import Group, Spread
from lmstream.errors import DecodeError
from lmstream.interfaces import Limits, LostPart
from lmstream.model import Failure, Kind, Record
from lmstream.settings import Settings
from lmstream.testing import LIMITS, ScriptedLetters, now, told_to_run

THROTTLED = Failure(Kind.RETRYABLE, "ServiceUnavailableException", "slow down")
REFUSED = Failure(Kind.PERMANENT, "InvalidArgumentException", "never")
MISSING = Failure(Kind.FATAL_CONFIG, "ResourceNotFoundException", "no such stream")


# --- an engine of toy bundles ------------------------------------------------------------------------------------

BODIES = msgspec.structs.replace(LIMITS, request_bytes=900, base64=True)
OBJECTS = Limits(pack_bytes=400, pack_rows=10, request_packs=1, request_bytes=400, by_path=True)


def bundle(
    rows: int = 1, *, bad: int = 0, skipped: int = 0, paths: int = 1, fault: str = "", parts: int = 0, unknown: int = 0
) -> bytes:
    made = {"rows": rows, "bad": bad, "skipped": skipped, "paths": paths, "fault": fault}
    return json.dumps(made | {"parts": parts, "unknown": unknown}).encode()


def record(offset: int, value: bytes | None, *, partition: int = 0, **more: Any) -> Record:
    return Record(topic="t", partition=partition, offset=offset, value=value, **more)


def lines_of(each: Record) -> list[bytes]:
    """The rows a record becomes, by the rule of the toy engine."""
    what = json.loads(each.value or b'{"rows":0}')
    return [b'{"rowId":"%b:%d"}\n' % (each.coordinates.encode(), n) for n in range(what.get("rows", 0))]


class ToyEngine:
    """`bundle` values in, lines that name their record out."""

    settings = Settings()
    shaping = None

    def fan_out(self, each: Record) -> Any:
        if each.value is None:
            return ToyOut([], [], {"record.tombstone": 1}, ())
        if each.value.rstrip() == b"junk":
            raise DecodeError("decode.json", "line 1")
        what = json.loads(each.value)
        if what["fault"] == "memory":
            raise MemoryError
        if what["fault"] == "bug":
            raise ZeroDivisionError("a bug")
        lines = lines_of(each)
        rejected = tuple((what["rows"] + n, "value.two") for n in range(what["bad"]))
        skipped = {"value.nan": what["skipped"]} if what["skipped"] else {}
        short = 1 if what["fault"] == "short" else 0
        out = ToyOut(lines[short:], [f"p{n % what['paths']}/" for n in range(len(lines))], skipped, rejected, short)
        out.points = what["rows"] + what["bad"] + what["skipped"]
        out.parts = tuple(LostPart(f"$.parts[{n}]", "decode.type", f"{n} is no part") for n in range(what["parts"]))
        out.unknown = tuple(f"$.items[{n}].odd{n}" for n in range(what["unknown"]))
        return out


class ToyOut:
    def __init__(self, lines: list[bytes], paths: list[str], skipped: dict, rejected: tuple, short: int = 0) -> None:
        self.rows = len(lines) + short
        self.lines, self.paths = lines, paths
        self.skipped, self.rejected, self.noted, self.dropped = skipped, rejected, {}, {}
        self.points, self.parts, self.unknown = 0, (), ()
        self.dimensions: list = []

    def why(self, ordinal: int) -> str:
        assert ordinal in dict(self.rejected)
        return f"metric m, $.points[{ordinal}]: two values"

    hour = None

    def spread(self) -> list[Spread]:
        return [Spread("", path.encode(), [SimpleNamespace(key=path)]) for path in sorted(set(self.paths))]

    def cut(self, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
        out: list[list[bytes]] = []
        for line in self.lines:
            if not out or len(out[-1]) == max_rows or sum(map(len, out[-1])) + len(line) > max_bytes:
                out.append([])
            out[-1].append(line)
        return [(b"".join(part), len(part)) for part in out]

    def by_path(self) -> list[tuple[str, bytes, int]]:
        by: dict[str, list[bytes]] = {}
        for line, path in zip(self.lines, self.paths, strict=False):
            by.setdefault(path, []).append(line)
        return [(path, b"".join(part), len(part)) for path, part in by.items()]

    @property
    def groups(self) -> list[Group]:
        return [Group(*each) for each in self.by_path()]


def nobody(*_: Any) -> None:
    """Is told of each settled record, and does not mind."""


async def verdicts_of(sender: Sender, packs: Any, deadline: float | None = None) -> list[Failure | None]:
    """Deliver, and answer the verdict on each pack in their order; each has to come once."""
    told: dict[bytes, Failure | None] = {}

    def verdict(pack: Any, failure: Failure | None) -> None:
        with told_to_run():
            assert pack.data not in told
        told[pack.data] = failure

    await sender.deliver(packs, verdict, deadline)
    return [told[each.data] for each in packs]


def make(sink: Any, letters: Any = None, *, seed: int = 1, engine: Any = None, **more: Any) -> Pipeline:
    """A pipeline of doubles in the running (virtual) loop."""
    more.setdefault("policy", DeliveryPolicy(timeout=5.0))
    return Pipeline(
        engine or ToyEngine(),
        sink,
        letters or ScriptedLetters(),
        clock=now,
        sleep=asyncio.sleep,
        random=Random(seed).random,
        **more,
    )
