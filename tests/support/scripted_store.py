"""An object store in memory and virtual time, every delay and every fault drawn from one seed, or told by a test."""

import asyncio
from collections import Counter
from collections.abc import Callable
from hashlib import md5
from random import Random
from typing import Literal

from msgspec import Struct

from lmstream.bounded import BoundError
from lmstream.interfaces import StoreError, Tagged
from lmstream.model import Failure, Kind

Fate = Literal["done", "slowdown", "conflict", "broken", "lost", "late", "denied"]
"""What becomes of a call. `done`; refused without an effect: `slowdown` (503), `conflict` (409), `broken` (500),
`denied` (403); `lost`: it took effect and the answer never came; `late`: the caller is told that nothing came back,
and the effect follows afterwards, as of a request that hangs in a network."""

FAILURES = {
    "slowdown": Failure(Kind.RETRYABLE, "SlowDown", "Please reduce your request rate."),
    "conflict": Failure(Kind.RETRYABLE, "ConditionalRequestConflict", "a conflicting write is under way"),
    "broken": Failure(Kind.RETRYABLE, "InternalError", "We encountered an internal error. Please try again."),
    "lost": Failure(Kind.RETRYABLE, "unknown_outcome", "the connection was reset"),
    "late": Failure(Kind.RETRYABLE, "unknown_outcome", "no response within 1 s"),
    "denied": Failure(Kind.FATAL_CONFIG, "AccessDenied", "Access Denied"),
}


class Moods(Struct, frozen=True, kw_only=True):
    """How likely each fate is, and how slow the store."""

    slowdown: float = 0.03
    conflict: float = 0.03
    """Of `create` and `replace` only."""
    broken: float = 0.03
    lost: float = 0.03
    late: float = 0.03
    """Of `create` and `replace` only: nothing else has an effect that can be late."""
    denied: float = 0.0
    slowest: float = 0.3
    """Seconds until the effect, and again until the answer, at most."""
    latest: float = 20.0
    """Seconds until the effect of a `late` call, at most."""


CALM = Moods(slowdown=0, conflict=0, broken=0, lost=0, late=0)


class ScriptedStore:
    """Strongly consistent, as S3 is: the effect of a call is one moment between its beginning and its answer.

    A caller that is cancelled takes its effect back no more than a process that was killed does: it follows.
    """

    name = "s3://scripted"

    def __init__(self, draw: Random, *, moods: Moods | None = None) -> None:
        self.moods = moods or Moods()
        self.draw = draw
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.created: list[str] = []
        """Every key in the order in which it was made: twice when it was removed between."""
        self.refused: list[str] = []
        """Every key whose `create` found another one there, and whose `replace` found another version."""
        self.replaced: list[str] = []
        """Every key under which something else was put, in order."""
        self.calls: Counter[str] = Counter()
        """By verb, answered or not."""
        self.script: Callable[[str, str], Fate | None] | None = None
        """Asked at each call, with verb and key, before chance is: None leaves it to chance."""
        self.told: Callable[[str, str], None] | None = None
        """Called at each moment of effect of a `create` or `replace`, with verb and key: for tests that stop a
        member right then."""
        self.closed = 0

    async def create(self, key: str, data: bytes, meta: dict[str, str], /) -> bool:
        data, kept = bytes(data), dict(meta)

        def effect() -> bool:
            if key in self.objects:
                self.refused.append(key)
                return False
            self.objects[key] = data, kept
            self.created.append(key)
            if self.told is not None:
                self.told("create", key)
            return True

        return await self._call("create", key, effect)

    async def tagged(self, key: str, /) -> Tagged | None:
        def effect() -> Tagged | None:
            found = self.objects.get(key)
            return None if found is None else Tagged(_tag(found[0]), dict(found[1]))

        return await self._call("tagged", key, effect)

    async def replace(self, key: str, data: bytes, meta: dict[str, str], tag: str, /) -> bool:
        data, kept = bytes(data), dict(meta)

        def effect() -> bool:
            if key not in self.objects or _tag(self.objects[key][0]) != tag:
                self.refused.append(key)
                return False
            self.objects[key] = data, kept
            self.replaced.append(key)
            if self.told is not None:
                self.told("replace", key)
            return True

        return await self._call("replace", key, effect)

    async def get(self, key: str, most: int, /) -> bytes | None:
        def effect() -> bytes | None:
            return self.objects[key][0] if key in self.objects else None

        found = await self._call("get", key, effect)
        if found is not None and len(found) > most:
            raise BoundError(f"{self.name}/{key}", f"more than {most:,} bytes")
        return found

    async def stat(self, key: str, /) -> dict[str, str] | None:
        return await self._call("stat", key, lambda: dict(self.objects[key][1]) if key in self.objects else None)

    async def names(self, prefix: str, most: int, /) -> list[str]:
        def effect() -> list[str]:
            return sorted((key for key in self.objects if key.startswith(prefix)), key=str.encode)[:most]

        return await self._call("names", prefix, effect)

    async def folders(self, prefix: str, most: int, /) -> list[str]:
        def effect() -> list[str]:
            below = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
            return sorted({each.partition("/")[0] for each in below if "/" in each}, key=lambda n: f"{n}/".encode())[
                :most
            ]

        return await self._call("folders", prefix, effect)

    async def close(self) -> None:
        self.closed += 1

    def remove(self, key: str) -> None:
        """As a lifecycle rule does, or a person: the name is free again."""
        del self.objects[key]

    async def _call(self, verb: str, key: str, effect: Callable[[], object]):
        self.calls[verb] += 1
        fate = (self.script(verb, key) if self.script else None) or self._chance(verb)
        loop, draw, moods = asyncio.get_running_loop(), self.draw, self.moods
        done: asyncio.Future = loop.create_future()

        def at_once() -> None:
            try:
                answer = effect()
            except Exception as error:  # noqa: BLE001 - a test's hook: its error is the caller's
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(answer)

        before, after = draw.uniform(0, moods.slowest), draw.uniform(0, moods.slowest)
        if fate == "late":
            # After the caller was told, and before: it is told at `before`.
            loop.call_later(before + draw.uniform(0, moods.latest), effect)
        elif fate in {"done", "lost"}:
            loop.call_later(before, at_once)
            answer = await done
        if fate not in {"done", "lost"}:
            await asyncio.sleep(before)
        await asyncio.sleep(after)
        if fate != "done":
            raise StoreError(FAILURES[fate])
        return answer

    def _chance(self, verb: str) -> Fate:
        chance, moods = self.draw.random(), self.moods
        of: dict[Fate, float] = {
            "slowdown": moods.slowdown,
            "broken": moods.broken,
            "lost": moods.lost,
            "denied": moods.denied,
        }
        if verb in {"create", "replace"}:
            of |= {"conflict": moods.conflict, "late": moods.late}
        for fate, likely in of.items():
            if chance < likely:
                return fate
            chance -= likely
        return "done"


def _tag(data: bytes) -> str:
    """As S3 makes ETags: of the content alone, so that the same bytes made again have the same."""
    return f'"{md5(data, usedforsecurity=False).hexdigest()}"'
