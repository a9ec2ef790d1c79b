"""How far rows are proved, as numbers: what `lmstream verify --watch` serves in the place of a run's readings."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from lmstream import __version__
from lmstream.behind import utc
from lmstream.observability.metrics_catalogue import PROOF
from lmstream.observability.readings import Readiness, Sample

FAILING: Final = 3
"""Rounds that may fail one after the other before the proof is not ready."""


class Proved(Protocol):
    """One partition: see verification.proof.Partition."""

    @property
    def offset(self) -> int: ...

    until: float
    rows: int
    gone: int
    position: int


class ChainsProved(Protocol):
    """The chains of a lake: see verification.chains."""

    @property
    def until(self) -> float: ...

    @property
    def faults(self) -> int: ...


class ProofReadings:
    """Reads the state of a proof when somebody asks. The proof is made in a thread, and changes it as a whole."""

    def __init__(
        self,
        parts: Callable[[], Iterable[tuple[tuple[str, int], Proved]]],
        group: str,
        chains: Callable[[], ChainsProved | None] = lambda: None,
    ) -> None:
        """`parts` answers topic and partition of each, and what is proved of it; `chains` those of a lake."""
        self._parts, self.group, self._chains = parts, group, chains
        self.rounds: dict[str, int] = {"ok": 0, "failed": 0}
        """Rounds by outcome."""
        self.failed = 0
        """Rounds that failed since the last that did not."""
        self.trouble = ""
        """Why the last round failed; empty when it did not."""
        self._began = time.time()

    @property
    def who(self) -> str:
        """Which process this is."""
        return f"lmstream {__version__}, pid {os.getpid()}, proof of group {self.group}"

    def alive(self) -> tuple[bool, str]:
        """Whether it lives: it answers."""
        return True, f"{self.rounds['ok']:,} rounds, {self.rounds['failed']:,} failed"

    def ready(self) -> Readiness:
        """Whether rows are being proved: not while rounds fail. Rows that are not are no fault of this process."""
        if self.failed >= FAILING:
            return Readiness(ready=False, why=f"the last {self.failed:,} rounds failed: {self.trouble}")
        return Readiness(ready=True, why="proving")

    def behind(self) -> str:
        """Up to when all is proved, for people."""
        parts = [each for _, each in self._parts()]
        chains = self._chains()
        bad = f"; {chains.faults:,} faults of the lake" if chains is not None and chains.faults else ""
        if not parts or not all(self._until(each) for each in parts):
            return f"nothing is proved yet{bad}"
        rows = sum(each.rows for each in parts)
        until = utc(min(self._until(each) for each in parts))
        return f"proved up to {until}" + (f"; {rows:,} rows are not" if rows else "") + bad

    def _until(self, part: Proved) -> float:
        """Up to when all is proved of a partition: of a lake no further than its chains are."""
        chains = self._chains()
        return part.until if chains is None else min(part.until, chains.until)

    def stalled(self, _seconds: float) -> None:
        """The loop has nothing to do but to answer."""

    def samples(self) -> Iterator[Sample]:
        """All values of the catalogue."""
        for (topic, partition), each in self._parts():
            labels = topic, str(partition)
            if until := self._until(each):
                yield Sample("lmstream_proved_until_timestamp_seconds", labels, until)
            yield Sample("lmstream_offset_proved", labels, each.offset)
            yield Sample("lmstream_rows_unproved", labels, each.rows)
            yield Sample("lmstream_records_expired_unproved_total", labels, each.gone)
        if (chains := self._chains()) is not None:
            yield Sample("lmstream_lake_faults", (), chains.faults)
        for outcome, count in self.rounds.items():
            yield Sample("lmstream_proof_rounds_total", (outcome,), count)

    def metrics(self) -> bytes:
        """The same as Prometheus reads it."""
        from lmstream.observability.prometheus import render_of  # noqa: PLC0415 - an extra

        return render_of(PROOF, self.samples())

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "group": self.group,
            "ready": self.ready().ready,
            "why": self.ready().why,
            "up_seconds": round(time.time() - self._began, 1),
            "behind": self.behind(),
            "partitions": [
                {
                    "topic": topic,
                    "partition": partition,
                    "proved_offset": each.offset,
                    "proved_until": utc(until) if (until := self._until(each)) else None,
                    "rows_unproved": each.rows,
                    "expired_unproved": each.gone,
                }
                for (topic, partition), each in self._parts()
            ],
            "rounds": dict(self.rounds),
            "lake_faults": None if (chains := self._chains()) is None else chains.faults,
        }
