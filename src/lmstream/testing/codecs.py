"""The conformance suite of codecs: what lmstream.interfaces.Codec promises, of its own bytes and of any others."""

import contextlib
import json
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from random import Random
from types import ModuleType
from typing import Any, ClassVar, Final

import msgspec

from lmstream.codecs.checking import misfit
from lmstream.engine import Engine, bundle_id
from lmstream.engine.own_reasons import fits
from lmstream.errors import REASONS, ConfigError, DecodeError
from lmstream.interfaces import Bundle, Codec
from lmstream.model import RowEvent
from lmstream.settings import Settings
from lmstream.testing import samples
from lmstream.testing.suite import Suite

_MODULE: Final = "lmstream_codec_under_test"
_ANYTHING: Final = (
    b"", b"\0", b"\xff\xfe", b"{", b"[]", b"null", b'{"resourceMetrics":[]}', b"\n", b"a,b,c\n" * 50, b"<x/>",
    b"\x1f\x8b", b"[" * 5_000, b'{"x":' * 5_000, "\ud7ff\U0001f600\u2028".encode(), bytes(range(256)), b"9" * 5_000,
    b"-1e999", b"NaN",
)  # fmt: skip
"""What comes to a topic besides."""


class CodecConformance(Suite):
    """Subclass it as `TestMyCodec`, and write `make` and `samples`; pytest does the rest."""

    settings: ClassVar[Settings] = Settings(org_id="acme")
    """Of the engine; `format` is put in."""
    mutations: ClassVar[int] = 1_500
    """How many damaged payloads are tried."""

    def make(self, settings: Settings) -> Codec:
        """A codec of yours, as your module's `Codec` is called."""
        raise NotImplementedError("write make(settings): your module's Codec(settings)")

    def samples(self) -> Mapping[bytes, int]:
        """Payloads that your codec reads, with the number of data points in each, refused ones too. The more kinds
        there are, the more the damaged ones find."""
        raise NotImplementedError("write samples(): {payload: data points in it}")

    def test_no_point_is_lost_and_the_columns_fit(self) -> None:
        """Each data point has its place, whether it becomes a row or not."""
        codec = self.make(self.settings)
        for payload, points in self._samples().items():
            bundle = _decoded(codec, payload)
            wrong = misfit(bundle)
            assert not wrong, f"{_shown(payload)}: the codec {wrong}"
            assert len(bundle.times) == points, (
                f"{_shown(payload)}: {len(bundle.times)} data points, and {points} are in it"
            )

    def test_rows_are_of_the_contract(self) -> None:
        """Pieces are JSON that fits together: no member twice, none that rows do not have, ids that lmstream gave."""
        engine = self._engine()
        for offset, (payload, points) in enumerate(self._samples().items()):
            record = samples.record(offset, payload)
            out = engine.fan_out(record)
            judged = out.rows + sum(out.skipped.values()) + sum(out.dropped.values()) + len(out.rejected)
            assert (out.points, judged) == (points, points), (
                f"{_shown(payload)}: {judged} of {points} points were judged"
            )
            lines = out.ndjson().split(b"\n")
            assert lines.pop() == b"", f"{_shown(payload)}: the last row has no newline"
            assert len(lines) == out.rows, (
                f"{_shown(payload)}: {len(lines)} lines for {out.rows} rows: a piece has a newline"
            )
            refused = {ordinal for ordinal, _ in out.rejected}
            left = [n for n in range(points) if n not in refused]
            name = bundle_id(self.settings.source_id, *record.identified)
            for line in lines:
                row = _row(line)
                bundle, _, ordinal = row.row_id.partition(":")
                known = bundle == name and int(ordinal) in left
                assert known, f"a row has an id that is not lmstream's: {line[:300]!r}"
                left.remove(int(ordinal))

    def test_any_bytes_are_a_bundle_or_a_decode_error(self) -> None:
        """One strange record must not stop a run. RecursionError is allowed too: lmstream retries on a deeper stack."""
        codec = self.make(self.settings)
        reasons: set[str] = set()
        for payload in (*_ANYTHING, *self._damaged()):
            try:
                bundle = codec.decode(payload)
            except DecodeError as error:
                reasons.add(error.reason)
            except RecursionError:
                pass
            except ConfigError as error:
                raise AssertionError(f"{_shown(payload)}: needs an extra: {error}") from error
            except Exception as error:
                said = f"{_shown(payload)}: {type(error).__name__}: {error}"
                raise AssertionError(f"{said}; a codec raises DecodeError for bytes that it cannot read") from error
            else:
                wrong = misfit(bundle)
                assert not wrong, f"{_shown(payload)}: the codec {wrong}"
        odd = [each for each in reasons if each not in REASONS and not fits(each)]
        assert not odd, f"a reason looks like `name.word`, in lower case and short, not {odd[0]!r}"
        assert len(reasons) < 100, f"{len(reasons)} reasons: each is a label of metrics; put what varies into the words"

    def test_the_same_bytes_give_the_same_rows(self) -> None:
        """Whatever came before: row ids are of ordinals, and a replay must find the same ones."""
        first = {payload: self._lines(self._engine(), payload) for payload in self._samples()}
        engine = self._engine()
        for payload in (*self._damaged(200), *first):
            with contextlib.suppress(DecodeError):
                engine.fan_out(samples.record(0, payload))
        for when in ("after damaged payloads", "a second time", "after clear()"):
            for payload, lines in first.items():
                assert self._lines(engine, payload) == lines, f"{_shown(payload)}: other rows {when}"
            if when == "a second time":
                engine.clear_caches()

    def test_bundles_share_nothing_that_the_engine_adds_to(self) -> None:
        """`noted` and `left_out` are counted up for each record: a shared one counts those of others."""
        codec = self.make(self.settings)
        for payload in self._samples():
            one, two = _decoded(codec, payload), _decoded(codec, payload)
            for name in ("noted", "left_out", "odd"):
                assert getattr(one, name) is not getattr(two, name), (
                    f"two bundles have the same `{name}`: make a new dict each time"
                )

    def test_largest_bounds_the_pieces_of_every_row(self) -> None:
        """The engine measures rows one by one only where this says that one may be too large."""
        codec = self.make(self.settings)
        for payload in self._samples():
            bundle = _decoded(codec, payload)
            for size in _sizes(bundle):
                assert size <= codec.largest, (
                    f"{_shown(payload)}: pieces of {size} bytes, and `largest` is {codec.largest}"
                )

    def test_every_point_can_be_named(self) -> None:
        """Dead letters say where a refused point is: `places` has one for each, in order."""
        codec = self.make(self.settings)
        for payload, points in self._samples().items():
            places = list(codec.places(payload))
            assert len(places) == points, f"{_shown(payload)}: {len(places)} places for {points} data points"
            for place in places:
                assert place.path, f"{_shown(payload)}: a place without a path"
                assert isinstance(place.cause("value.missing"), str), f"{_shown(payload)}: a cause is words, maybe none"

    # What the checks use

    def _samples(self) -> Mapping[bytes, int]:
        found = self.samples()
        assert found, "samples() is empty: give at least one payload"
        assert b"" not in found, "an empty payload is no sample: lmstream refuses it before a codec sees it"
        return found

    def _engine(self) -> Engine:
        module = ModuleType(_MODULE)
        module.Codec = self.make  # type: ignore[attr-defined]
        sys.modules[_MODULE] = module
        try:
            return Engine(msgspec.structs.replace(self.settings, format=_MODULE))
        finally:
            del sys.modules[_MODULE]

    def _lines(self, engine: Engine, payload: bytes) -> bytes:
        return engine.fan_out(samples.record(0, payload)).ndjson()

    def _damaged(self, most: int | None = None) -> Iterator[bytes]:
        """Samples that were cut, flipped, spliced and repeated; the same ones each time."""
        draw = Random(1)
        some = sorted(self._samples())
        for _ in range(self.mutations if most is None else most):
            data = bytearray(draw.choice(some))
            for _ in range(draw.randint(1, 4)):
                _damage(data, draw, draw.choice(some))
            yield bytes(data)


