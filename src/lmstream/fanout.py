"""The engine: one record in, its rows out, grouped by partition path, with counts of what made no row and why."""

import math
import struct
from _thread import allocate_lock, start_new_thread
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from lmstream.codecs.pieces import encode
from lmstream.decoding import Decoding
from lmstream.errors import REASONS, DecodeError
from lmstream.interfaces import TWO_VALUES, Bundle
from lmstream.lines import PIECES, FanOut, Group
from lmstream.model import CLOSED, Record
from lmstream.partitioning import path_renderer, token
from lmstream.settings import Settings
from lmstream.times import HOUR, NS_PER_MS, VALUE, TimePieces, time_fault, time_piece

__all__ = ["Engine", "FanOut", "Group", "bundle_id", "bundle_seed"]

SKIPS: Final = frozenset(name for name, why in REASONS.items() if why.code.startswith("LMS-12"))
"""Reasons that are no fault of the point: it makes no row and needs no dead letter."""
FIRST: Final = frozenset({"point.type", "flags.no_value"})
"""Judged before the point's time; other reasons only count for points whose time is right."""

_COORDINATES: Final = struct.Struct(">iqq")
_U: Final = ord("u")  # a number, because bytes look for a number first, and a bytes object costs them an exception
_SMALL: Final = 4096
_UNCACHED: Final = 256
"""Bytes of a line that are in no cached piece: rowId, times, value."""


def bundle_id(source_id: str, topic: str, partition: int, offset: int, timestamp: int) -> str:
    """32 hex digits that name a bundle: the same for the same Kafka coordinates in every host, run and version.
    `timestamp` is Kafka's in ms, -1 when unknown. Frozen: tests/test_oracle_golden.py holds golden vectors.
    """
    seed = bundle_seed(source_id, topic)
    seed.update(_COORDINATES.pack(partition, offset, timestamp))
    return seed.hexdigest()


def bundle_seed(source_id: str, topic: str) -> blake2b:
    """A bundle's id before the coordinates: the same for all records of a topic."""
    return blake2b(b"lmstream1\0%b\0%b\0" % (source_id.encode(), topic.encode()), digest_size=16)


