"""Lines gathered until they travel: by batch for requests, by path and across batches for object sinks."""

from lmstream.delivery.in_flight import InFlightRecord, Submission
from lmstream.delivery.packing import Chunk, pack
from lmstream.delivery.rolling import Roller, RollPolicy
from lmstream.delivery.transform import Cut
from lmstream.interfaces import Limits
from lmstream.model import Pack


class Batcher:
    """Lines that wait for their pack: a request's worth of one batch, or, for object sinks, by path across batches."""

    def __init__(self, limits: Limits, roll: RollPolicy) -> None:
        self._limits = limits
        # Lines launched together: what one request holds. Delivery starts while the rest is transformed.
        self._slice = limits.request_bytes * 3 // 4 if limits.base64 else limits.request_bytes
        self._roller = Roller(roll, limits) if limits.by_path else None
        self._chunks: list[Chunk] = []
        self._size = 0
        self._submission: Submission | None = None

    @property
    def since(self) -> float | None:
        """When the oldest line was added that is gathered by path; None for none."""
        return None if self._roller is None else self._roller.since

    def add(self, each: InFlightRecord, cuts: list[Cut], now: float) -> list[Pack]:
        """Gather the lines of one record; answer packs that are ready by that."""
        if self._roller is not None:
            for path, data, rows in cuts:
                self._roller.add(path, data, rows, each.number, now)
            return self._roller.due(now)
        ready = self.cut() if each.submission is not self._submission or self._size + each.lines > self._slice else []
        self._submission = each.submission
        self._size += each.lines
        self._chunks += [(each.number, data, rows) for _, data, rows in cuts]
        return ready

    def cut(self) -> list[Pack]:
        """Answer what is not gathered by path: it waits for the end of its batch only."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        return pack(chunks, self._limits)

    def due(self, now: float) -> list[Pack]:
        """Answer what is old enough."""
        return [] if self._roller is None else self._roller.due(now)

    def flush(self) -> list[Pack]:
        """Answer what is gathered by path, whatever its age."""
        return [] if self._roller is None else self._roller.flush_all()

    def clear(self) -> None:
        """Forget all of it."""
        self.cut()
        self.flush()
