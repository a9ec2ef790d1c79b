"""Peers of `make bench-peers` that read a file of bundles, and how they make the rows of the engine."""

from pathlib import Path
from typing import NamedTuple

from benchmarks import baselines
from lmstream import Engine, Record, Settings

TOPIC = "t"
SENT_MS = 1_715_263_558_360  # of every record: its coordinates are in the row id


class Source(NamedTuple):
    """The same bundles as a file and, for peers that cannot read one, as a topic."""

    file: Path
    """One JSON document a line."""
    bundles: int
    rows: int
    bootstrap: str = ""
    """Of the broker that has them in partition 0 of TOPIC, in order, from offset 0."""


def records(path: Path) -> list[Record]:
    """The bundles of a file, one JSON document a line."""
    return [
        Record(topic=TOPIC, partition=0, offset=n, timestamp=SENT_MS, value=line)
        for n, line in enumerate(path.read_bytes().splitlines())
    ]


def lmstream(source: Source, rows: Path) -> None:
    """The engine."""
    engine = Engine(Settings(org_id=baselines.ORG))
    with rows.open("wb") as file:
        for record in records(source.file):
            file.write(engine.fan_out(record).ndjson())


def plain_orjson(source: Source, rows: Path) -> None:
    """The baseline, without a framework around it."""
    with rows.open("wb") as file:
        for record in records(source.file):
            file.write(baselines.orjson_lines(record))


def bytewax(source: Source, rows: Path) -> None:
    """A dataflow of one worker around the orjson function."""
    import bytewax.operators as op
    from bytewax.connectors.files import FileSink
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSource, run_main

    flow = Dataflow("rows")
    bundles = op.input("in", flow, TestingSource(records(source.file), batch_size=10))
    lines = op.flat_map("flatten", bundles, lambda record: baselines.orjson_lines(record).decode().splitlines())
    op.output("out", op.key_on("key", lines, lambda _: "all"), FileSink(rows))
    run_main(flow)


_ATTRIBUTES = (
    "map_from_entries(list_transform({list}, lambda a: struct_pack(k := a.key, v := coalesce(a.value.stringValue, "
    "a.value.intValue, cast(a.value.boolValue as varchar), cast(a.value.doubleValue as varchar)))))"
)


def duckdb(source: Source, rows: Path) -> None:
    """One SQL statement, one thread."""
    import duckdb as db

    value = "STRUCT(stringValue VARCHAR, intValue VARCHAR, boolValue BOOLEAN, doubleValue DOUBLE)"
    pairs = f"STRUCT(key VARCHAR, value {value})[]"
    point = (
        f"STRUCT(startTimeUnixNano VARCHAR, timeUnixNano VARCHAR, asDouble DOUBLE, asInt VARCHAR, attributes {pairs})[]"
    )
    metric = (
        f"STRUCT(name VARCHAR, unit VARCHAR, gauge STRUCT(dataPoints {point}), "
        f"sum STRUCT(dataPoints {point}, aggregationTemporality INTEGER, isMonotonic BOOLEAN))[]"
    )
    schema = (
        f"STRUCT(resource STRUCT(attributes {pairs}), "
        f"scopeMetrics STRUCT(scope STRUCT(name VARCHAR, attributes {pairs}), metrics {metric})[])[]"
    )
    resource, scope, attributes = (
        _ATTRIBUTES.format(list=each) for each in ("r.resource.attributes", "s.scope.attributes", "p.attributes")
    )
    db.sql("set threads = 1")
    db.sql(f"""
      copy (
        with bundles as (select unnest(resourceMetrics) r from read_json('{source.file}', format = 'newline_delimited',
            columns = {{resourceMetrics: '{schema}'}}, maximum_object_size = 64000000)),
          scopes as (select r, unnest(r.scopeMetrics) s from bundles),
          metrics as (select {resource} resource, {scope} scope, s.scope.name datasource, unnest(s.metrics) m
            from (select r, s from scopes)),
          points as (select resource, scope, datasource, m, unnest(coalesce(m.gauge.dataPoints, m.sum.dataPoints)) p
            from metrics)
        select coalesce(resource['hostId'], 'unknown') "deviceId", resource['hostName'] "deviceName", resource,
          datasource, map_concat(map {{'name': datasource}}, scope) scope, m.name metric, m.unit unit,
          case when m.sum is null then 'gauge' else 'sum' end "type",
          case m.sum.aggregationTemporality when 1 then 'delta' when 2 then 'cumulative' end temporality,
          m.sum.isMonotonic monotonic,
          strftime(make_timestamp(cast(p.timeUnixNano as bigint) // 1000), '%Y-%m-%dT%H:%M:%S.%gZ') ts,
          cast(p.timeUnixNano as bigint) // 1000000 "tsUnixMs",
          cast(p.startTimeUnixNano as bigint) // 1000000 "startTsUnixMs",
          coalesce(cast(p.asInt as double), p.asDouble) "value",
          coalesce({attributes}['dataSourceInstanceName'], {attributes}['wildValue']) "instance",
          {attributes} attributes
        from points) to '{rows}' (format json)
    """)


