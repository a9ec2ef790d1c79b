"""What rows repeat, said once an hour: rows carry keys, and dimension rows say what the keys stand for.

A dimension is the part of a row that its resource, its scope or the attributes of its point fill: their maps, and the
fields that come from them. Its key is a hash of it, so that who makes the key needs to know nothing of others. A row's
keys have their dimension rows in the row's own hour and organization: no other hour is needed to read it.

Attributes of a scope that vary by poll stay in the row: LMDP's `epoch`, and those that the settings name. The epoch
is left out where it is the row's time, as LMDP's is: the dimension then says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import groupby
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, structs

from lmstream.codecs import fragments
from lmstream.codecs.fragments import PieceCache, encode
from lmstream.engine.dimension_line import DimensionLine
from lmstream.engine.kept import Range, rows_up_to, within
from lmstream.engine.keyed_pieces import Dimension, Keyed, by_name, keyed_piece, keyed_resource, keyed_tail
from lmstream.engine.pool_values import ScopeOf
from lmstream.engine.timestamps import HOUR
from lmstream.errors import PluginError
from lmstream.interfaces import Bundle, Scope
from lmstream.model import DIMENSIONS, dimension_path
from lmstream.partitioning import path_renderer
from lmstream.settings import Settings

EPOCH: Final = "epoch"
BY_TIME: Final = "{tsUnixMs}"
"""Epoch of a dimension, where that of each row is its tsUnixMs. No other epoch is ever in a dimension."""
_DIGITS: Final = 13
_NO_EPOCH: Final = b"0" * _DIGITS
_MS: Final = slice(43, 43 + _DIGITS)
"""Where a time piece has tsUnixMs."""
_LINES: Final = 4 * 1024 * 1024  # of dimension rows that are remembered
_SHAPES: Final = 1024
"""Records whose dimension rows are remembered together, and pieces of the largest of them."""
OWN: Final = 300
"""Bytes of a dimension row beside organization and members, at most."""

_SCOPE: Final = msgspec.json.Decoder(ScopeOf)


class _ScopeKeys(Struct, frozen=True):
    """What becomes of a scope."""

    whole: Keyed
    """Its piece where rows say nothing of the epoch: it has none, or rows have it as their time."""
    epoch: bytes = b""
    """13 digits; empty when `whole` is for all rows."""
    before: bytes = b""
    behind: bytes = b""
    """What stands around the epoch where it is not the rows' time."""
    dimension: Dimension | None = None
    """Of that."""

    def piece(self, ms: bytes) -> Keyed:
        """The piece of rows with this time, 13 digits of tsUnixMs."""
        if not self.epoch or self.epoch == ms:
            return self.whole
        made = Keyed(b"".join((self.before, self.epoch, self.behind)))
        made.dimension = self.dimension
        return made


class Run(NamedTuple):
    """Consecutive points with the same pieces."""

    stop: int
    """The point behind the last one."""
    org: bytes
    org_key: str
    resource: Keyed
    scope: Keyed