def _damage(data: bytearray, draw: Random, other: bytes) -> None:
    at = draw.randint(0, len(data))
    how = draw.randint(0, 5)
    if how == 0:
        del data[at:]
    elif how == 1:
        del data[at : at + draw.randint(1, 9)]
    elif how == 2 and at < len(data):
        data[at] = draw.randrange(256)
    elif how == 3:
        data[at:at] = draw.randbytes(draw.randint(1, 5))
    elif how == 4:
        data[at:at] = other[draw.randint(0, len(other)) :]
    else:
        data[at:at] = draw.choice(
            [b"\xff", b"\0", b"-", b"1e400", b"\n", b'"', b"99999999999999999999", b"[", b"{", b","]
        )


def _decoded(codec: Codec, payload: bytes) -> Bundle:
    try:
        return codec.decode(payload)
    except Exception as error:
        raise AssertionError(
            f"{_shown(payload)} is a sample, and {type(error).__name__} was raised: {error}"
        ) from error


def _row(line: bytes) -> RowEvent:
    try:
        json.loads(line, object_pairs_hook=_once)
        return msgspec.json.decode(line, type=RowEvent)
    except (ValueError, msgspec.DecodeError) as error:
        raise AssertionError(f"not a row of the contract: {error}: {line[:500]!r}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the member {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _sizes(bundle: Bundle) -> Iterator[int]:
    for series in bundle.series:
        shared = len(series.resource.piece) + len(series.scope.piece)
        for at in range(series.start, series.stop):
            # The native part leaves pieces by point out: they are those of the metric that has the point.
            metric = bundle.metrics[at] if bundle.metrics else bundle.heads[bisect_right(bundle.stops, at)].piece
            yield shared + len(metric) + len(bundle.tails[at])


def _shown(payload: bytes) -> str:
    return repr(payload if len(payload) <= 80 else payload[:77] + b"...")
