"""What is done with objects that are read again: in every format the same rows, ids and digests."""

import gzip
from itertools import islice

import duckdb
import pytest

from lmstream.config.lake import formats_of
from lmstream.config.lake_tools import contents_of
from lmstream.engine import Engine
from lmstream.lab.generator import Generator
from lmstream.lake.digests import add, join
from lmstream.lake.formats import wanted
from lmstream.model import Record
from lmstream.settings import Settings

NAMES = {"gzip": "ndjson.gz", "zstd": "ndjson.zst", "parquet": "parquet"}


@pytest.fixture(scope="module", params=NAMES)
def objects(request):
    """(contents, objects of one record and path each, their rows, their digests)."""
    form, engine = formats_of()[request.param], Engine(Settings(org_id="acme"))
    made, rows, digests = [], [], []
    for offset, bundle in enumerate(islice(Generator(instances=2, devices=5, chaos=0.2).bundles(), 6)):
        out = engine.fan_out(Record(topic="t", partition=0, offset=offset, value=bundle.payload))
        columns = wanted(form, out)
        for group in out.groups:
            gather = form.gather()
            gather.add((group.path, group.data, group.rows), columns.get(group.path))
            made.append(gather.finish())
            rows.append(group.rows)
            digests.append(add(0, group.data))
    return contents_of()[NAMES[request.param]], made, rows, digests


def test_rows_and_digest_are_those_of_the_claim(objects):
    contents, made, rows, digests = objects
    assert [contents.count(data) for data in made] == list(zip(rows, digests, strict=True))


def test_objects_that_are_put_together_have_all_rows_and_the_sum_of_the_digests(objects):
    contents, made, rows, digests = objects
    merged = contents.merge(made)
    # All paths together, so rows of one record lie in several of these: the digest is that of their runs, not the sum.
    assert contents.count(merged)[0] == sum(rows)
    assert contents.ids(merged) == set().union(*map(contents.ids, made))
    two = [0, len(made) - 1]  # of different records
    assert contents.count(contents.merge([made[n] for n in two])) == (
        sum(rows[n] for n in two),
        join(digests[n] for n in two),
    )


def test_an_object_without_rows_is_one(objects, tmp_path, request):
    contents, made, rows, _ = objects
    extension = NAMES[request.node.callspec.params["objects"]]
    assert contents.count(contents.empty) == (0, 0)
    assert contents.ids(contents.empty) == set()
    assert contents.count(contents.merge([contents.empty, made[0]]))[0] == rows[0]
    if extension == "parquet":
        for name, data in (("empty", contents.empty), ("some", made[0])):
            (tmp_path / f"{name}.parquet").write_bytes(data)
        query = f"select count(*) from read_parquet('{tmp_path}/*.parquet')"
    else:
        for name, data in (("empty", contents.empty), ("some", made[0])):
            (tmp_path / f"{name}.{extension.rpartition('.')[2]}").write_bytes(data)
        query = f"select count(*) from read_json('{tmp_path}/*', format='newline_delimited')"
    assert duckdb.sql(query).fetchall() == [(rows[0],)]


def test_rows_are_left_out_by_their_ids(objects):
    contents, made, rows, digests = objects
    ids = contents.ids(made[0])
    assert len(ids) == rows[0]
    assert contents.count(contents.without(contents.merge([made[0], made[-1]]), ids)) == (rows[-1], digests[-1])


@pytest.mark.parametrize("data", [b"", b"no object", b"PAR1", b"\x1f\x8b\x08", gzip.compress(b"no row\n", mtime=0)])
def test_what_is_no_object_is_refused(objects, data):
    contents, *_ = objects
    try:
        assert contents.count(data) == (0, 0)  # of nothing there are no rows
        assert data == b""
    except ValueError:
        pass


def test_an_object_that_is_cut_is_refused(objects):
    contents, made, *_ = objects
    with pytest.raises(ValueError, match=r"\w"):
        contents.count(made[0][:-9])