class Dimensions:
    """The dimensions of one engine. `keys` is called for each bundle."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a path template that cannot be used."""
        budget = settings.limits.cache_bytes // 8
        self._format = settings.format
        self._varying = frozenset(settings.varying)
        self._render = path_renderer(structs.replace(settings, path=dimension_path(settings.path)))
        self._resources = PieceCache(keyed_resource, budget)
        self._tails = PieceCache(keyed_tail, budget)
        self._scopes = PieceCache(self._scope, budget // 2)
        self._frames = PieceCache(self._frame, budget // 2)
        self._shapes: dict[tuple[bytes, ...], list[DimensionLine]] = {}
        self._lines: dict[tuple[bytes, bytes, bytes], DimensionLine] = {}
        self._used = 0

    def keys(self, bundle: Bundle, orgs: list[bytes], org_keys: list[str], times: list[bytes]) -> "Keys":
        """The keyed pieces of a bundle of which the times are judged. `orgs` are how the lines of each series begin.
        Raises PluginError for a piece of somebody else's codec that is no part of a row."""
        try:
            alike = bool(times) and times.count(times[0]) == len(times)
            runs: list[Run] = []
            for series, org, org_key in zip(bundle.series, orgs, org_keys, strict=True):
                resource, scope = self._resources[series.resource.piece], self._scope_of(series.scope)
                start, stop = series.start, series.stop
                if not scope.epoch or alike or _alike(times, start, stop):
                    ms = times[start][_MS] if scope.epoch and start < stop else b""
                    runs.append(Run(stop, org, org_key, resource, scope.piece(ms)))
                    continue
                of_time, other = scope.whole, scope.piece(b"")
                for is_time, some in groupby([piece[_MS] == scope.epoch for piece in times[start:stop]]):
                    start += len(list(some))
                    runs.append(Run(start, org, org_key, resource, of_time if is_time else other))
            return Keys(self, runs, list(map(self._tails.__getitem__, bundle.tails)))
        except msgspec.MsgspecError as error:
            raise PluginError(self._format, f"returned a piece that is no part of a row: {error}") from error

    def known(self, run: Run, hour: bytes, tails: list[Keyed]) -> list[DimensionLine]:
        """The rows of the dimensions of one run: polls repeat them, until the hour is over."""
        key = (run.org, hour, run.resource, run.scope, *tails)
        found = self._shapes.get(key)
        if found is None:
            pieces = dict.fromkeys((run.resource, run.scope, *tails))
            found = list(dict.fromkeys(self.lines(run.org, run.org_key, hour, pieces)))
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            if len(key) < _SHAPES:
                self._shapes[key] = found
        return found

    def lines(self, org: bytes, org_key: str, hour: bytes, pieces: Iterable[Keyed]) -> Iterator[DimensionLine]:
        """The rows of the dimensions of some pieces, in their order."""
        for piece in pieces:
            if piece.dimension is not None:
                yield self.line(org, org_key, hour, piece.dimension)

    def line(self, org: bytes, org_key: str, hour: bytes, dimension: Dimension) -> DimensionLine:
        """The row of a dimension. `org` is how lines of the organization begin; `hour` is as yyyy-MM-ddTHH."""
        found = self._lines.get((org, hour, dimension.key))
        if found is None:
            found = self._line(org, org_key, hour, dimension)
            self._used += 2 * len(found.line) + 512
            if self._used > _LINES:
                self._lines.clear()
                self._shapes.clear()
                self._used = 2 * len(found.line) + 512
            self._lines[org, hour, dimension.key] = found
        return found

    def path(self, org_key: str, hour: str) -> str:
        """Where dimension rows lie: see model.dimension_path."""
        return self._render(org_key, DIMENSIONS, hour)

    def clear(self) -> None:
        """Forget everything remembered."""
        for each in (self._resources, self._scopes, self._frames, self._tails):
            each.empty()
        self._shapes.clear()
        self._lines.clear()
        self._used = 0

    def _line(self, org: bytes, org_key: str, hour: bytes, dimension: Dimension) -> DimensionLine:
        moment = f"{hour.decode()}:00:00.000Z"
        seed = b"\0".join((b"lmstream-dimension1", org, hour, dimension.key))
        line = b"".join((
            org,
            b'"rowId":"%b:0",' % blake2b(seed, digest_size=16).hexdigest().encode(),
            b'"metricKey":"%b",' % DIMENSIONS.encode(),
            b'"ts":"%b","tsUnixMs":%d,' % (moment.encode(), int(datetime.fromisoformat(moment).timestamp()) * 1000),
            b'"dimension":"%b","key":"%b",' % (dimension.kind.encode(), dimension.key),
            dimension.members,
            b"}\n",
        ))  # fmt: skip
        return DimensionLine(self.path(org_key, hour.decode()), dimension.kind, dimension.key.decode(), line)

    def _scope_of(self, scope: Scope) -> _ScopeKeys:
        keys = self._frames[scope.frame] if scope.frame else None
        if keys is None or not keys.epoch:
            return self._scopes[scope.piece]
        epoch = scope.epoch if isinstance(scope.epoch, bytes) else scope.epoch.encode()
        return _ScopeKeys(keys.whole, epoch, keys.before, keys.behind, keys.dimension)

    def _frame(self, frame: bytes) -> tuple[_ScopeKeys, int]:
        """Of a scope in any poll; without an epoch where its zeros may be something else."""
        said = _SCOPE.decode(b"{%b}" % frame[:-1])
        if said.scope.get(EPOCH) != _NO_EPOCH.decode() or frame.count(_NO_EPOCH) != 1:
            return _ScopeKeys(Keyed()), 0
        return self._keys(said)

    def _scope(self, piece: bytes) -> tuple[_ScopeKeys, int]:
        return self._keys(_SCOPE.decode(b"{%b}" % piece[:-1])) if piece else (_ScopeKeys(Keyed()), 0)

    def _keys(self, said: ScopeOf) -> tuple[_ScopeKeys, int]:
        epoch = said.scope.get(EPOCH)
        stays = {name: text for name, text in by_name(said.scope) if name in self._varying and name != EPOCH}
        shared = {name: text for name, text in said.scope.items() if name not in stays and name != EPOCH}

        def keyed(shared: dict[str, str], stays: dict[str, str]) -> Keyed:
            members = fragments.scope_piece(said.datasource, dict(by_name(shared)))[:-1]
            scope = b'"scope":%b,' % encode(dict(by_name(stays))) if stays else b""
            return keyed_piece(b'"scopeKey":"%b",' + scope.replace(b"%", b"%%"), Dimension.of("scope", members))

        if epoch is None:
            made = _ScopeKeys(keyed(shared, stays))
        elif len(epoch) != _DIGITS or not (epoch.isascii() and epoch.isdigit()):
            made = _ScopeKeys(keyed(shared, stays | {EPOCH: epoch}))
        else:
            other = keyed(shared, stays | {EPOCH: epoch})
            before, mark, behind = other.rpartition(b'"%b":"' % EPOCH.encode())
            by_time = keyed(shared | {EPOCH: BY_TIME}, stays)
            made = _ScopeKeys(by_time, epoch.encode(), before + mark, behind[_DIGITS:], other.dimension)
        return made, 4 * len(said.datasource) + 4 * sum(len(name) + len(text) for name, text in said.scope.items())


class Keys(Struct, gc=False):
    """The keyed pieces of one bundle."""

    _of: Dimensions
    runs: list[Run]
    tails: list[Keyed]
    """Of each point."""

    @property
    def stops(self) -> list[int]:
        """The point behind the last one of each run."""
        return [run.stop for run in self.runs]

    def begins(self, row_id: bytes) -> list[bytes]:
        """How the lines of each run begin."""
        return [b"".join((run.org, run.resource, run.scope, b'"rowId":"', row_id, b":")) for run in self.runs]

    def judge_sizes(self, limit: int, faults: dict[int, str]) -> None:
        """Points with a dimension whose own row is longer than `limit` bytes."""
        at = 0
        for run in self.runs:
            most = limit - len(run.org) - OWN
            over = _longer(run.resource, most) or _longer(run.scope, most)
            while at < run.stop:
                if over or _longer(self.tails[at], most):
                    faults.setdefault(at, "row.too_large")
                at += 1

    def only(self, kept: Sequence[Range]) -> "Keys":
        """Those of the points in these ranges."""
        ends = rows_up_to(self.stops, kept)
        runs = zip(self.runs, (0, *ends), ends, strict=False)
        left = [run._replace(stop=after) for run, before, after in runs if after > before]
        return Keys(self._of, left, within(self.tails, kept))

    def lines(self, times: list[bytes], faults: dict[int, str]) -> list[DimensionLine]:
        """The dimension rows that the rows of the bundle need, each once: by organization and hour, there in document
        order. `times` are of its points; those of `faults` make no rows."""
        if times and len(self.runs) == 1 and not faults and times.count(times[0]) == len(times):
            return self._of.known(self.runs[0], times[0][HOUR], self.tails)
        needed: dict[tuple[bytes, str, bytes], dict[Keyed, None]] = {}
        start = 0
        for run in self.runs:
            for hour, tails in self._by_hour(start, run.stop, times, faults):
                pieces = needed.setdefault((run.org, run.org_key, hour), {})
                pieces[run.resource] = pieces[run.scope] = None
                pieces.update(dict.fromkeys(tails))
            start = run.stop
        return list(dict.fromkeys(line for at, pieces in needed.items() for line in self._of.lines(*at, pieces)))

    def _by_hour(
        self, start: int, stop: int, times: list[bytes], faults: dict[int, str]
    ) -> Iterable[tuple[bytes, list[Keyed]]]:
        """The tails of rows among these points, by hour."""
        if not faults:
            hours = {piece[HOUR] for piece in set(times[start:stop])}
            if len(hours) == 1:
                return [(hours.pop(), self.tails[start:stop])]
        found: dict[bytes, list[Keyed]] = {}
        for at in range(start, stop):
            if at not in faults:
                found.setdefault(times[at][HOUR], []).append(self.tails[at])
        return found.items()


def _alike(times: list[bytes], start: int, stop: int) -> bool:
    some = times[start:stop]
    return not some or some.count(some[0]) == len(some)


def _longer(piece: Keyed, most: int) -> bool:
    return piece.dimension is not None and len(piece.dimension.members) > most
