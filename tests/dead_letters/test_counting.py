"""Letters counted by record and by point: every kind of letter is of one kind of record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.dead_letters.counting import LetterCounts
from lmstream.model import DeadLetter


def letter(reason, **more):
    return DeadLetter(topic="t", partition=0, offset=0, reason=reason, **more)


@pytest.mark.parametrize(
    ("each", "kind"),
    [
        (letter("decode.json"), "undecodable"),
        (letter("record.kills"), "undecodable"),
        (letter("decode.type", parts=(("$.x", "decode.type"),)), "undecodable"),
        (letter("decode.type", parts=(("$.x", "decode.type"),), points=3), "understood"),
        (letter("value.two", rejected=((1, "value.two"),)), "understood"),  # of row contract 1.0: without `points`
        (letter("value.two", rejected=((1, "value.two"),), points=3), "understood"),
        (letter("sink.permanent"), "understood"),
        (letter("sink.permanent", points=3), "understood"),
        (letter("record.given_up"), "unjudged"),
        (letter("record.returned", rows=True), "unjudged"),
    ],
)
def test_a_letter_is_of_one_kind(each, kind):
    counts = LetterCounts()
    counts.add(each)
    assert {name: getattr(counts, name) for name in ("undecodable", "understood", "unjudged")} == {
        "undecodable": 0,
        "understood": 0,
        "unjudged": 0,
        kind: 1,
    }


@given(
    st.lists(
        st.builds(
            letter,
            st.sampled_from(["decode.json", "value.two", "sink.permanent", "record.given_up", ""]),
            points=st.integers(0, 5),
            rejected=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["value.two", "org.unresolved"]))).map(
                tuple
            ),
        )
    )
)
def test_kinds_and_points_add_up(letters):
    counts = LetterCounts()
    for each in letters:
        counts.add(each)
    assert counts.dead_letters == len(letters) == counts.undecodable + counts.understood + counts.unjudged
    assert sum(counts.rejected.values()) == sum(len(each.rejected) for each in letters)
    assert counts.sentence.startswith(f"{len(letters):,} dead letters: {counts.undecodable:,} records undecodable, ")
