"""Rows read back are the engine's lines again, and their digest is that of the engine's runs; other rows have another."""

import random
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmstream import Engine, RowEvent
from lmstream.engine.row_digest import MODULUS, of_lines, of_run, text
from lmstream.engine.row_pieces import line_of
from lmstream.errors import DecodeError
from support import strategies
from support.judging import ACME, record

SEEDS = st.integers(0, 2**32)
WARM = Engine(ACME)
CORPUS = Path(__file__).parent.parent / "corpus"
GOLDEN = sorted((CORPUS / "golden").glob("*/bundle.*"))
READ = msgspec.json.Decoder(RowEvent).decode
TWO = [
    {"rowId": "99964befc9756d1958a51fd4d4abf8a4:0", "orgId": "acme", "orgKey": "acme", "deviceId": "a", "metric": "m"},
    {"rowId": "99964befc9756d1958a51fd4d4abf8a4:1", "orgId": "b", "orgKey": "b", "deviceId": "b", "metric": "n"},
]
COMMON = {"datasource": "s", "metricKey": "m", "type": "gauge", "ts": "2024-05-09T14:05:58.360Z"}
ROWS = [
    TWO[0] | COMMON | {"tsUnixMs": 1715263558360, "value": 7, "attributes": {"a": "1"}},
    TWO[1] | COMMON | {"tsUnixMs": 1715263558361, "value": 7.0, "attributes": {"a": "2"}},
]


def lines(rows):
    return [msgspec.json.encode(row) + b"\n" for row in rows]


@given(st.lists(strategies.bundles(), min_size=1, max_size=3), SEEDS)
def test_rows_read_back_are_the_lines_again_in_any_order(bundles, seed):
    rng = random.Random(seed)
    outs = [WARM.fan_out(record(strategies.to_otlp_json(each, rng), offset=at)) for at, each in enumerate(bundles)]
    found = [line for out in outs for line in out.ndjson().splitlines(keepends=True)]
    assume(found)
    assert [line_of(READ(line)) for line in found] == found
    total = sum(of_run(out.ndjson()) for out in outs if out.rows) % MODULUS
    rng.shuffle(found)
    assert of_lines(found) == total
    assert of_lines(line.rstrip(b"\n") for line in found) == total
    assert of_lines(found[1:]) != total
    assert of_lines([*found, found[0]]) != total
    for out in outs:
        for group in out.groups:
            assert of_lines(group.data.splitlines()) == of_run(group.data)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}{path.suffix}")
def test_lines_of_the_golden_corpus_are_made_again_from_their_rows(path):
    try:
        out = WARM.fan_out(record(path.read_bytes()))
    except DecodeError:
        return
    for line in out.ndjson().splitlines(keepends=True):
        assert line_of(READ(line)) == line


@pytest.mark.parametrize("name", [name for name in ROWS[0] if ROWS[0][name] != ROWS[1][name]])
def test_two_rows_that_swap_a_field_have_another_digest(name):
    one, other = ROWS
    swapped = [one | {name: other[name]}, other | {name: one[name]}]
    assert of_lines(lines(swapped)) != of_lines(lines(ROWS))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_values_that_a_double_does_not_tell_apart_differ(a, b):
    one, other = (of_lines(lines([ROWS[0] | {"value": value}])) for value in (a, b))
    assert (one == other) == (a == b)


def test_rows_of_two_records_that_swap_their_attributes_have_another_digest():
    one, other = ROWS[0], ROWS[0] | {"rowId": "0" * 32 + ":0", "attributes": {"a": "2"}}
    swapped = [one | {"attributes": other["attributes"]}, other | {"attributes": one["attributes"]}]
    assert of_lines(lines(swapped)) != of_lines(lines([one, other]))


@pytest.mark.parametrize("line", [b"{}", b"[]", b"", b"\xff", b'{"rowId":"a"}', b'{"rowId":"a:x"}', b'{"rowId":7}'])
def test_what_has_no_row_id_has_no_digest(line):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        of_lines([line])


def test_digests_are_frozen():
    folder = CORPUS / "digest"
    found = (folder / "rows.ndjson").read_bytes().splitlines(keepends=True)
    runs = [b"".join(run) for _, run in groupby(found, lambda line: READ(line).row_id.partition(":")[0])]
    assert [*(text(of_run(run)) for run in runs), text(of_lines(found))] == (folder / "digests.txt").read_text(
        "ascii"
    ).splitlines()
