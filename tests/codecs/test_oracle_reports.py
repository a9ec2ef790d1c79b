"""What public bug reports sent, and what is right of it, written by hand: the golden files must say exactly this.

Each case is a folder of tests/corpus/golden; the report is named in its case.json. Rows are written without what says
where, what and when. The engine is held to the same files by codecs/test_oracle_golden.py.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from support import regolden
from support.judging import exact

AROUND = {
    *("rowId", "orgId", "orgKey", "deviceId", "datasource", "metric", "metricKey", "type", "ts", "tsUnixMs"),
    *("temporality", "monotonic"),
}


@dataclass
class Right:
    rows: list[tuple[int, dict[str, Any]]]
    """(ordinal, fields) of each row."""
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: list[list[Any]] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
    """But for device.unknown and datasource.unknown."""
    points: int = 0
    """How many, where there are others than the rows, skipped and rejected."""
    parts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def value(number: float, **more: Any) -> dict[str, Any]:
    return {"value": number, **more}


KEPT = {"count": 2, "bucketCounts": [1, 0, 1], "explicitBounds": [5.0, 10.0]}
METRICS = "$.resourceMetrics[0].scopeMetrics[0].metrics"

RIGHT = {
    # a part that is not finite no longer takes its point with it
    "nan_quantiles": Right(
        [
            (0, {"count": 16, "sum": 10372.0}),
            (1, {"count": 4119, "sum": 927.03, "quantiles": [{"quantile": 0.5, "value": 0.2}]}),
        ],
        noted={"part.nan": 3},
    ),
    "min_and_max_of_nothing": Right(
        [
            (0, KEPT | {"sum": 55.0}),
            (
                1,
                {
                    "count": 2,
                    "sum": 55.0,
                    "scale": 1,
                    "zeroCount": 0,
                    "zeroThreshold": 0.0,
                    "positive": {"offset": 3, "bucketCounts": [1, 1]},
                },
            ),
        ],
        noted={"part.infinite": 4},
    ),
    "nan_sum": Right([(0, KEPT), (1, {"count": 3})], noted={"part.nan": 2}),
    "null_sum": Right([(0, KEPT)]),
    "infinite_last_bound": Right(
        [
            (0, {"count": 10, "sum": 55.0, "bucketCounts": [1, 2, 7], "explicitBounds": [5.0, 10.0]}),
            (1, {"count": 6, "sum": 55.0, "bucketCounts": [1, 2, 3], "explicitBounds": [5.0, 10.0]}),
        ],
        rejected=[[2, "point.shape"]],
        noted={"part.bound": 2},
    ),
    "counts_as_many_as_bounds": Right([(2, value(1))], rejected=[[0, "point.shape"], [1, "point.shape"]]),
    "descending_bounds": Right([(0, {"count": 99, "bucketCounts": [1, 1, 1], "explicitBounds": [10.0, 5.0]})]),
    # nor does a start time or an exemplar
    "start_of_2339": Right([(0, value(123))], noted={"part.range": 1}),
    "start_in_1970": Right([(0, value(5))], rejected=[[1, "time.range"]], noted={"part.range": 1}),
    "exemplar_ids_in_base64": Right(
        [
            (0, value(7, exemplars=[{"tsUnixMs": 1_715_263_558_360, "value": 3.0}])),
            (1, value(8, exemplars=[{"tsUnixMs": 1_715_263_558_360, "value": 2}])),
        ],
        noted={"part.type": 3},
    ),
    "exemplar_without_time": Right(
        [(0, value(7, exemplars=[{"value": 2}, {"value": 3}, {"tsUnixMs": 1_715_263_558_360, "value": 4}]))]
    ),
    # points without a time are kept in a letter, or have the record's
    "no_time": Right([(1, value(1))], rejected=[[0, "time.missing"]]),
    "no_time_but_the_records": Right(
        [(0, value(42)), (2, value(1))], skipped={"value.nan": 1}, noted={"time.record": 1}
    ),
    "no_time_in_either": Right([(1, value(1))], rejected=[[0, "time.missing"]]),
    "times_of_1_and_2_ns": Right([(1, value(1))], rejected=[[0, "time.range"]]),
    "times_in_odd_forms": Right([(2, value(3)), (3, value(4))], rejected=[[0, "point.type"], [1, "point.type"]]),
    # an identity that is not understood is not dropped
    "labels_of_0_7": Right(
        [(1, value(7, attributes={"InstanceId": "i-1"})), (2, value(1))], rejected=[[0, "point.labels"]]
    ),
    "log_that_parses_as_metrics": Right([], rejected=[[0, "time.missing"]]),
    "attributes_not_understood": Right(
        [
            (0, value(1, attributes={"host": ""})),
            (1, value(2, attributes={"host": ""})),
            (2, value(3, attributes={"host": "", "n": ""})),
            (3, value(4, attributes={"host": "a"})),
        ],
        noted={"attribute.empty": 3},
    ),
    # other names
    "hollow_metrics": Right(
        [(0, value(1))],
        noted={"metric.empty": 2, "member.unknown": 2},
        unknown=(f"{METRICS}[0].gauge.data_points", f"{METRICS}[1].intGauge"),
    ),
    "snake_case": Right(
        [
            (0, value(7, startTsUnixMs=1_715_263_500_000, resource={"hostId": "h"})),
            (
                1,
                {
                    "count": 3,
                    "scale": 0,
                    "zeroCount": 1,
                    "zeroThreshold": 0.5,
                    "positive": {"offset": 0, "bucketCounts": [2]},
                    "resource": {"hostId": "h"},
                },
            ),
        ]
    ),
    "unknown_members_beside": Right([(0, value(1))]),
    # a bad head or part spares its siblings
    "temporality_delta": Right([(2, value(1))], rejected=[[0, "decode.type"], [1, "decode.type"]]),
    "temporality_7": Right([(0, value(1)), (1, {"count": 1})], noted={"enum.unknown": 2}),
    "attributes_as_object": Right([(2, value(3))], rejected=[[0, "decode.type"], [1, "point.type"]]),
    "two_kinds": Right([(2, value(1))], rejected=[[0, "decode.type"], [1, "decode.type"]]),
    "uncountable_parts": Right(
        [(0, value(1)), (1, value(1))],
        parts=(
            "$.resourceMetrics[0]",
            "$.resourceMetrics[1].scopeMetrics[0].metrics[1].gauge.dataPoints",
            "$.resourceMetrics[1].scopeMetrics[0].metrics[2]",
            "$.resourceMetrics[1].scopeMetrics[1]",
            "$.resourceMetrics[2].scopeMetrics",
        ),
    ),
    "replay_below_a_path": Right([(1, value(11)), (4, value(12)), (6, value(13))], skipped={"value.nan": 1}, points=7),
    "attributes_1025": Right([(1, value(2))], rejected=[[0, "limits.attributes"]]),
    # what was right before and stays so
    "nan_beside_good": Right([(1, value(1.5))], skipped={"value.nan": 1, "value.infinite": 2}),
    "stale_points": Right([(4, value(6))], skipped={"flags.no_value": 4}),
    "integers_in_all_forms": Right(
        [(0, value(2**63 - 1)), (1, value(2**53 + 1)), (2, value(5)), (3, value(1000))],
        rejected=[[4, "point.type"], [5, "value.range"]],
    ),
    "counts_as_numbers": Right(
        [(0, {"count": 3, "sum": 4.0, "bucketCounts": [1, 1, 1], "explicitBounds": [1.0, 2.0]})]
    ),
    "null_values": Right([(1, value(1, attributes={"a": "", "b": ""}))], rejected=[[0, "value.missing"]]),
    "attribute_ints": Right([(0, value(1, attributes={"a": "42", "b": "42", "c": "42"}))]),
    "duplicate_and_empty_keys": Right([(0, value(1, attributes={"a": "2", "": ""}))]),
    "exponential_histograms": Right(
        [
            (
                0,
                {
                    "count": 3,
                    "sum": 1.0,
                    "scale": -10,
                    "zeroCount": 0,
                    "zeroThreshold": 0.0,
                    "positive": {"offset": -4, "bucketCounts": [3]},
                },
            ),
            (
                1,
                {
                    "count": 1,
                    "scale": 20,
                    "zeroCount": 1,
                    "zeroThreshold": 0.0,
                    "positive": {"offset": 0, "bucketCounts": []},
                    "negative": {"offset": 2, "bucketCounts": []},
                },
            ),
        ]
    ),
    "points_without_value": Right(
        [(2, value(1))], rejected=[[0, "value.missing"], [1, "value.missing"]], noted={"metric.empty": 1}
    ),
    "metric_without_points": Right([(0, value(1))], noted={"metric.empty": 1}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_golden_files_of_a_report_say_what_is_right(name):
    right = RIGHT[name]
    folder = regolden.GOLDEN / name
    rows = [json.loads(line) for line in (folder / "rows.ndjson").read_bytes().splitlines()]
    said = [(int(row["rowId"].partition(":")[2]), {k: v for k, v in row.items() if k not in AROUND}) for row in rows]
    assert [(n, exact(fields)) for n, fields in said] == [(n, exact(fields)) for n, fields in right.rows]
    verdict = json.loads((folder / "verdict.json").read_bytes())
    assert (verdict["skipped"], verdict["rejected"]) == (right.skipped, right.rejected)
    assert {
        k: n for k, n in verdict["noted"].items() if k not in ("device.unknown", "datasource.unknown")
    } == right.noted
    assert verdict["parts"] == [[path, "decode.type"] for path in right.parts]
    assert verdict["unknown"] == list(right.unknown)
    every = len(rows) + sum(right.skipped.values()) + len(right.rejected)
    assert verdict["points"] == (right.points or every)


def test_every_report_in_the_corpus_is_judged_by_hand():
    reports = {
        path.parent.name for path in regolden.GOLDEN.glob("*/case.json") if "source" in json.loads(path.read_bytes())
    }
    assert reports == RIGHT.keys()
