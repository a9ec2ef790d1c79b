"""Attributes of points that no rule is about are not read, and nobody can tell that from what comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.codecs import fragments
from lmstream.codecs.fragments import Counted, Marked, PartlyRead
from lmstream.engine.shaping import Shaping
from lmstream.engine.shaping.literals import literals
from lmstream.rules import Conditions, Maps, Mask, Names, Regex, Rule
from lmstream.rules.checks import wrong
from lmstream.rules.patterns import holds, longest_part
from support.rule_strategies import rule_lists

NAMES = ["host", "zone", "wildValue", "dataSourceInstanceName", 'a"b', "token", "é", "x*y"]
VALUES = ["", "a1", "me@x.org", "peer a1@b", 'say "a1"', "back\\slash", "é", "\n", "token", ',"instance":', "x*y", "b2"]
GLOBS = [
    "a*",
    "*1",
    "?2",
    "*",
    "",
    "a1",
    'a"b',
    "*token*",
    "x\\*y",
    "é*",
    "*@*",
    "*\\\\*",
    "zone",
    "host",
    "back*",
    "\n",
]
globs = st.sampled_from(GLOBS)
names = st.lists(st.sampled_from([*NAMES, *GLOBS]), min_size=1, max_size=2).map(tuple)
texts = st.one_of(globs, st.lists(globs, min_size=1, max_size=2).map(tuple), st.just(Regex(regex="a[0-9]")))
conditions = st.one_of(
    st.just(Conditions()),
    st.builds(lambda found: Conditions(attributes=found), st.dictionaries(st.sampled_from(NAMES), texts, min_size=1)),
    st.just(Conditions(metric="m1")),
)
FINDS = st.sampled_from(["value", "email", Regex(regex="a[0-9]*")])
changes = st.one_of(
    st.builds(lambda some: {"remove": Names(attributes=some)}, names),
    st.builds(lambda some: {"only": Names(attributes=some)}, names),
    st.builds(lambda some, find: {"mask": Mask(attributes=some, find=find)}, names, FINDS),
    st.builds(lambda find: {"mask": Mask(fields=("instance",), find=find)}, FINDS),
    st.builds(lambda old, new: {"rename": Maps(attributes={old: new})}, st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.just({"set": Maps(attributes={"env": "x"})}),
    st.sampled_from(["attributes", "instance"]).map(lambda what: {"leave_out": (what,)}),
    st.just({"drop": True}),
    st.just({"set": Maps(resource={"env": "x"})}),
)
rules = st.builds(
    lambda when, unless, change, at: Rule(name=f"r{at}", when=when, unless=unless, **change),
    conditions,
    conditions,
    changes,
    st.integers(0, 10**6),
)
lists = st.one_of(
    rule_lists(),
    st.lists(rules, min_size=1, max_size=3, unique_by=lambda rule: rule.name)
    .map(tuple)
    .filter(lambda made: not wrong(made)),
)
maps = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=4)


def partly(attributes):
    found = PartlyRead(attributes)
    found.empty = 1
    return found


def said(piece):
    counted = piece.empty if isinstance(piece, Counted) else None
    return bytes(piece), type(piece).__name__, counted, (piece.rules, piece.sent) if isinstance(piece, Marked) else None


@given(lists, st.lists(st.one_of(maps, maps, maps.map(partly)), min_size=1, max_size=8))
def test_what_is_not_read_comes_out_as_if_it_were(rules, points):
    quick, general = Shaping(rules), Shaping(rules)
    for attributes in points:
        piece, _ = fragments.tail(attributes)
        assert said(quick.pieces.written_tail(piece)) == said(general.pieces.tail(piece))
        assert quick.pieces.possible == general.pieces.possible
        assert quick.idle == general.idle


@pytest.mark.parametrize(
    ("rule", "quiet"),
    [
        (Rule(name="r", mask=Mask(attributes=("*",), find="email")), True),
        (Rule(name="r", mask=Mask(attributes=("*token*",))), True),
        (Rule(name="r", when=Conditions(attributes={"zone": ("a-*", "*-b")}), drop=True), True),
        (Rule(name="r", when=Conditions(attributes={"zone": "*"}), set=Maps(attributes={"b": "c"})), True),
        (Rule(name="r", unless=Conditions(attributes={"zone": "*"}), set=Maps(attributes={"b": "c"})), False),
        (Rule(name="r", when=Conditions(metric="m"), set=Maps(attributes={"b": "c"})), True),
        (Rule(name="r", rename=Maps(attributes={"old": "new"})), True),
        (Rule(name="r", mask=Mask(attributes=("*",), find=Regex(regex="a"))), False),
        (Rule(name="r", mask=Mask(attributes=("*",))), False),
        (Rule(name="r", only=Names(attributes=("host",))), False),
        (Rule(name="r", set=Maps(attributes={"b": "c"})), False),
        (Rule(name="r", remove=Names(attributes=tuple(f"n{at:02}" for at in range(20)))), False),
    ],
)
def test_attributes_are_not_read_where_a_text_tells_that_no_rule_is_about_them(rule, quiet):
    pieces = Shaping([rule]).pieces
    piece, _ = fragments.tail({"host": "h1"})
    pieces.written_tail(piece)  # the first is read: it counts which rules apply
    unreadable = b',"attributes":{"host":1}}\n'
    if quiet:
        assert pieces.written_tail(unreadable) == unreadable
    else:
        with pytest.raises(Exception, match="Expected `str`"):
            pieces.written_tail(unreadable)


def test_a_text_inside_another_is_looked_for_alone():
    masked = Rule(name="r", mask=Mask(attributes=("*token*", "my-token", "key")))
    assert literals([masked], 1) == (b"key", b"token")


@given(globs, st.one_of(st.sampled_from(VALUES), st.text("a1b2@x*y\\", max_size=6)))
def test_what_matches_a_glob_has_its_longest_part(glob, text):
    assert not holds(glob)(text) or longest_part(glob) in text
