"""The chains of claims of a lake: which lanes there are, their claims from the oldest on, and what is wrong there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from lmstream.bounded import BoundError
from lmstream.errors import ConfigError
from lmstream.lake.claims import CLAIM_BYTES, DIGITS, LAST, LAYOUT_BYTES, Claim, follows
from lmstream.lake.layout import EXTENSIONS, Layout
from lmstream.storage.by_key import Keyed, ahead

CLAIMS: Final = "claims/"
SETTINGS: Final = "settings/"
_NAME: Final = re.compile(rf"({CLAIMS}.+/)([0-9]{{{DIGITS}}})\.json")
_MOST_FAULTS: Final = 10_000
"""Faults that are told apart; beyond them they are counted alone."""


class Faults:
    """What is wrong with chains, in words."""

    def __init__(self) -> None:
        self.count = 0
        self.named: list[str] = []

    def add(self, what: str) -> None:
        """Note a fault."""
        self.count += 1
        if self.count <= _MOST_FAULTS:
            self.named.append(what)


class Lane:
    """The keys of one lane's claims, from the oldest on."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        """`claims/SOURCE/TOPIC/LANE/`."""
        self.sequences: list[int] = []
        self.expired = 0
        """Claims of it that are not judged: written before the time that was asked for."""
        self.head: Claim | None = None
        """The newest that can be read."""

    @property
    def name(self) -> str:
        """For people: `TOPIC/LANE`."""
        return "/".join(self.folder.split("/")[-3:-1])

    @property
    def source_id(self) -> str:
        """`engine.source_id` of its rows."""
        source = self.folder.removeprefix(CLAIMS).rsplit("/", 3)[0]
        return "" if source == "_" else source

    @property
    def stem(self) -> str:
        """What names of its objects begin with."""
        return "-".join(self.folder.split("/")[-3:-1])

    def key(self, sequence: int) -> str:
        """Of one claim."""
        return f"{self.folder}{LAST - sequence:0{DIGITS}d}.json"


def lanes(place: Keyed, since: float, faults: Faults, begin: Mapping[str, int] | None = None) -> list[Lane]:
    """The lanes whose claims lie at this place; only claims that were written since then (seconds since 1970) are
    kept, or those from `begin` on, by folder of the lane, where that says it. What is no claim's name is a fault."""
    begin = begin or {}
    found: dict[str, Lane] = {}
    for key, written in place.keys(CLAIMS):
        named = _NAME.fullmatch(key)
        sequence = LAST - int(named[2]) if named else -1
        if named is None or sequence < 0 or len(named[1].split("/")) < 5:  # noqa: PLR2004 - claims/SOURCE/TOPIC/LANE/
            faults.add(f"{place.name}{key}: not the name of a claim")
            continue
        lane = found.setdefault(named[1], Lane(named[1]))
        # The newest is kept in any case: it says which windows are done, and that nothing came since.
        old = sequence < begin[named[1]] if named[1] in begin else written < since
        if old and lane.sequences:
            lane.expired += 1
        else:
            lane.sequences.append(sequence)
    for lane in found.values():
        lane.sequences.reverse()
    return list(found.values())


