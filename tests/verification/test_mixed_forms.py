"""A landing folder with lines as they are, as gzip, as zstd, and Parquet side by side: the same rows from each."""

import io
import itertools
from pathlib import Path

import msgspec
import pytest

from lmstream import Engine, RowEvent, Settings, spec
from lmstream.engine.columns import Pools, gathered
from lmstream.errors import ConfigError, SourceError
from lmstream.lab.generator import Generator
from lmstream.storage import parquet
from lmstream.storage.compression import compressor, gzip, zstd
from lmstream.storage.line_files import form_of, lines, lines_of
from lmstream.verification.sql import connect, run
from support.judging import record

ENGINE = Engine(Settings(org_id="acme", path="{orgKey}/{yyyy}/{MM}/{dd}/{HH}/"))
GOLDEN = Path(__file__).parent.parent / "corpus" / "golden" / "all_kinds" / "bundle.json"
FORMS = ("plain", "gzip", "zstd", "parquet")


def made(out):
    """The rows of a record in every form."""
    data = out.ndjson()
    half = data.index(b"\n", len(data) // 2) + 1
    return {
        "plain": data,
        "gzip": gzip(data[:half], 1) + gzip(data[half:], 1),
        "zstd": zstd(data[:half], 1) + zstd(data[half:], 3),
        "parquet": parquet.write(gathered(out.columns()), sort=False),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four records, each in every form; names say nothing of it."""
    root = tmp_path_factory.mktemp("landed")
    bundles = Generator(devices=3, instances=2, chaos=0.2).bundles()
    payloads = [GOLDEN.read_bytes(), *(each.payload for each in itertools.islice(bundles, 3))]
    for number, payload in enumerate(payloads):
        for form, data in made(ENGINE.fan_out(record(payload, offset=number))).items():
            path = root / "acme" / str(number % 2) / f"{number}-{form}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return root


def test_files_of_every_form_have_the_same_lines(folder):
    for number in range(4):
        here = [folder / "acme" / str(number % 2) / f"{number}-{form}" for form in FORMS]
        assert [form_of(path) for path in here] == list(FORMS)
        found = [sorted(lines_of(path)) for path in here]
        assert found[0]
        assert all(each == found[0] for each in found)


def test_a_query_over_mixed_forms_has_every_copy_of_a_row_and_all_are_alike(folder):
    connection = connect(folder)
    names, rows = run(connection, "select * from landed order by rowId")
    keys = {"resourceKey", "scopeKey", "attributesKey"}
    assert names == [name for name in RowEvent.__struct_encode_fields__ if name not in keys]
    by_id = {}
    for row in rows:
        by_id.setdefault(row[0], []).append(row)
    assert all(len(copies) == 4 for copies in by_id.values())
    assert all(copies == [copies[0]] * 4 for copies in by_id.values())
    _, rows = run(connection, "select count(*), count(distinct rowId) from rows")
    assert next(rows) == (len(by_id), len(by_id))


@pytest.mark.parametrize("form", FORMS)
def test_every_field_is_read_from_each_form(tmp_path, form):
    out = ENGINE.fan_out(record(GOLDEN.read_bytes()))
    (tmp_path / "rows").write_bytes(made(out)[form])
    names, rows = run(connect(tmp_path), "select * from landed order by rowId")
    expected = sorted(
        (msgspec.json.decode(line, type=RowEvent) for line in out.ndjson().splitlines()), key=lambda row: row.row_id
    )
    for found, row in zip(rows, expected, strict=True):
        plain = msgspec.to_builtins(row)
        for name, value in zip(names, found, strict=True):
            assert thin(value) == thin(plain.get(name)), name


def thin(value):
    """Without members that are absent, which one form leaves out and another has as null; numbers as the views have
    them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        return {key: thin(inner) for key, inner in value.items() if inner not in (None, {}, "")} or None
    if isinstance(value, list):
        return [thin(item) for item in value]
    return value


@pytest.mark.parametrize("form", ["gzip", "zstd", "parquet"])
def test_a_file_that_breaks_off_or_is_damaged_is_no_file_with_fewer_rows(form):
    data = made(ENGINE.fan_out(record(GOLDEN.read_bytes())))[form]
    for wrong in (data[:-1], data[: len(data) // 2], data[:20] + bytes(50) + data[70:]):
        with pytest.raises(SourceError, match=r"rows\.x"):
            list(lines(io.BufferedReader(io.BytesIO(wrong)), 1 << 20, "rows.x"))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_is_compressed_piece_by_piece_is_read_as_one(kind):
    compress = compressor(kind)
    rows = [b'{"a":%d}\n' % n for n in range(2000)]
    data = b"".join(compress(b"".join(rows[at : at + 100])) for at in range(0, 2000, 100))
    assert list(lines(io.BufferedReader(io.BytesIO(data)), 100, "x")) == [row.strip() for row in rows]
    assert compress(b"same") == compressor(kind)(b"same")


def test_a_parquet_file_without_rows_is_read(tmp_path):
    (tmp_path / "empty").write_bytes(parquet.write(Pools()))
    assert list(lines_of(tmp_path / "empty")) == []
    _, rows = run(connect(tmp_path), "select count(*) from landed")
    assert next(rows) == (0,)


def test_a_parquet_file_of_somebody_else_is_one_clear_error(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    with pytest.raises(ConfigError, match="rowid"):
        list(run(connect(tmp_path), "select * from landed")[1])


def test_ddl_of_parquet_has_its_columns_and_no_serde():
    ddl = spec.athena_ddl(form="parquet")
    assert "STORED AS PARQUET" in ddl
    assert "SERDE" not in ddl
    for column in spec.parquet_columns():
        assert f"  `{column['Name']}` {column['Type']}" in ddl
    _, properties, _ = spec.partition_columns(Settings())
    assert all(f"'{key}' = '{value}'" in ddl for key, value in properties.items())
    assert spec.view_query(form="parquet") in ddl
    assert '"valueint"' in spec.view_query(form="parquet")
    assert '"valueint"' not in spec.athena_ddl()
