"""The engine: one record in, its rows out, grouped by partition path, with counts of what made no row and why."""

import math
import struct
from _thread import allocate_lock, start_new_thread
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import blake2b
from importlib import import_module
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from msgspec import Struct

from lmstream.codecs import envelope
from lmstream.codecs.pieces import encode
from lmstream.errors import REASONS, ConfigError, DecodeError
from lmstream.interfaces import TWO_VALUES, Bundle, Codec
from lmstream.model import Record
from lmstream.partitioning import path_renderer, token
from lmstream.settings import Settings

TIME_MIN: Final = 946_684_800_000
"""First ms of the year 2000."""
TIME_MAX: Final = 4_133_980_800_000
"""First ms of the year 2101. A time outside is a clock or a unit gone wrong, and would make partitions nobody reads."""

SKIPS: Final = frozenset(name for name, why in REASONS.items() if why.code.startswith("LMS-12"))
"""Reasons that are no fault of the point: it makes no row and needs no dead letter."""
FIRST: Final = frozenset({"point.type", "flags.no_value"})
"""Judged before the point's time; other reasons only count for points whose time is right."""

_COORDINATES: Final = struct.Struct(">iqq")
_SMALL: Final = 4096
_PIECES: Final = 6
"""Pieces of a line: what its scope shares, ordinal, metric, time, value, attributes."""
_UNCACHED: Final = 256
"""Bytes of a line that are in no cached piece: rowId, times, value."""


def bundle_id(source_id: str, topic: str, partition: int, offset: int, timestamp: int) -> str:
    """32 hex digits that name a bundle: the same for the same Kafka coordinates in every host, run and version.
    `timestamp` is Kafka's in ms, -1 when unknown. Frozen: tests/corpus/row_ids.json holds golden vectors.
    """
    seed = b"lmstream1\0%b\0%b\0" % (source_id.encode(), topic.encode())
    return blake2b(seed + _COORDINATES.pack(partition, offset, timestamp), digest_size=16).hexdigest()


class Group(Struct, frozen=True):
    """Lines of one partition path."""

    path: str
    data: bytes
    rows: int


class _Times(dict[tuple[int | None, int | None], bytes]):
    """From (time, start time) in nanoseconds to the row's `"ts":…,"tsUnixMs":…,"startTsUnixMs":…,"value":`; nothing
    when there is no row: see _time_fault."""

    def __missing__(self, key: tuple[int | None, int | None]) -> bytes:
        piece = b"" if _time_fault(*key) else _time_piece(*key)
        if len(self) >= _SMALL:
            self.clear()
        self[key] = piece
        return piece


def _time_fault(nanoseconds: int | None, start: int | None) -> str:
    """Why a point with these times makes no row, or nothing."""
    if not nanoseconds:
        return "time.missing"
    if not TIME_MIN <= nanoseconds // 1_000_000 < TIME_MAX or (start and not TIME_MIN <= start // 1_000_000 < TIME_MAX):
        return "time.range"
    return ""


def _time_piece(nanoseconds: int | None, start: int | None) -> bytes:
    """Integers only: a float of nanoseconds is off by up to 128 ns, enough to land in the hour before."""
    milliseconds = (nanoseconds or 0) // 1_000_000
    hour, rest = divmod(milliseconds, 3_600_000)
    minute, rest = divmod(rest, 60_000)
    begin = f'"startTsUnixMs":{start // 1_000_000},' if start else ""
    # Formatted by hand: every bundle brings new times, and strftime costs three times as much as all of this.
    return (
        f'"ts":"{_hour_text(hour)}:{minute:02d}:{rest // 1000:02d}.{rest % 1000:03d}Z",'
        f'"tsUnixMs":{milliseconds},{begin}"value":'
    ).encode()


@lru_cache(maxsize=256)
def _hour_text(hour: int) -> str:
    return datetime.fromtimestamp(3600 * hour, UTC).strftime("%Y-%m-%dT%H")


_HOUR: Final = slice(6, 19)
"""Where a time piece has yyyy-MM-ddTHH."""
_VALUE: Final = len('"value":')


