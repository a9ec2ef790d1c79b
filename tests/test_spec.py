"""The row contract: one source, and everything that is generated from it."""

import json
import re
from itertools import islice
from pathlib import Path

import jsonschema
import pytest

from lmstream import Engine, Record, RowEvent, Settings, spec
from lmstream.errors import ConfigError
from lmstream.lab.generator import Generator
from lmstream.model import DimensionRow
from lmstream.settings import HIVE_PATH

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures" / "otlp"
KEYS = {"resourceKey", "scopeKey", "attributesKey"}
"""Fields of rows with dimensions, which no table has without."""
PAGE = ROOT / "docs" / "kafka_ingest_spec.md"


def load(name):
    return json.loads((FIXTURES / name).read_text())


@pytest.fixture(params=["code", "page"])
def loader(request):
    return spec.SpecLoader() if request.param == "code" else spec.SpecLoader(PAGE)


def test_the_page_holds_the_generated_field_table():
    table = PAGE.read_text().partition(spec.TABLE_BEGIN)[2].partition(spec.TABLE_END)[0]
    assert table.strip() == spec.field_table().strip()


def test_the_page_holds_the_generated_table_of_dimension_rows():
    table = PAGE.read_text().partition("<!-- dimension table: ")[2].partition("-->\n")[2]
    assert table.partition("<!-- end of dimension table -->")[0].strip() == spec.dimension_table().strip()


def test_the_fixture_rows_are_exactly_what_the_fixture_bundle_gives(loader):
    bundle = (FIXTURES / "otlp_bundle_ok.json").read_bytes()
    record = Record(topic="lm.metrics.otlp", partition=0, offset=7, timestamp=1715263558360, value=bundle)
    rows = [json.loads(line) for line in Engine(Settings(org_id="acme")).fan_out(record).ndjson().splitlines()]
    assert rows == load("row_event_ok.json")
    assert [loader.validate_row_event(row) for row in rows] == [[] for _ in rows]


def test_every_missing_field_is_named(loader):
    row = load("row_event_missing_required.json")
    missing = [name for name in loader.get_required_fields() if name not in row]
    problems = loader.validate_row_event(row)
    assert missing
    assert [problem.split(":")[0] for problem in problems if "required" in problem] == missing


def test_wrong_rows_are_told_apart_from_right_ones(loader):
    good = load("row_event_ok.json")[0]
    assert "tsUnixMs" in loader.get_required_fields()
    assert loader.get_field_types()["tsUnixMs"] == "integer"
    for change, named in (
        ({"tsUnixMs": "1715263558360"}, "tsUnixMs"),
        ({"value": True}, "value"),
        ({"type": "counter"}, "type"),
        ({"evil": 1}, "evil"),
        ({"ts": "2024-05-09T14:05:58.361Z"}, "ts"),
        ({"tsUnixMs": 10**18}, "tsUnixMs"),
        ({"attributes": {"a": 1}}, "attributes"),
    ):
        problems = loader.validate_row_event(good | change)
        assert [problem.split(":")[0] for problem in problems] == [named]
    assert loader.validate_row_event({key: value for key, value in good.items() if key != "value"})


def test_the_json_schema_takes_right_rows_and_refuses_wrong_ones():
    check = jsonschema.Draft202012Validator(spec.json_schema())
    rows = load("row_event_ok.json")
    for key, field in (("resourceKey", "deviceId"), ("scopeKey", "datasource")):
        without = {name: value for name, value in rows[0].items() if name != field}
        assert not check.is_valid(without)
        assert check.is_valid(without | {key: "k"})
    assert [error.message for row in rows for error in check.iter_errors(row)] == []
    assert not check.is_valid(load("row_event_missing_required.json"))
    assert not check.is_valid(rows[0] | {"evil": 1})
    assert not check.is_valid({key: value for key, value in rows[0].items() if key != "value"})


def test_a_page_without_a_table_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# nothing here\n")
    with pytest.raises(ConfigError, match="no field table"):
        spec.SpecLoader(page)
    with pytest.raises(ConfigError, match="No such file"):
        spec.SpecLoader(tmp_path / "absent.md")


def test_glue_columns_are_the_contract_in_lower_case():
    columns = {column["Name"]: column["Type"] for column in spec.glue_columns()}
    assert list(columns) == [field.name.lower() for field in spec.fields() if field.name not in KEYS]
    assert columns["attributes"] == "map<string,string>"
    assert columns["tsunixms"] == "bigint"
    assert columns["bucketcounts"] == "array<bigint>"


def test_each_column_and_member_with_upper_case_in_its_key_has_a_mapping():
    """tests/serde shows with Athena's own readers what these properties do."""
    properties = spec.serde_properties()
    assert properties.pop("case.insensitive") == "false"
    keys = set(properties.values())
    assert all(
        key == value.lower() != value for key, value in ((k.removeprefix("mapping."), v) for k, v in properties.items())
    )
    assert keys >= {field.name for field in spec.fields() if field.name != field.name.lower()} - KEYS
    assert {"bucketCounts", "traceId"} <= keys, "members of structs too"
    for map_keys, value in ((spec.AS_WRITTEN, "false"), (spec.LOWER_CASE, "true")):
        assert f"'case.insensitive' = '{value}'" in spec.athena_ddl(map_keys=map_keys)
    assert "mapping." not in spec.athena_ddl(map_keys=spec.LOWER_CASE)