class Reader:
    """Claims and the settings that they name, each as it says it is."""

    def __init__(self, place: Keyed, faults: Faults) -> None:
        self.place, self._faults = place, faults
        self._layouts: dict[str, Layout | None] = {}
        self._claims = msgspec.json.Decoder(Claim)
        self._settings = msgspec.json.Decoder(Layout)

    def claim(self, lane: Lane, sequence: int) -> Claim | str | None:
        """One claim; what is wrong with it; or None when it is gone."""
        key = lane.key(sequence)
        try:
            data = self.place.read(key, CLAIM_BYTES)
            if data is None:
                return None
            claim = self._claims.decode(data)
        except (msgspec.MsgspecError, RecursionError, BoundError) as error:
            return f"{lane.name}: claim {sequence} cannot be read: {error}"
        if (claim.topic, claim.lane, claim.sequence) != (*lane.folder.split("/")[-3:-1], sequence):
            said = f"{claim.topic}/{claim.lane}/{claim.sequence}"
            return f"{lane.name}: claim {sequence} says that it is {said}"
        return claim

    def layout(self, digest: str) -> Layout | None:
        """The settings of that hash; None when they are not there, or others: then a fault is noted, once."""
        if digest not in self._layouts:
            found = self._layout(digest)
            if isinstance(found, str):
                self._faults.add(f"{self.place.name}{SETTINGS}{digest}.json: {found}")
            self._layouts[digest] = found if isinstance(found, Layout) else None
        return self._layouts[digest]

    def _layout(self, digest: str) -> Layout | str:
        try:
            data = self.place.read(f"{SETTINGS}{digest}.json", LAYOUT_BYTES)
            if data is None:
                return "the settings of a claim are gone"
            if blake2b(data, digest_size=16).hexdigest() != digest:
                return "its content is not what its name says"
            return self._settings.decode(data)
        except (msgspec.MsgspecError, RecursionError, BoundError) as error:
            return f"this version cannot read the settings of a claim: {error}"

    def extension_of(self, digest: str) -> str:
        """Of the names of objects, by the hash of their settings. That of the default where these are gone, which is a
        fault."""
        layout = self.layout(digest)
        return EXTENSIONS["gzip"] if layout is None else layout.extension

    def head(self, lane: Lane) -> Claim | None:
        """The newest claim of a lane that can be read."""
        for sequence in reversed(lane.sequences):
            found = self.claim(lane, sequence)
            if isinstance(found, Claim):
                lane.head = found
                return found
        return None

    def chain(self, lane: Lane) -> Iterator[Claim]:
        """The claims of a lane from the oldest on, as far as they can be read; faults of the chain are noted."""
        before: Claim | None = None
        expected: int | None = None
        for sequence, claim in ahead(lane.sequences, lambda each: self.claim(lane, each)):
            if expected is not None and sequence > expected:
                self._faults.add(f"{lane.name}: {_missing(expected, sequence - 1)}{_between(before, claim)}")
            expected = sequence + 1
            if not isinstance(claim, Claim):
                if claim is not None or before is not None:
                    self._faults.add(claim or f"{lane.name}: claim {sequence} is gone since it was listed")
                continue  # what is gone at the oldest end, a lifecycle rule removed while we looked
            if before is not None:
                for wrong in _wrong(before, claim):
                    self._faults.add(f"{lane.name}: {wrong}")
            elif sequence == 0 and claim.kind != "start":
                self._faults.add(f"{lane.name}: claim 0 is a {claim.kind}, not the start of a chain")
            if not 0 <= claim.done <= claim.sequence:
                self._faults.add(f"{lane.name}: claim {sequence} says that claims up to {claim.done} are done")
            before = claim
            yield claim


def _missing(first: int, last: int) -> str:
    what = f"claim {first} is missing" if first == last else f"claims {first} to {last} are missing"
    return f"{what} in the middle of the chain"


def _between(before: Claim | None, after: Claim | str | None) -> str:
    """Which offsets the claims that are missing had."""
    if before is None or not isinstance(after, Claim):
        return ""
    gaps = [
        f"{span.end} to {after.spans[partition].start - 1} of partition {partition}"
        for partition, span in sorted(before.spans.items())
        if partition in after.spans and after.spans[partition].start > span.end
    ]
    return f", with the offsets {', '.join(gaps)}" if gaps else ""


def _wrong(before: Claim, after: Claim) -> Sequence[str]:
    """What is wrong with a claim, given one before it."""
    wrong = []
    if after.sequence == before.sequence + 1 and (what := follows(before, after)):
        wrong.append(what)
    if after.done < before.done:
        wrong.append(f"claim {after.sequence} says that {after.done} is done, and an older one says {before.done}")
    if missing := before.spans.keys() - after.spans.keys():
        wrong.append(f"claim {after.sequence} says nothing of partitions {sorted(missing)}")
    return wrong


def refuse_none(found: Sequence[Lane], place: Keyed) -> None:
    """Raise ConfigError where there is no lane."""
    if not found:
        what = f"{place.name}{CLAIMS}: no claims lie there, so there is no lake to verify"
        raise ConfigError("config.invalid", what, "name their place with --claims (sink.claims_prefix)")
