"""Walk a lake: every claim of every lane, every object of every claim, and every object that no claim names."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from itertools import groupby, pairwise
from typing import Final, Protocol

from lmstream.engine.dimensions import Dimensions
from lmstream.lake.claims import NUMBER, Buried, Claim, Put, name
from lmstream.lake.layout import Layout
from lmstream.storage.by_key import Keyed, ahead
from lmstream.verification.lake.beside import Beside
from lmstream.verification.lake.chain import Faults, Lane, Reader, lanes, refuse_none
from lmstream.verification.lake.copies import Copies, Numbers
from lmstream.verification.lake.judgement import Judgement, Owed, sample
from lmstream.verification.lake.object_rows import Id, Noted, Seen, scattered, seen
from lmstream.verification.lake.orphans import Orphans, Place

_MOST: Final = 64_000_000
"""Objects that are told from unexpected ones: 1 GiB, and half a year of a hundred a minute."""
_NAME: Final = re.compile(rf"(.+)-([0-9]{{{NUMBER},19}})-[0-9]{{3,}}(?:s[0-9]+)?\.")
_STEP: Final = 5.0
"""Seconds between two looks at windows that are open."""

Item = tuple[Claim, str, Put | None]
"""A claim, the key of one of its objects, and what it says of it; None stands for the claim itself, and comes first."""
Watch = Callable[[Iterable[Item]], Iterable[Item]]


class Against(Protocol):
    """What the walk asks about the topic."""

    def wants(self, lane: Lane, claim: Claim) -> bool:
        """Whether a window is to be judged at all."""
        ...

    def owed(self, lane: Lane, claim: Claim) -> Owed | None:
        """What the topic owes this window; None where it cannot say. Asked in the order of the chain."""
        ...


class Walk:
    """One walk. `judgement` has what it found."""

    def __init__(self, rows: Keyed, claims: Keyed, against: Against | None, watch: Watch) -> None:
        """Rows lie at one place and claims at another. `watch` passes the objects through."""
        self._rows, self._against, self._watch = rows, against, watch
        self.faults = Faults()
        self.reader = Reader(claims, self.faults)
        self.judgement = Judgement()
        self.dimensions = Judgement()
        """Of objects with dimension rows: no row of the topic is one."""
        self.orphans = Orphans(self._dimensions_at)
        self.buried: list[tuple[str, str, Buried]] = []
        """Topic, lane and record of each letter that a claim lists."""
        self._copies = Copies()
        self._named = Numbers(_MOST)
        self._lanes: list[Lane] = []
        self._open: list[tuple[Lane, Claim]] = []
        self._extents: dict[tuple[str, str, str, int], list[tuple[int, int, str]]] = {}
        self._stems: dict[str, list[Lane]] = {}
        self._last: tuple[str, int, frozenset[str]] = "", 0, frozenset()
        self._keyed: Layout | None = None
        """Settings of rows with dimensions, when there are any."""

    @property
    def told_apart(self) -> bool:
        """Whether there was room to tell all records and objects apart."""
        return not self._copies.records.full and not self._named.full

    def claimed(self, since: float, begin: Mapping[str, int] | None = None) -> Sequence[Lane]:
        """Look at all claims and what they name; at those alone that were written since then, or from `begin` on, by
        folder of the lane. Answers the lanes."""
        self._lanes = lanes(self.reader.place, since, self.faults, begin)
        refuse_none(self._lanes, self.reader.place)
        for lane in self._lanes:
            self.judgement.sums.lanes += 1
            self.judgement.tally(lane.name)
            self._stems.setdefault(lane.stem, []).append(lane)
            if self.reader.head(lane) is not None:
                self._lane(lane)
        self._overlaps()
        return self._lanes

    def _lane(self, lane: Lane) -> None:
        """Walk one lane from its oldest claim on."""
        fetched = ahead(self._watch(self._items(lane)), lambda item: self._rows.open(item[1]) if item[2] else None)
        for _, some in groupby(fetched, key=lambda each: each[0][0].sequence):
            objects = iter(some)
            (claim, _, _), _ = next(objects)
            self._note(lane, claim)
            if claim.kind != "window" or not self._wanted(lane, claim):
                continue
            if self._is_open(lane, claim):
                self._open.append((lane, claim))
            else:
                self._judge(lane, claim, objects)

    def _items(self, lane: Lane) -> Iterator[Item]:
        for claim in self.reader.chain(lane):
            # Whatever is missing of an open window may be there at the end of the walk: it is looked at then.
            now = self._wanted(lane, claim) and not self._is_open(lane, claim)
            yield claim, "", None
            for key, entry in self._keys(claim):
                self._named.add(hash(key))
                if now:
                    yield claim, key, entry

    def _wanted(self, lane: Lane, claim: Claim) -> bool:
        return self._against is None or self._against.wants(lane, claim)

    def _keys(self, claim: Claim) -> Iterator[tuple[str, Put]]:
        extension = self.reader.extension_of(claim.layout) if claim.every else ""
        return ((name(claim, entry, extension), entry) for entry in claim.every)

    def _note(self, lane: Lane, claim: Claim) -> None:
        """Take what a claim says beside its objects."""
        sums, tally = self.judgement.sums, self.judgement.tally(lane.name)
        sums.claims += 1
        for partition, span in claim.spans.items():
            at = (lane.source_id, claim.topic, claim.lane.rpartition(".")[0], partition)
            extents = self._extents.setdefault(at, [])
            if extents and extents[-1][2] == lane.name:
                extents[-1] = extents[-1][0], span.end, lane.name
            else:
                extents.append((span.start, span.end, lane.name))
        wanted = self._wanted(lane, claim)
        if claim.kind == "window":
            sums.windows += 1
            tally.bundles += sum(span.records for span in claim.spans.values()) if wanted else 0
        elif claim.kind != "renewed":
            why = claim.why or claim.kind
            sums.jumped[why] = sums.jumped.get(why, 0) + 1
            moved = [
                f"partition {p} {f'from {s.start} to' if s.end > s.start else 'at'} {s.end}"
                for p, s in sorted(claim.spans.items())
                if s.end > s.start or claim.kind in {"start", "barrier"}
            ]
            sample(sums.jumps, f"{lane.name} claim {claim.sequence}: {', '.join(moved)}: {why}")
        if claim.letters and wanted:
            tally.dead_letters += len(claim.letters)
            for each in claim.letters:
                sums.letters[each.reason] = sums.letters.get(each.reason, 0) + 1
                self.buried.append((claim.topic, lane.name, each))

    @staticmethod
    def _is_open(lane: Lane, claim: Claim) -> bool:
        """Whether its objects need not be there yet."""
        return lane.head is not None and claim.sequence >= lane.head.done

    def _judge(self, lane: Lane, claim: Claim, objects: Iterable[tuple[Item, BufferedReader | None]]) -> None:
        owed = None if self._against is None else self._against.owed(lane, claim)
        of_dimensions = {each.path for each in claim.dimensions}
        self.orphans.begin()
        if of_dimensions and self._keyed is None:
            self._keyed, self.orphans.any = self.reader.layout(claim.layout), True
        for (_, key, entry), opened in objects:
            if entry is not None and entry.path in of_dimensions:
                found = self._seen(key, opened, _nobody)
                self.dimensions.entry(lane.name, claim.sequence, key, entry, found, owed)
            elif entry is not None:
                self.judgement.entry(lane.name, claim.sequence, key, entry, self._whole(key, entry, opened), owed)
        twice, names = self._copies.end()
        self.judgement.tally(lane.name).duplicate += twice
        for each in names:
            sample(self.judgement.sums.copies, f"{lane.name} claim {claim.sequence}: {each}")
        listed = {(entry.path, entry.piece) for entry in claim.every}
        for at, (rows, _) in (owed or {}).items():
            if at not in listed:
                self.judgement.owes(lane.name, claim, at, rows)

    def _whole(self, key: str, entry: Put, opened: BufferedReader | None) -> Seen | None:
        """What an object and its supplements hold."""
        found = self._seen(key, opened, self._copies.note)
        if found is None or not 0 < found.rows < entry.rows:
            return found
        keys = [key]
        path, _, last = key.rpartition("/")
        stem, _, extension = last.partition(".")
        while (opened := self._rows.open(at := f"{path}/{stem}s{len(keys)}.{extension}")) is not None:
            self._named.add(hash(at))
            self._seen(at, opened, self._copies.note)
            keys.append(at)
        return found if len(keys) == 1 else self._together(keys)

    def look(self, key: str, noted: Noted) -> Seen | None:
        """What one object holds; None when it is not there."""
        return self._seen(key, self._rows.open(key), noted)

    def _seen(self, key: str, opened: BufferedReader | None, noted: Noted) -> Seen | None:
        if opened is None:
            return None
        with opened:
            told = self.orphans.told(key) if self.orphans.any else None
            found = seen(opened, f"{self._rows.name}{key}", noted, told)
        # Rows of one record do not lie together.
        return self._together([key]) if found.scattered else found

    def _dimensions_at(self, place: Place, told: Callable[[list[bytes]], None]) -> None:
        """Read all objects with dimension rows of an organization and hour, whoever names them."""
        if self._keyed is None:
            return
        for key, _ in self._rows.keys(Dimensions(self._keyed.settings).path(*place)):
            opened = self._rows.open(key)
            if opened is not None:
                with opened:
                    seen(opened, f"{self._rows.name}{key}", _nobody, told)

    def _together(self, keys: Sequence[str]) -> Seen:
        return scattered((f"{self._rows.name}{key}", self._rows.open(key)) for key in keys)

    def finish(self, settle: float, wait: Callable[[float], None] | None) -> None:
        """Judge the windows at the heads. Those that are not complete are lost after `settle` seconds, for which
        `wait` is called; they are in flight where `settle` is 0 or there is no way to wait."""
        waited = 0.0
        while wait is not None and waited < settle and not all(self._is_complete(claim) for _, claim in self._open):
            step = min(_STEP, settle - waited)
            wait(step)
            waited += step
        for lane, claim in self._open:
            if self._is_complete(claim) or (settle and wait is not None):
                items = ((claim, key, entry) for key, entry in self._keys(claim))
                self._judge(lane, claim, ahead(items, lambda item: self._rows.open(item[1])))
            else:
                self.judgement.sums.open += 1
                for entry in claim.objects:
                    self.judgement.waits(lane.name, entry)

    def _is_complete(self, claim: Claim) -> bool:
        return all(there is not None for _, there in ahead(self._keys(claim), lambda item: self._rows.meta(item[0])))

    def _overlaps(self) -> None:
        """See that each record is in the chain of one lane: none in two, and none between those of two divisions."""
        for (_, topic, _, partition), extents in self._extents.items():
            # A lane may have been begun and never used.
            used = sorted(each for each in extents if each[0] < each[1])
            for before, after in pairwise(used):
                if after[0] < before[1]:
                    what = f"offsets {after[0]} to {min(before[1], after[1]) - 1} of {topic}/{partition}"
                    self.faults.add(f"{what} are in the chains of {before[2]} and of {after[2]}")
                elif after[0] > before[1]:
                    what = f"offsets {before[1]} to {after[0] - 1} of {topic}/{partition}"
                    self.faults.add(f"{what} are in no chain: that of {before[2]} ends before {after[2]} begins")

    def beside(self, settle: float, wait: Callable[[float], None] | None) -> None:
        """Judge replays and compactions, after the windows."""
        both = self.judgement, self.dimensions
        judge = Beside(self._rows, self.reader, both, self._named, self._copies, self.faults, self.look)
        judge.replays(settled=bool(settle) and wait is not None)
        judge.compactions(self._lane_of)

    def _lane_of(self, key: str) -> str:
        named = _NAME.match(key.rpartition("/")[2])
        some = self._stems.get(named[1], ()) if named else ()
        return some[0].name if some else "replays"

    # --- what no claim names -------------------------------------------------------------------------------------

    def unexpected(self, without: Sequence[str]) -> None:
        """Look at objects that no claim names. Keys that begin with one of `without` are no rows."""
        sums = self.judgement.sums
        for key, _ in self._rows.keys():  # noqa: SIM118 - no mapping
            last = key.rpartition("/")[2]
            if not last or last.startswith((".", "_")) or key.startswith(tuple(without)) or hash(key) in self._named:
                continue
            named = _NAME.match(last)
            some = self._stems.get(named[1], ()) if named else ()
            sequence = int(named[2]) if named else 0
            if any(sequence < lane.sequences[0] for lane in some):
                sums.objects_outside += 1
            elif any(key in self._newer(lane, sequence) for lane in some):
                sums.objects_newer += 1
            elif not self._named.full:
                self._found(key, f"by its name of claim {sequence} of {some[0].name}: " if some else "")

    def _found(self, key: str, of: str) -> None:
        copies = 0

        def note(ids: list[Id]) -> None:
            nonlocal copies
            copies += sum(hash(bundle) in self._copies.records for bundle, _ in ids)

        if (found := self.look(key, note)) is not None:  # else it is gone again
            self.judgement.found(key, found, copies, of)

    def _newer(self, lane: Lane, sequence: int) -> frozenset[str]:
        """Keys of the objects of a window, if it was claimed since the walk began."""
        if lane.head is None or sequence <= lane.head.sequence:
            return frozenset()
        if self._last[:2] != (lane.folder, sequence):
            claim = self.reader.claim(lane, sequence)
            keys = frozenset(key for key, _ in self._keys(claim)) if isinstance(claim, Claim) else frozenset[str]()
            self._last = lane.folder, sequence, keys
        return self._last[2]


def _nobody(_: list[Id]) -> None:
    """Windows share dimension rows: one that lies in two is no copy."""
