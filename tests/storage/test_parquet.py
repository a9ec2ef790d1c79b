"""Parquet from columns: the same rows as the lines, in either direction, and the schema of the row contract."""

import io
import random
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmstream import Engine, RowEvent, Settings, spec
from lmstream.engine.columns import gathered
from lmstream.engine.row_digest import of_lines, of_run
from lmstream.errors import DecodeError, SourceError
from lmstream.lab.generator import Generator
from lmstream.storage import parquet, parquet_rows
from lmstream.storage.parquet_schema import schema
from support import strategies
from support.judging import ACME, exact, record

SEEDS = st.integers(0, 2**32)
ONE_PATH = Settings(org_id="acme", path="{orgKey}/{yyyy}/{MM}/{dd}/{HH}/")
BY_METRIC, BY_HOUR = Engine(ACME), Engine(ONE_PATH)
GOLDEN = sorted((Path(__file__).parent.parent / "corpus" / "golden").glob("*/bundle.*"))
READ = msgspec.json.Decoder(RowEvent).decode


def read(data):
    return list(parquet_rows.lines(io.BytesIO(data), "rows.parquet"))


def holds(outs):
    """The rows of these records are the same as lines and as Parquet, path by path."""
    columns, lines = {}, {}
    for out in outs:
        for group in out.groups:
            lines.setdefault(group.path, []).extend(group.data.splitlines(keepends=True))
        for each in out.columns():
            columns.setdefault(each.path, []).append(each)
        assert {each.path: each.lines() for each in out.columns()} == {each.path: each.data for each in out.groups}
    assert list(columns) == list(lines)
    for path, each in columns.items():
        pools = gathered(each)
        assert pools.rows == len(lines[path])
        kept = parquet.write(pools, sort=False)
        assert read(kept) == lines[path]
        in_order = read(parquet.write(pools))
        assert sorted(in_order) == sorted(lines[path])
        places = [(row.metric, row.device_id, row.ts_unix_ms) for row in map(READ, in_order)]
        assert places == sorted(places)
    return columns


@given(st.lists(strategies.bundles(), min_size=1, max_size=3), SEEDS, st.sampled_from([BY_METRIC, BY_HOUR]))
def test_generated_bundles_have_the_same_rows_in_either_format(bundles, seed, engine):
    rng, records = random.Random(seed), []
    for offset, bundle in enumerate(bundles):
        records.append(record(strategies.to_otlp_json(bundle, rng), offset=offset))
        bundle.resource_metrics.add().schema_url = "x"
        records.append(record(bundle.SerializeToString(), offset=offset + 100))
    holds([engine.fan_out(each) for each in records])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}{path.suffix}")
def test_the_golden_corpus_has_the_same_rows_in_either_format(path):
    try:
        outs = [engine.fan_out(record(path.read_bytes())) for engine in (BY_METRIC, BY_HOUR)]
    except DecodeError:
        return
    for out in outs:
        holds([out, out])


def test_scopes_of_many_polls_keep_the_time_of_each():
    made = Generator(devices=3, datasources=4, chaos=0.1).bundles()
    records = [record(next(made).payload, offset=offset) for offset in range(60)]
    for engine in (BY_METRIC, BY_HOUR):
        columns = holds([engine.fan_out(each) for each in records])
        assert any(series.scope.frame for found in columns.values() for each in found for series in each.series)


@given(strategies.bundles(), SEEDS, st.data())
def test_points_of_a_replay_and_rows_made_before_are_columns_too(bundle, seed, data):
    payload = strategies.to_otlp_json(bundle, random.Random(seed))
    out = BY_METRIC.fan_out(record(payload))
    assume(out.rows)
    only = tuple(data.draw(st.sets(st.integers(0, out.points - 1))))
    holds([BY_METRIC.fan_out(record(payload, only=only)), BY_METRIC.fan_out(record(out.ndjson(), rows=True))])


@given(strategies.bundles(), SEEDS)
def test_the_digest_of_rows_read_back_is_that_of_the_columns(bundle, seed):
    out = BY_HOUR.fan_out(record(strategies.to_otlp_json(bundle, random.Random(seed))))
    for each in out.columns():
        assert of_lines(read(parquet.write(gathered([each])))) == of_run(each.lines())


def test_columns_make_no_line(monkeypatch):
    out = BY_METRIC.fan_out(record((GOLDEN[0].parent.parent / "all_kinds" / "bundle.json").read_bytes()))
    for name in ("ndjson", "cut", "groups"):
        monkeypatch.setattr(type(out), name, property(lambda _: pytest.fail("a line was made")))
    assert sum(each.rows for each in out.columns()) == out.rows


def test_files_have_the_columns_that_the_contract_tells_of():
    out = BY_METRIC.fan_out(record((GOLDEN[0].parent.parent / "all_kinds" / "bundle.json").read_bytes()))
    for each in out.columns():
        made = pq.read_schema(io.BytesIO(parquet.write(gathered([each]))))
        assert [(field.name, hive(field.type)) for field in made] == [
            (column["Name"], column["Type"]) for column in spec.parquet_columns()
        ]
    assert [hive(field.type) for field in schema()] == [column["Type"] for column in spec.parquet_columns()]


def hive(kind):
    """The Glue type of an Arrow type."""
    if pa.types.is_map(kind):
        return f"map<{hive(kind.key_type)},{hive(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"array<{hive(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{member.name}:{hive(member.type)}' for member in kind)}>"
    return {"string": "string", "int64": "bigint", "double": "double", "bool": "boolean"}[str(kind)]


def test_parquet_columns_are_those_of_json_and_integers():
    json = {column["Name"]: column["Type"] for column in spec.glue_columns()}
    found = {column["Name"]: column["Type"] for column in spec.parquet_columns()}
    assert found.pop("valueint") == "bigint"
    assert {name: kind.replace("valueint:bigint,", "") for name, kind in found.items()} == json


def test_duckdb_reads_the_same_rows(tmp_path):
    out = BY_HOUR.fan_out(record((GOLDEN[0].parent.parent / "all_kinds" / "bundle.json").read_bytes()))
    for number, each in enumerate(out.columns()):
        file = tmp_path / f"{number}.parquet"
        file.write_bytes(parquet.write(gathered([each])))
        rows = [READ(line) for line in each.lines().splitlines()]
        asked = "select rowId, deviceId, attributes, value, valueInt, count from read_parquet(?) order by rowId"
        found = duckdb.execute(asked, [str(file)]).fetchall()
        expected = sorted(rows, key=lambda row: row.row_id)
        for (row_id, device, attributes, value, integer, count), row in zip(found, expected, strict=True):
            assert (row_id, device, count) == (row.row_id, row.device_id, row.count)
            assert (attributes or {}) == row.attributes
            assert exact(integer if integer is not None else value) == exact(row.value)


def test_damaged_files_have_one_clear_error():
    for data in (b"", b"PAR1", b"x" * 100):
        with pytest.raises(SourceError, match=r"rows\.parquet"):
            read(data)
    other = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), other)
    with pytest.raises(SourceError, match=r"rows\.parquet"):
        read(other.getvalue())