class FanOut:
    """What one record became. Lines are joined when they are asked for: a sink wants groups or cuts, not both."""

    __slots__ = ("_paths", "_pieces", "noted", "rejected", "rows", "skipped")

    def __init__(
        self,
        pieces: list[bytes],
        paths: Callable[[], Iterator[tuple[str, int]]],
        noted: dict[str, int],
        skipped: dict[str, int] | None = None,
        rejected: tuple[tuple[int, str], ...] = (),
    ) -> None:
        """Take _PIECES pieces a row, and a function that yields (path, rows) in document order."""
        self._pieces = pieces
        self._paths = paths
        self.rows = len(pieces) // _PIECES
        self.skipped = skipped or {}
        """Data points that made no row on purpose, counted by reason."""
        self.rejected = rejected
        """(ordinal, reason) of data points that are wrong; they belong into a dead letter."""
        self.noted = noted
        """What was tolerated, counted: `device.unknown`, `datasource.unknown`, `enum.name`, `exemplar.value`."""

    def ndjson(self) -> bytes:
        """All lines in document order."""
        return b"".join(self._pieces)

    @property
    def groups(self) -> list[Group]:
        """Lines by partition path, paths in order of first appearance, lines of a path in document order."""
        ranges: dict[str, list[slice]] = {}
        start = 0
        for path, rows in self._paths():
            ranges.setdefault(path, []).append(slice(_PIECES * start, _PIECES * (start + rows)))
            start += rows
        groups = []
        for path, found in ranges.items():
            parts = [b"".join(self._pieces[where]) for where in found]
            rows = sum(where.stop - where.start for where in found) // _PIECES
            groups.append(Group(path, parts[0] if len(parts) == 1 else b"".join(parts), rows))
        return groups

    def cut(self, max_rows: int, max_bytes: int) -> list[tuple[bytes, int]]:
        """Lines in document order as (data, rows), each within both bounds. A single line over `max_bytes` comes by
        itself; limits.row_bytes keeps that from happening with any sink of ours.
        """
        out: list[tuple[bytes, int]] = []
        for start in range(0, self.rows, max_rows):
            self._cut_range(start, min(start + max_rows, self.rows), max_bytes, out)
        return out

    def _cut_range(self, start: int, stop: int, max_bytes: int, out: list[tuple[bytes, int]]) -> None:
        data = b"".join(self._pieces[_PIECES * start : _PIECES * stop])
        if len(data) <= max_bytes or stop - start == 1:
            out.append((data, stop - start))
            return
        middle = (start + stop) // 2
        self._cut_range(start, middle, max_bytes, out)
        self._cut_range(middle, stop, max_bytes, out)


