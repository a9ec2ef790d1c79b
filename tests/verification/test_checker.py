"""The checker against a model of it: sets and sums instead of arrays and flags, over any world of rows and letters."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from lmstream.model import DeadLetter
from lmstream.verification.checker import Checker
from lmstream.verification.expected import DIGEST, Expected
from lmstream.verification.landed import digest, path_digest
from lmstream.verification.report import BAD, SAMPLES, Tally

PATH = path_digest("acme/cpu")
FATES = ("good", "good", "changed", "misplaced", "old", "old misplaced", "failed", "unjudged")
"""What may have become of a copy of a row."""


class One(Struct, kw_only=True):
    """A record of the world, and what was seen of it."""

    expected: Expected
    closed: bool
    fates: dict[int, list[str]]
    """By ordinal of a row."""
    odd: list[int]
    """Ordinals that landed although no row has them."""
    letters: list[DeadLetter]

    @property
    def rows(self):
        return [n for n in range(self.expected.points) if n not in self.expected.absent]

    @property
    def where(self):
        return f"{self.expected.topic}/{self.expected.partition}"

    def name(self, ordinal):
        return f"{self.where}/{self.expected.offset}:{ordinal}"

    def has(self, ordinal, *fates):
        return any(each in fates for each in self.fates.get(ordinal, ()))

    def copies(self, ordinal):
        good = ("good", "old", "unjudged") if self.expected.digests else FATES
        return sum(each in good and each != "failed" for each in self.fates.get(ordinal, ()))

    def wrong(self, ordinal, *fates):
        """Without digests nothing is compared."""
        return bool(self.expected.digests) and self.has(ordinal, *fates)

    def dead(self, ordinal):
        return any(self.whole(each) or ordinal in dict(each.rejected) for each in self.letters)

    @staticmethod
    def whole(letter):
        return not letter.rejected and not letter.parts

    def named(self, part):
        return any(self.whole(each) or part in dict(each.parts) for each in self.letters)


def line_of(key, ordinal, fate="good"):
    """A row with an exemplar where its ordinal is odd, which row contract 1.0 wrote otherwise."""
    value = 2 if fate == "changed" else 1
    if not ordinal % 2:
        return f'{{"rowId":"{key}:{ordinal}","value":{value}}}'.encode()
    time = ',"tsUnixMs":0' if fate.startswith("old") else ""
    return f'{{"rowId":"{key}:{ordinal}","value":{value},"exemplars":[{{"value":1{time}}}]}}'.encode()


@st.composite
def records(draw, number):
    """One record: a bundle with up to four points, a tombstone, or poison."""
    points = draw(st.sampled_from([0, 0, 1, 2, 4, 4]))
    ordinals = range(points)
    absent = tuple(sorted(draw(st.sets(st.sampled_from(ordinals)) if points else st.just(set()))))
    rejected = tuple(n for n in absent if draw(st.booleans()))
    key = f"{number:02x}"
    rows = [n for n in ordinals if n not in absent]
    parts = draw(st.sampled_from([(), (), (), ("resourceMetrics[0]", "resourceMetrics[1]")]))
    poison = "" if points or parts else draw(st.sampled_from(["", "decode.json"]))
    compared = draw(st.sampled_from([True, True, True, False]))
    expected = Expected(
        topic=draw(st.sampled_from(["a", "b"])),
        partition=draw(st.sampled_from([0, 3])),
        offset=10 * number + draw(st.integers(0, 9)),
        timestamp=5,
        bundle_id=key,
        points=points,
        absent=absent,
        rejected=rejected,
        parts=parts,
        older=tuple(n for n in ordinals if draw(st.sampled_from([True, False, False]))),
        poison=poison,
        tombstone=not (points or parts or poison) and draw(st.booleans()),
        digests=b"".join(DIGEST.pack(digest(line_of(key, n)), PATH) for n in rows) if compared else b"",
    )
    most = draw(st.sampled_from([1, 1, 2]))
    fates = {n: draw(st.lists(st.sampled_from(FATES), min_size=draw(st.integers(0, 1)), max_size=most)) for n in rows}
    some = st.lists(st.sampled_from([(n, "why") for n in (-1, *ordinals, points, points + 7)]), max_size=3)
    named = st.lists(st.sampled_from([(part, "why") for part in (*parts, "elsewhere")]), max_size=2)
    letters = [
        DeadLetter(topic="a", partition=0, offset=0, rejected=tuple(draw(some)), parts=tuple(draw(named)))
        for _ in range(draw(st.sampled_from([0, 1, 1, 2])))
    ]
    odd = draw(st.lists(st.sampled_from([*absent, points, points + 1]), max_size=2))
    closed = draw(st.sampled_from([True, True, False]))
    return One(expected=expected, closed=closed, fates=fates, odd=odd, letters=letters)


WORLDS = st.integers(1, 5).flatmap(lambda count: st.tuples(*(records(number) for number in range(count))))
STRANGERS = st.dictionaries(st.sampled_from(["s1", "s2", "s3"]), st.lists(st.sampled_from([-1, 0, 50, 99, 100, 101])))


def events(world, strangers):
    """Every line that landed or failed: what it is called with."""
    for each in world:
        key = each.expected.bundle_id
        for n, fates in each.fates.items():
            for fate in fates:
                path = None if fate == "unjudged" else PATH + ("misplaced" in fate)
                yield fate == "failed", line_of(key, n, fate), path
        for n in each.odd:
            yield False, line_of(key, n), PATH
    for key, times in strangers.items():
        for time in times:
            yield False, f'{{"rowId":"{key}:0","tsUnixMs":{time}}}'.encode(), PATH


def skipped_by_old(each, *, checked):
    """Ordinals that contract 1.0 skipped, if all that is there of the record shows that 1.0 wrote it, and whole."""
    e = each.expected
    newer = any(n % 2 and each.has(n, "good", "changed", "misplaced", "unjudged") for n in each.rows)
    if e.digests:
        newer = any(n % 2 and each.has(n, "good", "unjudged") for n in each.rows)
    seen_old = bool(e.digests) and any(n % 2 and each.has(n, "old", "old misplaced") for n in each.rows)
    if newer or e.parts or not seen_old:
        return set()
    for n in range(e.points):
        wrong = each.wrong(n, "changed", "misplaced", "old misplaced")
        if n in e.older:
            bad = wrong or each.copies(n) or each.dead(n) or each.has(n, "failed")
        elif n in e.rejected:
            bad = checked and not each.dead(n)
        else:
            bad = wrong or (n in each.rows and not each.copies(n) and not each.dead(n))
        if bad:
            return set()
    return {*e.older}


def where_it_goes(each, t):
    """One record in the sums."""
    e = each.expected
    t.bundles = 1
    if e.poison or (e.parts and not e.points):
        t.undecodable = 1
    elif e.tombstone:
        t.tombstones = 1
    elif not e.points:
        t.empty = 1
    else:
        t.understood, t.points, t.expected, t.rejected = 1, e.points, len(each.rows), len(e.rejected)
        t.skipped = len(e.absent) - len(e.rejected)


def row_verdict(each, n, old):
    """What is said of one expected row of a record that is closed; nothing where other bytes landed alone."""
    if each.copies(n):
        return "landed"
    if each.wrong(n, "changed", "misplaced", "old misplaced"):
        return None
    if each.dead(n):
        return "dead_lettered"
    return "in_error_prefix" if each.has(n, "failed") else "older_skipped" if n in old else "lost"


def owed(each, old):
    """What a letter must name of a record: what it is called, whether one does, and whether 1.0 wrote none for it."""
    e = each.expected
    for n in (*e.rejected, *((0,) if e.poison else ())):
        yield each.name(n), each.dead(n), n in old
    for part in e.parts:
        yield f"{each.where}/{e.offset} {part}", each.named(part), False


def judged(each, *, checked, reached):
    """The tally of one record, the names of its rows that are lost, and of what misses its letter."""
    e, t, lost, missing = each.expected, Tally(), [], []
    t.phantom = len(each.odd)
    t.duplicate = sum(max(0, each.copies(n) - 1) for n in each.rows)
    t.changed = sum(each.wrong(n, "changed") for n in each.rows)
    t.misplaced = sum(each.wrong(n, "misplaced", "old misplaced") for n in each.rows)
    if not each.closed:
        ahead = e.offset > reached.get(each.where, -1)
        t.not_read, t.in_flight = (len(each.rows), 0) if ahead else (0, len(each.rows))
        return t, lost, missing
    where_it_goes(each, t)
    t.older_contract = sum(n % 2 and each.wrong(n, "old", "old misplaced") for n in each.rows)
    old = skipped_by_old(each, checked=checked)
    for n in each.rows:
        if verdict := row_verdict(each, n, old):
            setattr(t, verdict, getattr(t, verdict) + 1)
            lost += [f"{each.name(n)} {e.bundle_id}:{n}"] if verdict == "lost" else []
    for name, named, was_skipped in owed(each, old):
        t.letters += named
        t.older_skipped += was_skipped and checked and not named
        if checked and not named and not was_skipped:
            t.letters_missing += 1
            missing.append(name)
    t.dead_letters = any(map(each.dead, range(max(e.points, 1)))) or any(map(each.named, e.parts))
    return t, lost, missing


def strange(strangers, *, oldest, ranged):
    """Rows of records that nobody named: how many are outside, how many unexpected, and the names of those."""
    outside = [key for key, times in strangers.items() if ranged or (oldest is not None and 0 <= max(times) < oldest)]
    counts = {key: len(times) for key, times in strangers.items()}
    inside = [key for key in counts if key not in outside]
    return (
        sum(counts[key] for key in outside),
        sum(counts[key] for key in inside),
        [f"of no expected record: {key}:0" for key in inside],
    )


def added(tallies):
    return Tally(**{f: sum(getattr(t, f) for t in tallies) for f in Tally.__struct_fields__})


def names(world, *fates):
    """Copies of rows with these fates, as a report names them."""
    all_of = [(each, n, fate) for each in world for n in each.rows for fate in each.fates[n]]
    return sorted(f"{each.name(n)} in an object" for each, n, fate in all_of if fate in fates and each.wrong(n, fate))


@settings(max_examples=150)
@given(
    WORLDS,
    STRANGERS,
    st.sets(st.sampled_from(["s1", "s2"])),
    st.integers(0, 2),
    st.sampled_from([None, 0, 100]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_world_is_judged_as_by_the_model(world, strangers, later, malformed, oldest, ranged, checked, settled, rng):
    checker = Checker()
    for each in world:
        checker.expect(each.expected, closed=each.closed)
        checker.expect(each.expected, closed=not each.closed)  # the same record again is no other
    lines = [*events(world, strangers), *[(False, b'{"no":1}', PATH)] * malformed]
    rng.shuffle(lines)
    for failed, line, path in lines:
        checker.failed(line) if failed else checker.found(line, path, "an object")
    checker.failed(b'{"rowId":"s3:0"}')
    checker.failed(b"no row")
    assert checker.strangers is any(strangers.values())
    for each, letter in ((one, letter) for one in world for letter in one.letters):
        checker.dead(letter, each.expected.bundle_id)
        checker.dead(letter, "of nobody")
    for key in later:
        checker.came_later(msgspec.structs.replace(world[0].expected, bundle_id=key))
    options = {"letters_checked": checked, "ranged": ranged, "oldest": oldest, "settled": settled}
    report = checker.report(**options)

    reached = {}
    for each in world:
        if any(map(each.copies, each.rows)):
            reached[each.where] = max(each.expected.offset, reached.get(each.where, -1))
    found = [(each, *judged(each, checked=checked, reached=reached)) for each in world]
    partitions = {each.where: added([t for one, t, *_ in found if one.where == each.where]) for each in world}
    total = added(partitions.values())
    total.in_flight += sum(len(strangers.get(key, ())) for key in later)
    left = {key: times for key, times in strangers.items() if times and key not in later}
    outside, phantom, named = strange(left, oldest=oldest, ranged=ranged)
    total.outside += outside
    total.phantom += phantom + malformed
    for tally in () if settled else (*partitions.values(), total):
        tally.buffered, tally.lost = tally.lost, 0
    assert msgspec.to_builtins(report.partitions) == msgspec.to_builtins(partitions)
    assert msgspec.to_builtins(report.total) == msgspec.to_builtins(total)
    assert report.ok is not any(getattr(total, name) for name in BAD)
    assert report.sums == total.sums
    assert report.settled is not bool(total.buffered)
    assert report.letters_checked is checked
    assert report.malformed == malformed
    assert report.ids_only is any(each.rows and not each.expected.digests for each in world)
    # Names: of what is lost in the order of records, of the others as they were found.
    assert report.lost == [name for _, _, lost, _ in found for name in lost][:SAMPLES]
    assert report.letters_missing == [name for _, _, _, missing in found for name in missing][:SAMPLES]
    assert sorted(report.phantom) == sorted([*(each.name(n) for each in world for n in each.odd), *named])
    assert sorted(report.changed) == names(world, "changed")
    assert sorted(report.misplaced) == names(world, "misplaced", "old misplaced")
    assert checker.report(**options) == report  # asking changes nothing


def test_twenty_of_each_kind_are_named():
    checker = Checker()
    key = "ab"
    lines = [line_of(key, 2 * n) for n in range(100)]
    digests = b"".join(DIGEST.pack(digest(line_of(key, n)), PATH) for n in range(200))
    checker.expect(Expected(topic="a", partition=0, offset=1, timestamp=1, bundle_id=key, points=200, digests=digests))
    for n, line in enumerate(lines[:75]):
        if n < 25:
            checker.found(line_of(key, 2 * n, "changed"), PATH, "x")
        elif n < 50:
            checker.found(line, PATH + 1, "")
        else:
            checker.found(line.replace(b"ab:", b"zz%d:" % n), PATH)
    owed = Expected(topic="a", partition=0, offset=2, timestamp=1, bundle_id="cd", points=25, absent=tuple(range(25)), rejected=tuple(range(25)))  # fmt: skip
    checker.expect(owed)
    report = checker.report()
    t = report.total
    assert (t.changed, t.misplaced, t.phantom, t.lost, t.letters_missing) == (25, 25, 25, 150, 25)
    assert {
        len(x) for x in (report.changed, report.misplaced, report.phantom, report.lost, report.letters_missing)
    } == {20}
    assert (report.changed[0], report.misplaced[0]) == ("a/0/1:0 in x", "a/0/1:50")


def test_one_row_may_come_more_often_than_it_is_counted():
    checker = Checker()
    checker.expect(Expected(topic="a", partition=0, offset=1, timestamp=1, bundle_id="ab", points=1))
    for _ in range(300):
        checker.found(line_of("ab", 0))
    assert (checker.report().total.landed, checker.report().total.duplicate) == (1, 299)


def test_a_row_without_a_time_is_never_older_than_the_log():
    checker = Checker()
    for line in (b'{"rowId":"s0:0"}', b'{"rowId":"s1:0","tsUnixMs":99}', b'{"rowId":"s2:0","tsUnixMs":100}'):
        checker.found(line)
    total = checker.report(oldest=100).total
    assert (total.phantom, total.outside) == (2, 1)


def test_what_landed_of_a_record_that_is_not_committed_is_judged_by_its_bytes_and_path():
    """In flight up to the highest offset of its partition of which a row landed, and not read yet from there on."""
    checker = Checker()
    for offset in range(4):
        key = f"{offset:02x}"
        digests = b"".join(DIGEST.pack(digest(line_of(key, n)), PATH) for n in range(4))
        made = Expected(topic="a", partition=0, offset=offset, timestamp=1, bundle_id=key, points=4, digests=digests)
        checker.expect(made, closed=offset == 0)
    for key, n, fate, path in (
        ("00", 0, "good", PATH), ("00", 1, "good", PATH), ("00", 2, "good", PATH), ("00", 3, "good", PATH),
        ("01", 0, "changed", PATH), ("01", 2, "changed", PATH), ("01", 1, "good", PATH + 1), ("01", 3, "good", PATH + 1),
        ("02", 0, "good", PATH), ("03", 0, "changed", PATH), ("03", 1, "good", PATH + 1),
    ):  # fmt: skip
        checker.found(line_of(key, n, fate), path)
    total = checker.report().total
    assert (total.expected, total.landed, total.in_flight, total.not_read) == (4, 4, 8, 4)
    assert (total.changed, total.misplaced, total.lost) == (3, 3, 0)
    checker = Checker()
    for offset in range(3):
        made = Expected(topic="a", partition=0, offset=offset, timestamp=1, bundle_id=f"{offset:02x}", points=2)
        checker.expect(made, closed=False)
    assert (checker.report().total.in_flight, checker.report().total.not_read) == (0, 6)


def test_in_flight_ends_at_the_highest_offset_that_landed_in_whatever_order_records_are_told():
    checker = Checker()
    for offset in (0, 5, 3, 1, 6):
        made = Expected(topic="a", partition=0, offset=offset, timestamp=1, bundle_id=f"{offset:02x}", points=1)
        checker.expect(made, closed=False)
    checker.found(line_of("00", 0))
    assert (checker.report().total.in_flight, checker.report().total.not_read) == (1, 4)
    for key in ("05", "03"):
        checker.found(line_of(key, 0))
    assert (checker.report().total.in_flight, checker.report().total.not_read) == (4, 1)


def test_every_part_without_a_letter_is_missing():
    checker = Checker()
    made = Expected(topic="a", partition=0, offset=1, timestamp=1, bundle_id="ab", points=0, parts=("$.x", "$.y"))
    checker.expect(made)
    assert checker.report().letters_missing == ["a/0/1 $.x", "a/0/1 $.y"]
    assert checker.report().total.letters_missing == 2


def test_a_stranger_of_1970_is_older_than_the_log():
    checker = Checker()
    checker.found(b'{"rowId":"s0:0","tsUnixMs":0}')
    assert checker.report(oldest=100).total.outside == 1


def test_past_a_million_strangers_the_others_are_one(monkeypatch):
    monkeypatch.setattr("lmstream.verification.checker._STRANGERS", 2)
    checker = Checker()
    for n in range(5):
        checker.found(b'{"rowId":"s%d:7"}' % n)
    report = checker.report()
    assert report.total.phantom == 5
    assert report.phantom == [f"of no expected record: {key}:7" for key in ("s0", "s1", "and more")]
    checker.found(b'{"rowId":"s0:8"}')  # of one that is told apart already
    checker.came_later(Expected(topic="a", partition=0, offset=1, timestamp=1, bundle_id="s0", points=9))
    assert (checker.report().total.in_flight, checker.report().total.phantom) == (2, 4)


@pytest.mark.parametrize("ordinal", ["01", "x", "", "-1", "99999999999"])
def test_a_row_id_without_an_ordinal_is_no_row(ordinal):
    checker = Checker()
    checker.expect(Expected(topic="a", partition=0, offset=1, timestamp=1, bundle_id="ab", points=2))
    checker.found(f'{{"rowId":"ab:{ordinal}"}}'.encode())
    assert (checker.report().malformed, checker.report().total.phantom) == (1, 1)
