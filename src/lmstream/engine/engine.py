"""The engine: one record in, its rows out, grouped by partition path, with counts of what made no row and why."""

from _thread import allocate_lock, start_new_thread
from binascii import hexlify
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from lmstream.codecs.fragments import encode
from lmstream.engine import kept, placing
from lmstream.engine.codec_registry import CodecRegistry
from lmstream.engine.fan_out import FanOut
from lmstream.engine.held_value import unheld
from lmstream.engine.judging import (
    SKIPS,
    apply_odd,
    judge_orgs,
    judge_sizes,
    judge_times,
    judge_values,
    note_parts,
    note_series,
)
from lmstream.engine.landed_again import rows_again
from lmstream.engine.lines import Lines, Pieced, Woven, blank, each_of
from lmstream.engine.output import Output
from lmstream.engine.row_ids import COORDINATES, bundle_id, bundle_seed
from lmstream.engine.row_paths import RowPaths
from lmstream.engine.row_pieces import org_piece
from lmstream.engine.timestamps import TimePieces, time_piece
from lmstream.errors import DecodeError
from lmstream.interfaces import Codec
from lmstream.model import Record
from lmstream.native import native
from lmstream.partitioning import token
from lmstream.settings import Settings

if TYPE_CHECKING:
    from lmstream.engine.dimensions import Dimensions
    from lmstream.engine.own_transform import OwnTransform
    from lmstream.engine.shaping import Shaped, Shaping

_U: Final = ord("u")  # a number, because bytes look for a number first, and a bytes object costs them an exception
_SMALL: Final = 4096
_UNCACHED: Final = 512
"""Bytes of a line, or of a dimension's row, that are in no cached piece: rowId, times, value, keys."""