class Engine:
    """Fans bundles out into rows. Pure: no I/O, no clock; the same record and settings give the same bytes."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Raises ConfigError for a path template or codec name that cannot be used."""
        self.settings = settings = settings or Settings()
        self._render = path_renderer(settings)
        self._paths: dict[tuple[str, str, bytes], str] = {}
        self._times = _Times()
        self._orgs: dict[str, tuple[bytes, str]] = {}
        self._numbered: list[bytes] = []
        self._largest_org = 0
        self.codecs: dict[str, Codec] = {}
        if settings.format != "auto":
            self._codec(settings.format)
        for org in (settings.org_id, *settings.org_by_topic.values()):
            self._org(org)

    def fan_out(self, record: Record) -> FanOut:
        """The rows of one record. Raises DecodeError for bytes that are no bundle, and for no bytes anything else;
        ConfigError when the bytes are protobuf and the extra [proto] is not installed.
        """
        try:
            return self._fan_out(record)
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

    def _fan_out(self, record: Record) -> FanOut:
        if record.value is None:
            return FanOut([], _no_paths, {}, {"record.tombstone": 1})
        settings = self.settings
        name, payload = envelope.open_value(record.value, settings.limits)
        if settings.format != "auto":
            name = settings.format
        codec = self.codecs.get(name) or self._codec_for(name, payload)
        bundle = codec.decode(payload)
        n = len(bundle.times)
        identity = bundle_id(settings.source_id, record.topic, record.partition, record.offset, record.timestamp)
        prefixes, org_keys, homeless = self._prefixes(bundle, record.topic, identity.encode())
        times = self._time_pieces(bundle.times, bundle.starts)
        encoded = encode(bundle.values)[1:-1]
        values = encoded.split(b",")

        faults: dict[int, str] = {}
        if not all(times):
            _judge_times(bundle, times, faults, self._times)
        if bundle.odd:
            _apply_odd(bundle.odd, times, values, faults)
        if b"u" in encoded:  # null: a value that is missing, NaN or infinite
            _judge_values(bundle.values, faults)
        for at in homeless:
            faults.setdefault(at, "org.unresolved")

        pieces = [b""] * (_PIECES * n)
        pieces[0::6] = prefixes
        pieces[1::6] = self._numbers(n)
        pieces[2::6] = bundle.metrics
        pieces[3::6] = times
        pieces[4::6] = values[:n]
        pieces[5::6] = bundle.tails
        # The largest of each kind of piece bounds every row, so that rows need not be measured one by one.
        if bundle.odd or codec.largest + self._largest_org + _UNCACHED > settings.limits.row_bytes:
            _judge_sizes(pieces, settings.limits.row_bytes, faults)
        if record.only is not None:
            faults |= dict.fromkeys(set(range(n)).difference(record.only), "")
        paths = partial(self._paths_of, bundle, org_keys, times, faults)
        if not faults:
            return FanOut(pieces, paths, bundle.noted)
        return FanOut(
            [piece for at in range(n) if at not in faults for piece in pieces[_PIECES * at : _PIECES * (at + 1)]],
            paths,
            bundle.noted,
            dict(Counter(reason for reason in faults.values() if reason in SKIPS)),
            tuple((at, faults[at]) for at in sorted(faults) if faults[at] and faults[at] not in SKIPS),
        )

    def _prefixes(self, bundle: Bundle, topic: str, identity: bytes) -> tuple[list[bytes], list[str], list[int]]:
        """How lines begin, a piece per point; orgKey per series; and the points without an organization."""
        prefixes: list[bytes] = []
        org_keys: list[str] = []
        homeless: list[int] = []
        fixed = self.settings.org_by_topic.get(topic) or self.settings.org_id
        for series in bundle.series:
            resource, scope, points = series.resource, series.scope, series.stop - series.start
            org = fixed or resource.org
            org_piece, org_key = self._orgs.get(org) or self._org(org)
            org_keys.append(org_key)
            prefixes += [b'%b%b%b"rowId":"%b:' % (org_piece, resource.piece, scope.piece, identity)] * points
            if not org_key:
                homeless.extend(range(series.start, series.stop))
            if not resource.known:
                bundle.noted["device.unknown"] = bundle.noted.get("device.unknown", 0) + points
            if not scope.known:
                bundle.noted["datasource.unknown"] = bundle.noted.get("datasource.unknown", 0) + points
        return prefixes, org_keys, homeless

    def _time_pieces(self, times: list[int | None], starts: list[int | None]) -> list[bytes]:
        """A piece per point; empty where the time makes no row."""
        n = len(times)
        if n and times.count(times[0]) == n and starts.count(starts[0]) == n:
            return [self._times[times[0], starts[0]]] * n
        return list(map(self._times.__getitem__, zip(times, starts, strict=True)))

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
                    yield self._path(org_key, head.key, left[0][_HOUR]), len(left)
                else:
                    for hour, run in groupby(left, itemgetter(_HOUR)):
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

    def _org(self, org: str) -> tuple[bytes, str]:
        """How a line begins, and orgKey; the key is empty when there is no organization."""
        key = token(org) if org else ""
        piece = b'{"orgId":%b,"orgKey":%b,' % (encode(org), encode(key))
        self._largest_org = max(self._largest_org, len(piece))
        if len(self._orgs) >= _SMALL:
            self._orgs.clear()
        self._orgs[org] = piece, key
        return piece, key

    def _numbers(self, n: int) -> list[bytes]:
        """What follows the bundle's id: ordinals, made once and kept up to a bound."""
        made = self._numbered
        if n > len(made):
            made += [b'%d",' % at for at in range(len(made), n)]
        numbers = made[:n]
        del made[4 * _SMALL :]
        return numbers

    def _codec_for(self, name: str, payload: bytes) -> Codec:
        try:
            return self._codec(name)
        except ConfigError:
            if envelope.is_framed(payload):
                raise
            # Not even the frame of protobuf: no extra would help.
            raise DecodeError("decode.protobuf", "neither JSON nor protobuf") from None

    def _codec(self, name: str) -> Codec:
        try:
            module = import_module(name if "." in name else f"lmstream.codecs.{name}")
            codec: Codec = module.Codec(self.settings)
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] in ("google", "opentelemetry"):
                raise ConfigError("config.extra", "bundles are protobuf: pip install 'lmstream[proto]'") from error
            raise ConfigError("config.plugin", f"codec {name!r}: {error}") from error
        except AttributeError as error:
            raise ConfigError("config.plugin", f"codec {name!r}: the module has no Codec(settings)") from error
        self.codecs[name] = codec
        return codec


def _no_paths() -> Iterator[tuple[str, int]]:
    return iter(())


def _judge_times(bundle: Bundle, pieces: list[bytes], faults: dict[int, str], times: _Times) -> None:
    """Points whose own time makes no row: the scope's epoch stands in for a time that is missing, never now()."""
    for series in bundle.series:
        for at in range(series.start, series.stop):
            if not pieces[at]:
                key = (bundle.times[at] or series.scope.epoch, bundle.starts[at])
                pieces[at] = times[key]
                if not pieces[at]:
                    faults[at] = _time_fault(*key)


def _judge_values(values: list[int | float | None], faults: dict[int, str]) -> None:
    for at, value in enumerate(values):
        if value is None:
            faults.setdefault(at, "value.missing")
        elif value is TWO_VALUES:
            faults.setdefault(at, "value.two")
        elif not math.isfinite(value):
            faults.setdefault(at, "value.nan" if math.isnan(value) else "value.infinite")


def _judge_sizes(pieces: list[bytes], limit: int, faults: dict[int, str]) -> None:
    for at in range(len(pieces) // _PIECES):
        if sum(map(len, pieces[_PIECES * at : _PIECES * (at + 1)])) > limit:
            faults.setdefault(at, "row.too_large")


def _apply_odd(odd: dict[int, bytes | str], times: list[bytes], values: list[bytes], faults: dict[int, str]) -> None:
    """Put the members of points that are more than a number in their places, and note why others make no row."""
    for at, body in odd.items():
        if isinstance(body, bytes):
            times[at] = times[at][:-_VALUE]
            values[at] = body
        elif body in FIRST:
            faults[at] = body
        else:
            faults.setdefault(at, body)