@pytest.mark.parametrize(
    ("path", "columns", "template"),
    [
        (Settings().path, ["p_org", "p_metric", "p_dt"], "${p_org}/${p_metric}/${p_dt}/"),
        (
            HIVE_PATH,
            ["p_org", "p_metric", "p_dt", "p_hour"],
            "p_org=${p_org}/p_metric=${p_metric}/p_dt=${p_dt}/p_hour=${p_hour}/",
        ),
        ("m/{orgKey}/{yyyy}{MM}{dd}/", ["p_org", "p_dt"], "m/${p_org}/${p_dt}/"),
    ],
)
def test_projection_follows_the_path_template(path, columns, template):
    found, properties, location = spec.partition_columns(Settings(path=path))
    assert [column["Name"] for column in found] == columns
    assert location == template
    assert all(f"projection.{column}.type" in properties for column in columns)
    assert not {column["Name"] for column in found} & {column["Name"] for column in spec.glue_columns()}
    assert template in spec.athena_ddl(Settings(path=path), "s3://bucket/")


def test_the_view_keeps_one_row_of_each_id():
    """The query as Athena gets it; DuckDB knows the same window function and the same names."""
    duckdb = pytest.importorskip("duckdb")
    partitions = [column["Name"] for column in spec.partition_columns(Settings())[0]]
    columns = [*(column["Name"] for column in spec.glue_columns()), *partitions]
    connection = duckdb.connect()
    connection.execute("create schema lmstream")
    fields = ", ".join(f'"{name}" varchar' for name in columns)
    connection.execute(f"create table lmstream.landed ({fields})")
    for row_id, copies in (("ab:0", 3), ("ab:1", 1), ("cd:0", 2)):
        values = [{"rowid": row_id, "tsunixms": "1"}.get(name, "x") for name in columns]
        for _ in range(copies):
            connection.execute(f"insert into lmstream.landed values ({', '.join('?' * len(columns))})", values)
    connection.execute(f"create view lmstream.rows as {spec.view_query()}")
    assert connection.sql("select rowid from lmstream.rows order by 1").fetchall() == [("ab:0",), ("ab:1",), ("cd:0",)]
    assert spec.view_query() in spec.athena_ddl(location="s3://b/")


@pytest.mark.parametrize("path", [Settings().path, HIVE_PATH, "m/{orgKey}/{yyyy}{MM}{dd}/"])
def test_the_view_joins_rows_with_keys_back_to_the_shape_without(path, tmp_path):
    """The query as Athena gets it; two of its functions are called otherwise in DuckDB."""
    duckdb = pytest.importorskip("duckdb")
    settings = Settings(org_id="acme", dimensions=True, path=path)
    connection = duckdb.connect()
    connection.execute("create schema lmstream")
    connection.execute("create or replace macro element_at(m, k) as m[k]")
    lines = {"landed": [], "dimensions": []}
    plain = []
    for number, bundle in enumerate(islice(Generator(instances=2).bundles(), 8)):
        record = Record(topic="t", partition=0, offset=number, value=bundle.payload)
        out = Engine(settings).fan_out(record)
        lines["landed"] += 2 * [
            json.loads(line) | {"at": group.path} for group in out.groups for line in group.data.splitlines()
        ]
        lines["dimensions"] += [json.loads(each.line) | {"at": each.path} for each in out.dimensions]
        plain += map(json.loads, Engine(Settings(org_id="acme")).fan_out(record).ndjson().splitlines())
    for name, columns, (partitions, _, template) in (
        ("landed", spec.glue_columns(keys=True), spec.partition_columns(settings)),
        ("dimensions", spec.dimension_columns(), spec.dimension_partitions(settings)),
    ):
        named = re.sub(r"\\\$\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
        place = re.compile(named.replace("(?P<p_dt>[^/]+)", "(?P<p_dt>.+)"))
        rows = tmp_path / f"{name}.json"
        rows.write_text(
            "".join(json.dumps(line | place.fullmatch(line["at"]).groupdict()) + "\n" for line in lines[name])
        )
        types = {
            "bigint": "BIGINT",
            "double": "DOUBLE",
            "boolean": "BOOLEAN",
            "map<string,string>": "MAP(VARCHAR,VARCHAR)",
            "string": "VARCHAR",
        }
        written = {field.lower(): field for field in FIELDS[name]}
        typed = ", ".join(f"'{written[c['Name']]}': '{types.get(c['Type'], 'JSON')}'" for c in columns)
        typed += "".join(f", '{each['Name']}': 'VARCHAR'" for each in partitions)
        connection.execute(f"create table lmstream.{name} as select * from read_json('{rows}', columns={{{typed}}})")
    query = spec.view_query(settings)
    found = connection.sql(query)
    names = [each["Name"] for each in [*spec.glue_columns(), *spec.partition_columns(settings)[0]]]
    assert [name.lower() for name in found.columns] == names
    shown = [
        {n: v for n, v in zip(names, row, strict=True) if v is not None and not n.startswith("p_")}
        for row in found.fetchall()
    ]
    expected = [{name.lower(): value for name, value in row.items()} for row in plain]
    assert sorted(shown, key=by_id) == sorted(expected, key=by_id)
    ddl = spec.athena_ddl(settings, "s3://b/")
    assert query in ddl
    assert "CREATE EXTERNAL TABLE IF NOT EXISTS `lmstream`.`dimensions`" in ddl
    assert "'mapping.resourcekey' = 'resourceKey'" in ddl
    assert f"'storage.location.template' = 's3://b/{spec.dimension_partitions(settings)[2]}'" in ddl


FIELDS = {"landed": RowEvent.__struct_encode_fields__, "dimensions": DimensionRow.__struct_encode_fields__}


def by_id(row):
    return row["rowid"]
