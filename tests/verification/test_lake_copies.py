"""Rows that landed twice are found: ids within a window, records across windows, numbers in a set of 16 bytes each."""

from hypothesis import given
from hypothesis import strategies as st

from lmstream.verification.lake.copies import Copies, Numbers

NUMBERS = st.integers(-(2**63), 2**64 - 1)


@given(st.lists(NUMBERS, max_size=3000), st.lists(NUMBERS, max_size=20))
def test_numbers_are_a_set(some, others):
    numbers = Numbers(10_000)
    for each in some:
        numbers.add(each)
    proper = {(each & (2**64 - 1)) or 1 for each in some}
    assert numbers.count == len(proper)
    assert all(each in numbers for each in some)
    assert [each in numbers for each in others] == [((each & (2**64 - 1)) or 1) in proper for each in others]


def test_a_full_set_takes_no_more_and_says_so():
    numbers = Numbers(3)
    for each in (5, 6, 7, 8, 5):
        numbers.add(each)
    assert numbers.full
    assert [each in numbers for each in (5, 6, 7, 8)] == [True, True, True, False]


@given(st.lists(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 300)), max_size=40), max_size=4))
def test_a_row_is_a_copy_when_its_id_came_before_in_the_window(objects):
    copies = Copies()
    for each in objects:
        copies.note(each)
    ids = [row for each in objects for row in each]
    assert copies.end()[0] == len(ids) - len(set(ids))


def test_a_record_lies_in_one_window():
    copies = Copies()
    copies.note([(b"a", 0), (b"b", 0)])
    assert copies.end() == (0, [])
    copies.note([(b"a", 1), (b"a", 2), (b"c", 0)])
    assert copies.end() == (2, ["a (has rows in an earlier window too)"])
    copies.note([(b"a", 3)])
    assert copies.end(across=False) == (0, [])


def test_an_ordinal_that_no_record_has_takes_no_memory():
    copies = Copies()
    copies.note([(b"a", 9_999_999_999)])
    assert copies.end() == (0, [])