class Engine:
    """Fans bundles out into rows. Pure: no I/O, no clock; the same record and settings give the same bytes."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Raises ConfigError for a path template, or a name of a codec or transform, that cannot be used."""
        settings = settings or Settings()
        self.settings: Settings = settings
        self._paths = RowPaths(settings)
        self._times = TimePieces()
        self._orgs: dict[str, tuple[bytes, str]] = {}
        self._topics: dict[str, tuple[blake2b, str]] = {}
        self._weave: Any = native("weave")
        self._largest_org = 0
        self._row_bytes = settings.limits.row_bytes
        self._short = self._row_bytes // 32
        """Bytes of a payload of which no row becomes too long."""
        self.shaping: Shaping | None = None
        """The rules at work; None without any."""
        if settings.rules:
            from lmstream.engine import shaping as rules  # noqa: PLC0415 - a cold start without rules needs none of it
            from lmstream.engine.sifted_output import SiftedOutput  # noqa: PLC0415 - as above

            self.shaping, self._sifted = rules.Shaping(settings.rules, self._larger), SiftedOutput
        self._dimensions: Dimensions | None = None
        self._transform: OwnTransform | None = None
        if settings.dimensions:
            from lmstream.engine import dimensions  # noqa: PLC0415 - as above

            self._dimensions = dimensions.Dimensions(settings)
        if settings.transform:
            from lmstream.engine import own_transform  # noqa: PLC0415 - as above

            self._transform = own_transform.OwnTransform(settings, self._paths.path, self._dimensions)
            self._dimensions = None  # its rows get keys when they are what they will be
        decoding = CodecRegistry(settings, None if self.shaping is None else self.shaping.pieces)
        self._decode = decoding.decode
        self.codecs: dict[str, Codec] = decoding.codecs
        """By name, those that were needed so far."""
        for org in (settings.org_id, *settings.org_by_topic.values()):
            self._org(org)

    def fan_out(self, record: Record) -> FanOut:
        """The rows of one record. Raises DecodeError for bytes that are not a bundle, and for no bytes anything else;
        ConfigError when the bytes are protobuf and the extra [proto] is not installed, PluginError for a fault of
        somebody else's codec or transform.
        """
        own = self._transform
        try:
            return self._fan_out(record) if own is None else own.fan_out(record, self._fan_out)
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
        if self._dimensions is not None:
            self._dimensions.clear()
        if self._transform is not None:
            self._transform.clear()

    def _on_own_stack(self, record: Record, box: list[Any], release: Any) -> None:
        own = self._transform
        try:
            box.append(self._fan_out(record) if own is None else own.fan_out(record, self._fan_out))
        except RecursionError:
            box.append(DecodeError("limits.depth", "nested deeper than a fresh stack allows"))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            box.append(error)
        finally:
            release()

    def _fan_out(self, record: Record, *, sift: bool = True) -> FanOut:  # noqa: C901, PLR0911, PLR0912, PLR0915 - in one: two calls cost 2 % of a small bundle
        if record.closed:
            raise DecodeError(record.closed_for, record.closed)
        if record.held:
            record = unheld(record, self.settings.limits)
        if record.only and record.names != self.settings.field_names:
            raise DecodeError("record.names", f"its points were counted with engine.field_names = {record.names!r}")
        if record.value is None:
            return Output(0, {}, Pieced([]), tuple, (), skipped={"record.tombstone": 1})
        if record.rows:
            return rows_again(record.value, self._paths.path, self.settings.limits.row_bytes)
        again = record.only is not None or record.below
        bundle, codec, size = self._decode(record.value, sift=sift and not again)
        noted = bundle.noted
        sent = n = len(bundle.times)
        left = b""  # ordinals of what a sieve left

        # How lines begin.
        seed, fixed = self._topics.get(record.topic) or self._topic(record.topic)
        shaping: Shaping | None = self.shaping
        shaped: Shaped | None = None
        dropped: dict[str, int] = {}
        if shaping is not None:
            sifted = bundle.sifted
            if sifted:
                sent, left, dropped = sifted
                if not n:
                    return Output(0, noted, Pieced([]), tuple, (), sent, _dropped=dropped)
            left_to_do = shaping.pieces.possible if sifted is None else shaping.pieces.behind_sieve
            if left_to_do:
                shaped = shaping.shape(bundle, fixed)
        if shaped is not None:
            bundle, fixed = shaped.bundle, shaped.fixed
            if shaped.verdicts and not (shaped.rows or bundle.left_out or again):
                # No row: whatever else is wrong with a point that is dropped does not matter.
                note_series(bundle.series, noted)
                return self._sift(0, noted, Pieced([]), (bundle, [], [], {}), shaped, None, None)
        if record.identity is None:
            identity = seed.copy()
            identity.update(COORDINATES.pack(record.partition, record.offset, record.timestamp))
            row_id = hexlify(identity.digest())
        else:
            row_id = bundle_id(self.settings.source_id, *record.identity).encode()
        texts = bundle.texts
        begins: list[bytes] = []
        org_keys: list[str] = []
        orgs: list[bytes] = []
        for series in bundle.series:
            resource, scope, points = series.resource, series.scope, series.stop - series.start
            org = fixed or resource.org
            org_piece, org_key = self._orgs.get(org) or self._org(org)
            org_keys.append(org_key)
            orgs.append(org_piece)
            begin = b"".join((org_piece, resource.piece, scope.piece, b'"rowId":"', row_id, b":"))
            begins += [begin] if texts else [begin] * points
            if resource.noted or scope.noted:
                for what, each in (*resource.noted.items(), *scope.noted.items()):
                    noted[what] = noted.get(what, 0) + each * points

        # A piece of time for each point; empty where the time makes no row, which is then a fault.
        faults: dict[int, str] = {}
        ended, began, moments = bundle.times, bundle.starts, bundle.moments
        if moments:
            time_runs = [self._times[time, start] for time, start, _ in moments]
            time_stops = [stop for _, _, stop in moments]
            times, fine = each_of(time_runs, time_stops), all(time_runs)
        elif n and ended.count(ended[0]) == n and began.count(began[0]) == n:
            piece = time_piece(ended[0], began[0])
            time_runs, time_stops = [piece], [n]
            times, fine = [piece] * n, bool(piece)
        else:
            times = time_runs = self._times.of(bundle)
            time_stops, fine = [], all(times)
        if left and not (fine and all(org_keys)):
            return self._fan_out(record, sift=False)  # what is wrong is told by its place among all points
        if not fine:
            fallback = record.timestamp if self.settings.time_fallback == "record" else 0
            judge_times(bundle, times, faults, self._times, fallback)
            time_runs, time_stops = times, []

        lines: Lines
        keys, tails = None, bundle.tails
        if self._dimensions is not None:
            keys = self._dimensions.keys(bundle, orgs, org_keys, times)
            begins, tails = keys.begins(row_id), keys.tails
        if texts:
            heads = [head.piece for head in bundle.heads]
            ends = [series.stop for series in bundle.series] if keys is None else keys.stops
            time_stops = time_stops or list(range(1, n + 1))
            lines = Woven(begins, ends, heads, bundle.stops, time_runs, time_stops, texts, tails, self._weave)
            lines.kept = left
            lines = lines if self._weave is not None else lines.pieced()
        else:
            encoded = encode(bundle.values)[1:-1]
            values = encoded.split(b",") if n else []
            if bundle.odd:
                apply_odd(bundle.odd, times, values, faults)
            if _U in encoded:  # null: a value that is missing, NaN or infinite
                judge_values(bundle.values, faults)
            pieces = blank(n)
            pieces[::6] = begins if keys is None else each_of(begins, keys.stops)
            pieces[2::6] = bundle.metrics
            pieces[3::6] = times
            pieces[4::6] = values
            pieces[5::6] = tails
            lines = Pieced(pieces)
        if "" in org_keys:  # behind the values: the first reason that is found stays
            judge_orgs(bundle, org_keys, faults)
        # Rows need not be measured one by one. A line holds a text of the payload three times at most (deviceId,
        # deviceName, resource), escaped to six bytes for one; and the largest of each kind of piece bounds all lines.
        limit = self._row_bytes
        if bundle.odd or (
            size > self._short
            and codec.largest + (shaping.pieces.largest if shaping else 0) + self._largest_org + _UNCACHED > limit
        ):
            if left:
                return self._fan_out(record, sift=False)
            lines = lines.pieced() if isinstance(lines, Woven) else lines
            judge_sizes(lines.pieces, limit, faults)
            if keys is not None:
                keys.judge_sizes(limit, faults)
        ordinals: Sequence[int] = ()
        if again:
            ordinals = placing.select(record, codec, bundle, faults, self.settings.limits)
            lines = lines.pieced() if isinstance(lines, Woven) else lines
            lines.number(ordinals)
        of = bundle, org_keys, times, faults
        made = row_id, orgs, left or ordinals
        if shaped is not None and shaped.verdicts and shaping is not None:
            if not (faults or bundle.left_out or ordinals):
                return self._sift(shaped.rows, noted, lines.only(shaped.verdicts), of, shaped, made, keys)
            dropped = kept.drop(shaped.verdicts, shaping.names, faults)
        if bundle.left_out:
            note_parts(bundle.left_out, faults, noted)
        if not faults:
            runs, lost, unknown = self._paths.runs, bundle.lost, bundle.unknown
            return Output(n, noted, lines, runs, of, sent, lost, unknown, _made=made, _dropped=dropped, _keys=keys)
        lines = lines.pieced() if isinstance(lines, Woven) else lines
        ordinals = ordinals or range(n)
        rejected = [at for at in sorted(faults) if faults[at] and faults[at] not in SKIPS]
        if record.below and rejected:
            rejected = placing.kept_apart(record, codec, bundle, rejected, faults, self.settings.limits)
        return Output(
            n - len(faults),
            noted,
            lines.without(faults),
            self._paths.runs,
            of,
            n,
            bundle.lost,
            bundle.unknown,
            dict(Counter(reason for reason in faults.values() if reason in SKIPS)),
            tuple((ordinals[at], faults[at]) for at in rejected),
            placing.Why(codec, record.value, rejected, faults, ordinals, self.settings.limits) if rejected else None,
            made,
            dropped,
            keys,
        )

    def _sift(
        self, rows: int, noted: dict[str, int], lines: Lines, of: Any, shaped: "Shaped", made: Any, keys: Any
    ) -> FanOut:
        """What is left of a bundle in which nothing is wrong. Apart, for only engines with rules need it."""
        bundle, names = shaped.bundle, [] if self.shaping is None else self.shaping.names
        return self._sifted(
            rows,
            noted,
            lines,
            self._paths.runs,
            of,
            len(bundle.times),
            bundle.lost,
            bundle.unknown,
            _made=made,
            _keys=keys,
            _verdicts=shaped.verdicts,
            _drops=shaped.drops,
            _names=names,
        )

    def _larger(self, largest: int) -> None:
        """Pieces that rules make became so large together: rows of any payload may be too long then."""
        if largest > self._row_bytes // 8:
            self._short = -1

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
        piece = org_piece(org, key)
        self._largest_org = max(self._largest_org, len(piece))
        if len(self._orgs) >= _SMALL:
            self._orgs.clear()
        if len(org) <= _SMALL:  # longer ones are nobody's organization, and would fill memory
            self._orgs[org] = piece, key
        return piece, key