def chdb(source: Source, rows: Path) -> None:
    """One SQL statement, one thread."""
    from chdb.session import Session

    kinds = {"stringValue": "String", "intValue": "String", "boolValue": "Bool", "doubleValue": "Float64"}
    value = f"Tuple({', '.join(f'{name} Nullable({kind})' for name, kind in kinds.items())})"
    pairs = f"Array(Tuple(key String, value {value}))"
    point = (
        "Array(Tuple(startTimeUnixNano Nullable(String), timeUnixNano String, asDouble Nullable(Float64), "
        f"asInt Nullable(String), attributes {pairs}))"
    )
    metric = (
        f"Array(Tuple(name String, unit Nullable(String), gauge Tuple(dataPoints {point}), "
        f"sum Tuple(dataPoints {point}, aggregationTemporality Int32, isMonotonic Bool)))"
    )
    schema = (
        f"resourceMetrics Array(Tuple(resource Tuple(attributes {pairs}), "
        f"scopeMetrics Array(Tuple(scope Tuple(name String, attributes {pairs}), metrics {metric}))))"
    )

    def texts(pairs: str) -> str:
        number = "concat(toString(v.doubleValue), if(v.doubleValue = trunc(v.doubleValue), '.0', ''))"
        text = f"coalesce(v.stringValue, v.intValue, toString(v.boolValue), {number})"
        return f"mapFromArrays({pairs}.key, arrayMap(v -> {text}, {pairs}.value))"

    Session().query(f"""
      select resource['hostId'] as deviceId, resource['hostName'] as deviceName, resource, datasource, scope,
        m.name as metric, nullIf(m.unit, '') as unit, if(notEmpty(m.sum.dataPoints), 'sum', 'gauge') as type,
        if(type = 'sum', ['delta', 'cumulative'][m.sum.aggregationTemporality], null) as temporality,
        if(type = 'sum', m.sum.isMonotonic, null) as monotonic,
        concat(replaceOne(toString(fromUnixTimestamp64Milli(tsUnixMs, 'UTC')), ' ', 'T'), 'Z') as ts,
        intDiv(toInt64(p.timeUnixNano), 1000000) as tsUnixMs,
        intDiv(toInt64(p.startTimeUnixNano), 1000000) as startTsUnixMs,
        coalesce(p.asDouble, toFloat64(p.asInt)) as value,
        coalesce(nullIf(attributes['dataSourceInstanceName'], ''), nullIf(attributes['wildValue'], '')) as instance,
        attributes
      from (
        select resource, datasource, scope, m, p, {texts("p.attributes")} as attributes from (
          select {texts("r.resource.attributes")} as resource, s.scope.name as datasource,
            mapConcat(map('name', s.scope.name), {texts("s.scope.attributes")}) as scope, m
          from (select r, arrayJoin(r.scopeMetrics) as s from (
            select arrayJoin(resourceMetrics) as r from file('{source.file}', JSONEachRow, '{schema}')))
          array join s.metrics as m)
        array join if(notEmpty(m.sum.dataPoints), m.sum.dataPoints, m.gauge.dataPoints) as p)
      into outfile '{rows}' format JSONEachRow
      settings max_threads = 1, output_format_json_quote_64bit_integers = 0
    """)
