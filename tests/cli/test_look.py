"""schema, inspect and query: what people look at, and what must not happen to them when they do."""

import csv
import gzip
import io
import json

import pytest

from lmstream import Engine, Record, Settings, spec
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter

EVIL = "\x1b[2Jevil"


def rows_of(payload, org="acme"):
    return Engine(Settings(org_id=org)).fan_out(Record(topic="t", partition=0, offset=0, value=payload)).ndjson()


def test_schema_prints_the_contract_in_every_form(cli):
    assert json.loads(cli("schema").out) == spec.json_schema()
    assert json.loads(cli("schema", "glue").out) == spec.glue_columns()
    assert json.loads(cli("schema", "glue", "--format", "parquet").out) == spec.parquet_columns()
    assert "STORED AS PARQUET" in cli("schema", "sql", "--format", "parquet").out
    assert (
        cli("schema", "sql", "--location", "s3://mine/").out.rstrip() == spec.athena_ddl(location="s3://mine/").rstrip()
    )
    assert cli("schema", "markdown").out.rstrip() == spec.field_table().rstrip()


def test_the_table_of_a_lake_is_where_its_sink_lands_and_of_what_it_writes(cli, tmp_path):
    config = tmp_path / "lmstream.toml"
    config.write_text(
        '[sink]\ntype = "s3"\nbucket = "acme"\nregion = "eu-central-1"\nprefix = "rows"\nformat = "parquet"\n'
    )
    said = cli("schema", "sql", "--config", config).out
    assert "STORED AS PARQUET\nLOCATION 's3://acme/rows/'" in said
    said = cli("schema", "sql", "--config", config, "--format", "ndjson", "--location", "s3://mine/").out
    assert "JsonSerDe" in said
    assert "LOCATION 's3://mine/'" in said
    assert json.loads(cli("schema", "glue", "--config", config).out) == spec.columns_of("parquet")


@pytest.mark.parametrize("form", ["json", "protobuf"])
@pytest.mark.parametrize("compress", [False, True])
def test_inspect_shows_a_bundle_of_every_encoding_as_table_tree_and_json(cli, tmp_path, form, compress):
    bundle = next(Generator(format=form, compress=compress, instances=2).bundles())
    path = tmp_path / "bundle"
    path.write_bytes(bundle.payload)
    table = cli("inspect", path)
    assert table.code == 0
    assert "CpuUsage" in table.out
    assert "6 rows" in table.err
    assert "metric CpuUsage sum" in cli("inspect", path, "--view", "tree").out
    message = json.loads(cli("inspect", path, "--view", "json").out)
    assert json.loads(cli("inspect", path, "--json").out) == message
    assert message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["name"] == "CpuUsage"
    rows = [
        json.loads(line) for line in cli("inspect", path, "--rows", "--org", "acme", "--view", "json").out.splitlines()
    ]
    assert len(rows) == 6
    assert {row["orgId"] for row in rows} == {"acme"}


def test_inspect_reads_standard_input_and_lines_of_bundles(cli, tmp_path, monkeypatch):
    bundle = next(Generator(instances=1).bundles())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bundle.payload)))
    assert "3 rows" in cli("inspect", "-").err
    path = tmp_path / "many.jsonl"
    path.write_bytes(bundle.payload + b"\n" + bundle.payload + b"\n")
    assert cli("inspect", path).err.count("3 rows") == 2
    assert cli("inspect", path, "--limit", 1).err.count("3 rows") == 1