class Engine:
    """Fans bundles out into rows. Pure: no I/O, no clock; the same record and settings give the same bytes."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Raises ConfigError for a path template or codec name that cannot be used."""
        self.settings = settings = settings or Settings()
        self._render = path_renderer(settings)
        self._paths: dict[tuple[str, str, bytes], str] = {}
        self._times = TimePieces()
        self._orgs: dict[str, tuple[bytes, str]] = {}
        self._topics: dict[str, tuple[blake2b, str]] = {}
        self._blank: list[bytes] = []
        self._largest_org = 0
        decoding = Decoding(settings)
        self._decode = decoding.decode
        self.codecs = decoding.codecs
        """By name, those that were needed so far."""
        for org in (settings.org_id, *settings.org_by_topic.values()):
            self._org(org)

    def fan_out(self, record: Record) -> FanOut:
        """The rows of one record. Raises DecodeError for bytes that are no bundle, and for no bytes anything else;
        ConfigError when the bytes are protobuf and the extra [proto] is not installed.
        """
        try:
            return self._fan_out(record)
        except MemoryError:
            raise DecodeError("limits.size", "more memory than this process may take") from None
        except RecursionError:
            # How deep a parser may go depends on who calls. Once more on a stack of its own, so that the verdict does
            # not; no helper functions here, for there may be no room left to call one.
            done = allocate_lock()
            done.acquire()
            box: list[FanOut | BaseException] = []
            start_new_thread(self._on_own_stack, (record, box, done.release))
            done.acquire()
        result = box[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def caches(self) -> dict[str, tuple[int, int, int]]:
        """(bytes in use, pieces ever made, pieces asked for) by what is kept, of all codecs together."""
        found: dict[str, tuple[int, int, int]] = {}
        for codec in self.codecs.values():
            for name, (used, made, asked) in getattr(codec, "caches", dict)().items():
                before = found.get(name, (0, 0, 0))
                found[name] = (before[0] + used, before[1] + made, before[2] + asked)
        return found

    def clear_caches(self) -> None:
        """Forget everything remembered; for measurements."""
        for codec in self.codecs.values():
            codec.clear()
        self._paths.clear()
        self._times.clear()

    def _on_own_stack(self, record: Record, box: list[Any], release: Any) -> None:
        try:
            box.append(self._fan_out(record))
        except RecursionError:
            box.append(DecodeError("limits.depth", "nested deeper than a fresh stack allows"))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            box.append(error)
        finally:
            release()

    def _fan_out(self, record: Record) -> FanOut:  # noqa: C901, PLR0912, PLR0915 - in one: two calls more cost 2 % of a small bundle
        if record.closed:
            raise DecodeError(CLOSED, record.closed)
        if record.value is None:
            return FanOut(0, {}, [], tuple, (), {"record.tombstone": 1})
        bundle, codec, size = self._decode(record.value)
        noted, n = bundle.noted, len(bundle.times)

        # How lines begin.
        seed, fixed = self._topics.get(record.topic) or self._topic(record.topic)
        identity = seed.copy()
        identity.update(_COORDINATES.pack(record.partition, record.offset, record.timestamp))
        row_id = identity.hexdigest().encode()
        begins: list[bytes] = []
        org_keys: list[str] = []
        for series in bundle.series:
            resource, scope, points = series.resource, series.scope, series.stop - series.start
            org = fixed or resource.org
            org_piece, org_key = self._orgs.get(org) or self._org(org)
            org_keys.append(org_key)
            begins += [b"".join((org_piece, resource.piece, scope.piece, b'"rowId":"', row_id, b":"))] * points
            if not resource.known:
                noted["device.unknown"] = noted.get("device.unknown", 0) + points
            if not scope.known:
                noted["datasource.unknown"] = noted.get("datasource.unknown", 0) + points

        # A piece of time for each point; empty where the time makes no row, which is then a fault.
        faults: dict[int, str] = {}
        ended, began = bundle.times, bundle.starts
        if n and ended.count(ended[0]) == n and began.count(began[0]) == n:
            piece = time_piece(ended[0], began[0])
            times, fine = [piece] * n, bool(piece)
        else:
            times = list(map(self._times.__getitem__, zip(ended, began, strict=True)))
            fine = all(times)
        if not fine:
            _judge_times(bundle, times, faults, self._times)

        encoded = encode(bundle.values)[1:-1]
        values = encoded.split(b",") if n else []
        if bundle.odd:
            _apply_odd(bundle.odd, times, values, faults)
        if _U in encoded:  # null: a value that is missing, NaN or infinite
            _judge_values(bundle.values, faults)
        if "" in org_keys:
            _judge_orgs(bundle, org_keys, faults)

        blank = self._blank
        pieces = (blank if PIECES * n <= len(blank) else self._more_blank(n))[: PIECES * n]
        pieces[::6] = begins
        pieces[2::6] = bundle.metrics
        pieces[3::6] = times
        pieces[4::6] = values
        pieces[5::6] = bundle.tails
        # Rows need not be measured one by one. A line holds a text of the payload three times at most (deviceId,
        # deviceName, resource), escaped to six bytes for one; and the largest of each kind of piece bounds all lines.
        limit = self.settings.limits.row_bytes
        if bundle.odd or (size > limit // 32 and codec.largest + self._largest_org + _UNCACHED > limit):
            _judge_sizes(pieces, limit, faults)
        if record.only is not None:
            faults |= dict.fromkeys(set(range(n)).difference(record.only), "")
        of = bundle, org_keys, times, faults
        if not faults:
            return FanOut(n, noted, pieces, self._paths_of, of)
        return FanOut(
            n - len(faults),
            noted,
            [piece for at in range(n) if at not in faults for piece in pieces[PIECES * at : PIECES * (at + 1)]],
            self._paths_of,
            of,
            dict(Counter(reason for reason in faults.values() if reason in SKIPS)),
            tuple((at, faults[at]) for at in sorted(faults) if faults[at] and faults[at] not in SKIPS),
        )

    def _paths_of(
        self, bundle: Bundle, org_keys: list[str], times: list[bytes], faults: dict[int, str]
    ) -> Iterator[tuple[str, int]]:
        """(path, rows) of what is left without the faults, in document order."""
        metrics = zip(bundle.heads, bundle.stops, strict=True)
        start = 0
        for series, org_key in zip(bundle.series, org_keys, strict=True):
            while start < series.stop:
                head, stop = next(metrics)
                left = times[start:stop]
                if faults:
                    left = [times[at] for at in range(start, stop) if at not in faults]
                start = stop
                if left and left.count(left[0]) == len(left):
                    yield self._path(org_key, head.key, left[0][HOUR]), len(left)
                else:
                    for hour, run in groupby(left, itemgetter(HOUR)):
                        yield self._path(org_key, head.key, hour), len(list(run))

    def _path(self, org_key: str, metric_key: str, hour: bytes) -> str:
        """The partition path below the landing root."""
        key = (org_key, metric_key, hour)
        path = self._paths.get(key)
        if path is None:
            if len(self._paths) >= _SMALL:
                self._paths.clear()
            path = self._paths[key] = self._render(org_key, metric_key, hour.decode())
        return path

    def _topic(self, topic: str) -> tuple[blake2b, str]:
        """What a topic's records share: their id before the coordinates, and the organization that settings give."""
        fixed = self.settings.org_by_topic.get(topic) or self.settings.org_id
        if len(self._topics) >= _SMALL:
            self._topics.clear()
        found = self._topics[topic] = bundle_seed(self.settings.source_id, topic), fixed
        return found

    def _org(self, org: str) -> tuple[bytes, str]:
        """How a line begins, and orgKey; the key is empty when there is no organization."""
        key = token(org) if org else ""
        piece = b'{"orgId":%b,"orgKey":%b,' % (encode(org), encode(key))
        self._largest_org = max(self._largest_org, len(piece))
        if len(self._orgs) >= _SMALL:
            self._orgs.clear()
        if len(org) <= _SMALL:  # longer ones are nobody's organization, and would fill memory
            self._orgs[org] = piece, key
        return piece, key

    def _more_blank(self, n: int) -> list[bytes]:
        """The pieces of at least n lines, nothing in place but what follows the bundle's id: ordinals, kept up to a
        bound."""
        made = self._blank
        # A new list each time: another thread may be growing the old one.
        made = made + [p for at in range(len(made) // PIECES, n) for p in (b"", b'%d",' % at, b"", b"", b"", b"")]
        if n <= 4 * _SMALL:
            self._blank = made
        return made


def _judge_times(bundle: Bundle, pieces: list[bytes], faults: dict[int, str], times: TimePieces) -> None:
    """Points whose own time makes no row: the scope's epoch stands in for a time that is missing, never now()."""
    for series in bundle.series:
        for at in range(series.start, series.stop):
            if not pieces[at]:
                key = (bundle.times[at] or int(series.scope.epoch or 0) * NS_PER_MS, bundle.starts[at])
                pieces[at] = times[key]
                if not pieces[at]:
                    faults[at] = time_fault(*key)


def _judge_values(values: list[int | float | None], faults: dict[int, str]) -> None:
    for at, value in enumerate(values):
        if value is None:
            faults.setdefault(at, "value.missing")
        elif value is TWO_VALUES:
            faults.setdefault(at, "value.two")
        elif not math.isfinite(value):
            faults.setdefault(at, "value.nan" if math.isnan(value) else "value.infinite")


def _judge_orgs(bundle: Bundle, org_keys: list[str], faults: dict[int, str]) -> None:
    for series, org_key in zip(bundle.series, org_keys, strict=True):
        if not org_key:
            for at in range(series.start, series.stop):
                faults.setdefault(at, "org.unresolved")


def _judge_sizes(pieces: list[bytes], limit: int, faults: dict[int, str]) -> None:
    for at in range(len(pieces) // PIECES):
        if sum(map(len, pieces[PIECES * at : PIECES * (at + 1)])) > limit:
            faults.setdefault(at, "row.too_large")


def _apply_odd(odd: dict[int, bytes | str], times: list[bytes], values: list[bytes], faults: dict[int, str]) -> None:
    """Put the members of points that are more than a number in their places, and note why others make no row."""
    for at, body in odd.items():
        if isinstance(body, bytes):
            times[at] = times[at][:-VALUE]
            values[at] = body
        elif body in FIRST:
            faults[at] = body
        else:
            faults.setdefault(at, body)
