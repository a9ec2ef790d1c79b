"""Objects beside those of windows: what replays of dead letters gave, and what compactions put together."""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from lmstream.bounded import BoundError
from lmstream.lake.claims import CLAIM_BYTES
from lmstream.lake.compactions import Compaction
from lmstream.lake.replays import Replay
from lmstream.lake.replays import name as name_of_replay
from lmstream.storage.by_key import Keyed, ahead
from lmstream.verification.lake.chain import Faults, Reader
from lmstream.verification.lake.copies import Copies, Numbers
from lmstream.verification.lake.judgement import Judgement, sample
from lmstream.verification.lake.object_rows import Id, Seen

T = TypeVar("T", bound=Struct)
Look = Callable[[str, Callable[[list[Id]], None]], Seen | None]
"""What an object holds, by its key; its ids are given away."""
_MOST: Final = 64_000_000
_REPLAYS: Final = "replays"
_COMPACTIONS: Final = "compactions"


class Beside:
    """Judges replays and compactions, once the windows are judged."""

    def __init__(
        self,
        rows: Keyed,
        reader: Reader,
        both: tuple[Judgement, Judgement],
        named: Numbers,
        copies: Copies,
        faults: Faults,
        look: Look,
    ) -> None:
        """`both` are of rows and of dimension rows. `named` has the keys that claims name, and those of here in the
        end."""
        self._rows, self._reader, (self._judgement, self._dimensions) = rows, reader, both
        self._both = both
        self._named, self._copies, self._faults, self._look = named, copies, faults, look
        self._covered = Numbers(_MOST)

    def replays(self, *, settled: bool) -> None:
        """Judge what replays gave. Unless it is `settled`, what is missing is in flight."""
        judgement = self._judgement
        for key, replay in self._each(_REPLAYS, Replay):
            judgement.sums.replays += 1
            extension = self._reader.extension_of(replay.layout)
            self._dimensions_of(replay, extension, settled=settled)
            objects = [(name_of_replay(replay, entry, extension), entry) for entry in replay.objects]
            whole = [self._rows.meta(at) is not None for at, _ in objects]
            if not all(whole) and not settled:
                judgement.sums.open += 1
            odd = 0

            def note(ids: list[Id], replay: Replay = replay) -> None:
                nonlocal odd
                self._copies.note(ids)
                known = self._copies.records
                if replay.ordinals is None:
                    odd += sum(hash(bundle) in known for bundle, _ in ids)
                elif not replay.parts:
                    odd += sum(ordinal not in replay.ordinals for _, ordinal in ids)

            for (at, entry), there in zip(objects, whole, strict=True):
                self._named.add(hash(at))
                if not there and not settled:
                    judgement.waits(_REPLAYS, entry)
                else:
                    judgement.entry(_REPLAYS, replay.sequence, at, entry, self._look(at, note), None)
            twice, names = self._copies.end(across=False)
            judgement.tally(_REPLAYS).duplicate += twice + odd
            for each in [*names, *([f"{odd:,} rows that the letter does not have"] if odd else [])]:
                sample(judgement.sums.copies, f"{key}: {each}")

    def _dimensions_of(self, replay: Replay, extension: str, *, settled: bool) -> None:
        for entry in replay.dimensions:
            at = name_of_replay(replay, entry, extension)
            self._named.add(hash(at))
            if settled or self._rows.meta(at) is not None:
                self._dimensions.entry(_REPLAYS, replay.sequence, at, entry, self._look(at, _nobody), None)

    def compactions(self, lane_of: Callable[[str], str]) -> None:
        """Judge what was put together: rows of windows whose objects have none any more. `lane_of` answers the lane of
        an object of a window. Of a path the newest manifest comes first, so what it replaced is known by then."""
        for key, compaction in self._each(_COMPACTIONS, Compaction):
            judgement = self._judgement
            judgement.sums.compactions += 1
            self._named.add(hash(compaction.key))
            if _token(compaction.key, compaction.rows, compaction.digest) in self._covered:
                seen = self._look(compaction.key, lambda _: None)
                holds = True  # a later one has its rows
                if seen is not None and seen.rows:
                    self._twice(compaction.key, seen.rows)
            else:
                seen = self._look(compaction.key, _nobody if self._of_dimensions(compaction) else self._copies.note)
                twice, names = self._copies.end(across=False)
                judgement.tally(_COMPACTIONS).duplicate += twice
                for each in names:
                    sample(judgement.sums.copies, f"{compaction.key}: {each}")
                holds = seen is not None and (seen.rows, seen.digest) == (compaction.rows, compaction.digest)
                if seen is not None and not holds:
                    judgement.spoilt(key, compaction.key, compaction.rows, seen)
            if holds:
                self._replaced(compaction, lane_of)

    def _of_dimensions(self, compaction: Compaction) -> bool:
        """Whether it put dimension rows together."""
        return compaction.path in self._dimensions.paths

    def _replaced(self, compaction: Compaction, lane_of: Callable[[str], str]) -> None:
        for each in compaction.replaces:
            token = _token(each.key, each.rows, each.digest)
            self._covered.add(token)
            if (
                any(one.covered(token, each.key, each.rows, lane_of(each.key)) for one in self._both)
                or hash(each.key) not in self._named
            ):
                continue
            seen = self._look(each.key, lambda _: None)
            if seen is not None and seen.rows:
                self._twice(each.key, seen.rows)

    def _twice(self, key: str, rows: int) -> None:
        self._judgement.tally(_COMPACTIONS).duplicate += rows
        what = f"{key}: its {rows:,} rows lie in a larger object too: run `lmstream lake compact` to finish that"
        sample(self._judgement.sums.copies, what)

    def _each(self, kind: str, of: type[T]) -> Iterator[tuple[str, T]]:
        """Manifests of one kind; what cannot be read is a fault."""
        decoder = msgspec.json.Decoder(of)
        place = self._reader.place

        def read(key: str) -> T | str:
            try:
                data = place.read(key, CLAIM_BYTES)
                return "it is gone" if data is None else decoder.decode(data)
            except (msgspec.MsgspecError, RecursionError, BoundError) as error:
                return str(error)

        for key, found in ahead((key for key, _ in place.keys(f"{kind}/")), read):
            if isinstance(found, str):
                self._faults.add(f"{place.name}{key} cannot be read: {found}")
            else:
                yield key, found


def _nobody(_: list[Id]) -> None:
    """Windows share dimension rows: one that lies in two is no copy."""


def _token(key: str, rows: int, digest: str) -> int:
    return hash((key, rows, digest))