def test_inspect_says_why_a_file_is_no_bundle_and_exits_1(cli, tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(b'{"resourceMetrics": \x1b[31m')
    said = cli("inspect", path)
    assert said.code == 1
    assert "LMS-1002" in said.err
    assert "\x1b" not in said.err


def test_inspect_shows_a_row_file_and_a_dead_letter(cli, tmp_path):
    bundle = next(Generator(instances=1).bundles())
    rows = tmp_path / "part.ndjson.gz"
    rows.write_bytes(gzip.compress(rows_of(bundle.payload)))
    assert "CpuUsage" in cli("inspect", rows).out
    letter = DeadLetter(
        topic="t",
        partition=3,
        offset=9,
        value=bundle.payload,
        reason="value.missing",
        code="LMS-1103",
        detail=f"x {EVIL}",
        rejected=((1, "value.missing"),),
    )
    import msgspec

    path = tmp_path / "letter.json"
    path.write_bytes(msgspec.json.encode(letter))
    said = cli("inspect", path, "--rows", "--org", "acme")
    assert "dead letter of t/3/9: LMS-1103" in said.err
    assert "point 1: value.missing" in said.err
    assert "\x1b" not in said.err
    assert "CpuUsage" in said.out


@pytest.mark.parametrize("form", ["table", "tree", "json"])
@pytest.mark.parametrize("rows", [False, True])
def test_inspect_never_prints_control_characters_of_the_data(cli, tmp_path, form, rows):
    payload = next(Generator(instances=1).bundles()).payload
    evil = json.loads(payload)
    evil["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["name"] = f"[bold]{EVIL}\u202e\x9b"
    evil["resourceMetrics"][0]["resource"]["attributes"][0]["value"]["stringValue"] = f"host{EVIL}"
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(evil))
    said = cli("inspect", path, "--view", form, *(["--rows", "--org", "a"] if rows else []))
    assert said.code == 0
    assert not set("\x1b\x9b\u202e") & set(said.out + said.err)
    assert "[bold]" in said.out


def test_inspect_of_nothing_is_one_clear_message(cli, tmp_path):
    said = cli("inspect", tmp_path / "none.json")
    assert (said.code, said.out) == (1, "")
    assert "LMS-3004" in said.err


@pytest.fixture
def landed(tmp_path):
    root = tmp_path / "landed"
    for number, bundle in enumerate([next(Generator(seed=n, instances=2).bundles()) for n in range(2)]):
        folder = root / "acme" / f"m{number}"
        folder.mkdir(parents=True)
        lines = (
            Engine(Settings(org_id="acme"))
            .fan_out(Record(topic="t", partition=0, offset=number, value=bundle.payload))
            .ndjson()
        )
        (folder / "stream-1-object.gz").write_bytes(gzip.compress(lines))
        (folder / "copy-of-it").write_bytes(lines)
        (folder / ".hidden.gz").write_bytes(b"not for readers")
    (root / "errors" / "x").mkdir(parents=True)
    (root / "errors" / "x" / "object.gz").write_bytes(gzip.compress(b'{"rawData":"","rowId":"ffff"}\n'))
    return root


def test_query_counts_every_row_in_landed_and_every_id_once_in_rows(cli, landed):
    said = cli(
        "query",
        "select (select count(*) from landed) as every, (select count(*) from rows) as once",
        "--landed",
        landed,
        "--json",
    )
    assert json.loads(said.out) == {"every": 24, "once": 12}


def test_query_without_sql_sums_up_by_org_metric_and_hour(cli, landed):
    said = cli("query", "--landed", landed)
    assert said.code == 0
    assert "CpuUsage" in said.out
    assert "2024-05-09T14:00Z" in said.out


def test_query_of_an_empty_folder_is_an_empty_table_with_the_contracts_columns(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    said = cli(
        "query",
        "select orgId, value, attributes['k'], bucketCounts, positive.offset from rows",
        "--landed",
        tmp_path / "empty",
    )
    assert said.code == 0
    assert "orgId" in said.out


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/hostname')",
        "copy landed to 'out.csv'",
        "attach 'x.db'",
        "set enable_external_access=true",
        "create table t as select 1",
        "select 1; select 2",
        "selct 1",
        "select nothing from rows",
        "pragma version",
        "checkpoint",
        "call enable_logging()",
        "select * from enable_logging()",
        "select * from query('select 1')",
        "select * from json_execute_serialized_sql(json_serialize_sql('select 1'))",
        "explain create table t as select 1",
        "explain analyze create table t as select 1",
        "explain analyze",
        "explain (format json) select 1; select 1",
        "select * from landed_files",
        "select " + "(" * 3000 + "1" + ")" * 3000,
    ],
)
def test_query_only_reads_and_only_below_the_landing_folder(cli, landed, sql):
    said = cli("query", sql, "--landed", landed)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to '{}'",
        "explain copy (select 1) to '{}'",
        "explain analyze copy (select 'forged' as x) to '{}' (format csv)",
        "EXPLAIN  ANALYZE\n/* x */ copy (select 1) to '{}'",
        "/* x */ explain analyze copy (select 1) to '{}'",
        " -- x\nexplain analyze copy (select 1) to '{}'",
        "explain (analyze) copy (select 1) to '{}'",
        "with x as (copy (select 1) to '{}') select 1",
        "with x as materialized (copy (select 1) to '{}') select 1 union select 2",
        "explain analyze with x as (copy (select 1) to '{}') select 1",
        "select * from enable_logging(storage := 'file', storage_path := '{}')",
        "export database '{}'",
        "vacuum; copy landed to '{}'",
    ],
)
def test_query_writes_nothing_over_what_landed_however_it_is_asked(cli, landed, sql):
    before = {path: path.read_bytes() for path in sorted(landed.rglob("*")) if path.is_file()}
    there = next(path for path in before if path.name == "copy-of-it")
    for target in (there, landed / "new.csv"):
        said = cli("query", sql.format(target), "--landed", landed)
        assert (said.code, said.out) == (2, "")
        assert "LMS-5020" in said.err
    assert {path: path.read_bytes() for path in sorted(landed.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize(
    "sql",
    [
        "describe rows",
        "summarize rows",
        "show tables",
        "explain select * from rows",
        "explain analyze select count(*) from rows",
        "from rows select metric",
        "with a as (select 1 as x) select * from a, range(3)",
        "with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select * from t",
        "select unnest([1, 2]) union all select 3",
        "values (1), (2)",
        "select metric, count(*) from rows group by all having count(*) > 0 order by all",
    ],
)
def test_query_takes_every_kind_of_select(cli, landed, sql):
    said = cli("query", sql, "--landed", landed)
    assert said.code == 0, said.err


def test_query_csv_on_a_terminal_shows_no_control_characters(cli, landed, monkeypatch):
    import sys

    sql = "select chr(27) || ']0;x' as a"
    assert "\x1b" in cli("query", sql, "--landed", landed, "--csv").out  # a file gets what there is
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True, raising=False)
    for flag in ("--csv", "--raw-csv"):
        said = cli("query", sql, "--landed", landed, flag)
        assert "\x1b" not in said.out
        assert "\\x1b]0;x" in said.out


def test_query_csv_defuses_formulas_unless_told(cli, landed):
    sql = "select '=1+1' as a, '-2' as b, -2 as c, 'plain' as d, '@x' as e"
    safe = list(csv.reader(io.StringIO(cli("query", sql, "--landed", landed, "--csv").out)))
    assert safe == [["a", "b", "c", "d", "e"], ["'=1+1", "'-2", "-2", "plain", "'@x"]]
    raw = list(csv.reader(io.StringIO(cli("query", sql, "--landed", landed, "--raw-csv").out)))
    assert raw[1] == ["=1+1", "-2", "-2", "plain", "@x"]


def test_query_without_duckdb_is_a_hint(cli, landed, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "duckdb", None)
    said = cli("query", "--landed", landed)
    assert said.code == 2
    assert "query needs the extra [query]" in said.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["schema", "sql", "--location", "landed"], "expected s3://BUCKET/PREFIX/"),
        (["schema", "sql", "--location", "s3://b/x' --"], "expected s3://BUCKET/PREFIX/"),
        (["schema", "sql", "--database", "a`b"], "Athena takes a-z, 0-9 and _"),
        (["inspect", "-", "--limit", "-1"], "--limit -1: must be >= 1"),
        (["verify", "--expected", "log.jsonl", "--landed", ".", "--html", "no/where.html"], "--html no/where.html"),
    ],
)
def test_what_cannot_be_is_refused(cli, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.jsonl").write_bytes(
        b'{"topic":"t","partition":0,"offset":0,"timestamp":0,"bundleId":"b","points":0,"tombstone":true}\n'
    )
    got = cli(*args)
    assert (got.code, got.out) == (2, "")
    assert said in got.err


def test_the_location_of_the_ddl_ends_in_one_slash(cli):
    for given in ("s3://b/x", "s3://b/x/"):
        ddl = cli("schema", "sql", "--location", given).out
        assert "LOCATION 's3://b/x/'" in ddl
        assert "'s3://b/x/${p_org}/" in ddl
