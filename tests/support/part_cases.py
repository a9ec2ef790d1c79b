"""Points of every kind with odd parts: what their rows hold, and what is counted, by hand."""

from support.repoison import attribute, nested

START = "startTsUnixMs"
THREE = '"count":"2","bucketCounts":["1","0","1"],"explicitBounds":[5,10]'
KEPT = {"count": 2, "bucketCounts": [1, 0, 1], "explicitBounds": [5.0, 10.0]}
ZERO = {"count": 0, "scale": 0, "zeroCount": 0}
TRACE = '"traceId":"5B8EFFF798038103D269B633813FC60C"'
TRACED = {"traceId": "5b8efff798038103d269b633813fc60c"}
BASE64 = '"traceId":"W47/95gDgQPSabYzgT/GDA=="'

# Kind, members of the point beside its time, the other fields of its row, what is noted of it.
BOTH = {
    # sum, min, max
    "histogram min and max of nothing": (
        "histogram",
        f'{THREE},"sum":55,"min":"Infinity","max":"-Infinity"',
        KEPT | {"sum": 55.0},
        {"part.infinite": 2},
    ),
    "histogram sum NaN": ("histogram", f'{THREE},"sum":"NaN"', KEPT, {"part.nan": 1}),
    "histogram sum NaN and max infinite": (
        "histogram",
        f'{THREE},"sum":"NaN","max":"Infinity","min":1',
        KEPT | {"min": 1.0},
        {"part.nan": 1, "part.infinite": 1},
    ),
    "exponential sum, min, max and threshold": (
        "exponentialHistogram",
        '"sum":"NaN","min":"Infinity","max":"-Infinity","zeroThreshold":"NaN"',
        ZERO,
        {"part.nan": 2, "part.infinite": 2},
    ),
    "exponential threshold infinite": (
        "exponentialHistogram",
        '"sum":1,"zeroThreshold":"Infinity"',
        ZERO | {"sum": 1.0},
        {"part.infinite": 1},
    ),
    "exponential threshold absent": ("exponentialHistogram", "", ZERO | {"zeroThreshold": 0.0}, {}),
    "summary sum NaN": ("summary", '"count":"3","sum":"NaN"', {"count": 3}, {"part.nan": 1}),
    "summary sum infinite": ("summary", '"sum":"-Infinity"', {"count": 0}, {"part.infinite": 1}),
    "summary sum absent": ("summary", "", {"count": 0, "sum": 0.0}, {}),
    # quantiles
    "one quantile NaN": (
        "summary",
        '"count":"16","sum":10372,"quantileValues":[{"quantile":0.5,"value":"NaN"}]',
        {"count": 16, "sum": 10372.0},
        {"part.nan": 1},
    ),
    "a quantile NaN between two good ones": (
        "summary",
        '"quantileValues":[{"quantile":0.1,"value":1},{"quantile":0.5,"value":"NaN"},{"quantile":0.9,"value":3}]',
        {"count": 0, "sum": 0.0, "quantiles": [{"quantile": 0.1, "value": 1.0}, {"quantile": 0.9, "value": 3.0}]},
        {"part.nan": 1},
    ),
    "quantiles not finite on either side": (
        "summary",
        (
            '"quantileValues":[{"quantile":"NaN","value":1},{"quantile":"Infinity","value":1},'
            '{"quantile":"Infinity","value":"NaN"},{"quantile":"NaN","value":"Infinity"},{"quantile":1,"value":"Infinity"}]'
        ),
        {"count": 0, "sum": 0.0},
        {"part.nan": 3, "part.infinite": 2},
    ),
    # start times
    "start of 2339": (
        "gauge",
        '"asInt":"123","startTimeUnixNano":"11651379494838206464"',
        {"value": 123},
        {"part.range": 1},
    ),
    "start in 1970": ("sum", '"asInt":"1","startTimeUnixNano":"4142047000000000"', {"value": 1}, {"part.range": 1}),
    "start of the first ms of 2000": (
        "sum",
        '"asInt":"1","startTimeUnixNano":"946684800000000000"',
        {"value": 1, START: 946_684_800_000},
        {},
    ),
    "start one ns too early": (
        "sum",
        '"asInt":"1","startTimeUnixNano":"946684799999999999"',
        {"value": 1},
        {"part.range": 1},
    ),
    "start of the last ns of 2100": (
        "sum",
        '"asInt":"1","startTimeUnixNano":"4133980799999999999"',
        {"value": 1, START: 4_133_980_799_999},
        {},
    ),
    "start in 2101": ("sum", '"asInt":"1","startTimeUnixNano":"4133980800000000000"', {"value": 1}, {"part.range": 1}),
    "start nought": ("sum", '"asInt":"1","startTimeUnixNano":"0"', {"value": 1}, {}),
    "start of a histogram": ("histogram", f'{THREE},"startTimeUnixNano":"1"', KEPT, {"part.range": 1}),
    # bounds
    "a last bound of infinity, a count for each bound": (
        "histogram",
        '"count":"3","bucketCounts":["1","0","2"],"explicitBounds":[5,10,"Infinity"]',
        {"count": 3, "bucketCounts": [1, 0, 2], "explicitBounds": [5.0, 10.0]},
        {"part.bound": 1},
    ),
    "a last bound of infinity, a count more": (
        "histogram",
        '"count":"10","bucketCounts":["1","2","3","4"],"explicitBounds":[5,10,"Infinity"]',
        {"count": 10, "bucketCounts": [1, 2, 7], "explicitBounds": [5.0, 10.0]},
        {"part.bound": 1},
    ),
    "only a bound of infinity, one count": (
        "histogram",
        '"count":"3","bucketCounts":["3"],"explicitBounds":["Infinity"]',
        {"count": 3, "bucketCounts": [3]},
        {"part.bound": 1},
    ),
    "only a bound of infinity, two counts": (
        "histogram",
        '"count":"3","bucketCounts":["3","4"],"explicitBounds":["Infinity"]',
        {"count": 3, "bucketCounts": [7]},
        {"part.bound": 1},
    ),
    # exemplars
    "exemplar whole": (
        "gauge",
        f'"asInt":"7","exemplars":[{{"asInt":"2","timeUnixNano":"5000000","spanId":"eee19b7ec3c1b174",{TRACE}}}]',
        {"value": 7, "exemplars": [{"tsUnixMs": 5, "value": 2, "spanId": "eee19b7ec3c1b174", **TRACED}]},
        {},
    ),
    "exemplar without a time": (
        "gauge",
        '"asInt":"7","exemplars":[{"asInt":"2"}]',
        {"value": 7, "exemplars": [{"value": 2}]},
        {},
    ),
    "exemplar at nought": (
        "gauge",
        '"asInt":"7","exemplars":[{"asInt":"2","timeUnixNano":"0"}]',
        {"value": 7, "exemplars": [{"value": 2}]},
        {},
    ),
    "exemplar at one ns": (
        "gauge",
        '"asInt":"7","exemplars":[{"asInt":"2","timeUnixNano":"1"}]',
        {"value": 7, "exemplars": [{"tsUnixMs": 0, "value": 2}]},
        {},
    ),
    "exemplars without a value, NaN and infinite": (
        "sum",
        '"asInt":"7","exemplars":[{},{"asDouble":"NaN"},{"asDouble":3},{"asDouble":"-Infinity"}]',
        {"value": 7, "exemplars": [{"value": 3.0}]},
        {"part.missing": 1, "part.nan": 1, "part.infinite": 1},
    ),
    "1,024 exemplars": (
        "gauge",
        f'"asInt":"7","exemplars":[{",".join(["{}"] * 1024)}]',
        {"value": 7},
        {"part.missing": 1024},
    ),
    "1,025 exemplars": (
        "gauge",
        f'"asInt":"7","exemplars":[{",".join(["{}"] * 1025)}]',
        {"value": 7},
        {"part.limit": 1},
    ),
    "exemplar attributes too many": (
        "gauge",
        f'"asInt":"7","exemplars":[{{"asInt":"2","filteredAttributes":[{",".join(["{}"] * 1025)}]}}]',
        {"value": 7, "exemplars": [{"value": 2}]},
        {"part.limit": 1},
    ),
    "exemplars of a histogram": (
        "histogram",
        f'{THREE},"exemplars":[{{"asDouble":"NaN"}},{{"asInt":"1"}}]',
        KEPT | {"exemplars": [{"value": 1}]},
        {"part.nan": 1},
    ),
    "exemplars of an exponential histogram": (
        "exponentialHistogram",
        '"exemplars":[{"asDouble":"Infinity"}]',
        ZERO | {"zeroThreshold": 0.0},
        {"part.infinite": 1},
    ),
    "everything at once": (
        "histogram",
        f'{THREE},"sum":"NaN","min":"Infinity","startTimeUnixNano":"1","exemplars":[{{}}]',
        KEPT,
        {"part.nan": 1, "part.infinite": 1, "part.range": 1, "part.missing": 1},
    ),
}

ONE = '"asInt":"7","exemplars":'
JSON_ONLY = {
    "sum of a wrong type": ("histogram", f'{THREE},"sum":{{}}', KEPT, {"part.type": 1}),
    "min of a wrong type": ("histogram", f'{THREE},"min":"abc","max":true,"sum":[1]', KEPT, {"part.type": 3}),
    "sum outside float64": ("histogram", f'{THREE},"sum":1e999,"min":"-1e999"', KEPT, {"part.range": 2}),
    "parts null": ("histogram", f'{THREE},"sum":null,"min":null,"max":null', KEPT, {}),
    "threshold of a wrong type": ("exponentialHistogram", '"zeroThreshold":"x"', ZERO, {"part.type": 1}),
    "threshold outside float64": ("exponentialHistogram", '"zeroThreshold":1e400', ZERO, {"part.range": 1}),
    "threshold null": ("exponentialHistogram", '"zeroThreshold":null', ZERO | {"zeroThreshold": 0.0}, {}),
    "summary sum of a wrong type": ("summary", '"sum":"many"', {"count": 0}, {"part.type": 1}),
    "summary sum null": ("summary", '"sum":null', {"count": 0, "sum": 0.0}, {}),
    "quantiles that are no array": (
        "summary",
        '"quantileValues":{"0.5":1}',
        {"count": 0, "sum": 0.0},
        {"part.type": 1},
    ),
    "quantiles null": ("summary", '"quantileValues":null', {"count": 0, "sum": 0.0}, {}),
    "quantiles that are no objects": (
        "summary",
        '"quantileValues":[1,null,"x",[],{"quantile":1,"value":2}]',
        {"count": 0, "sum": 0.0, "quantiles": [{"quantile": 1.0, "value": 2.0}]},
        {"part.type": 4},
    ),
    "quantile members of wrong types": (
        "summary",
        (
            '"quantileValues":[{"quantile":"x","value":"NaN"},{"quantile":1,"value":{}},{"quantile":"NaN","value":"x"},'
            '{"quantile":"Infinity","value":1e999},{"quantile":1e999,"value":"NaN"},{"quantile":1,"value":1e999}]'
        ),
        {"count": 0, "sum": 0.0},
        {"part.type": 2, "part.nan": 1, "part.infinite": 1, "part.range": 2},
    ),
    "an empty quantile": (
        "summary",
        '"quantileValues":[{}]',
        {"count": 0, "sum": 0.0, "quantiles": [{"quantile": 0.0, "value": 0.0}]},
        {},
    ),
    "start of words": ("gauge", '"asInt":"1","startTimeUnixNano":"abc"', {"value": 1}, {"part.type": 1}),
    "start of a half": ("gauge", '"asInt":"1","startTimeUnixNano":1.5', {"value": 1}, {"part.type": 1}),
    "start of two halves": (
        "gauge",
        '"asInt":"1","startTimeUnixNano":{"low":1,"high":2}',
        {"value": 1},
        {"part.type": 1},
    ),
    "start negative": ("gauge", '"asInt":"1","startTimeUnixNano":-1', {"value": 1}, {"part.range": 1}),
    "start of 2^64": (
        "gauge",
        '"asInt":"1","startTimeUnixNano":"18446744073709551616"',
        {"value": 1},
        {"part.range": 1},
    ),
    "start of 1e400": ("gauge", '"asInt":"1","startTimeUnixNano":1e400', {"value": 1}, {"part.range": 1}),
    "start null": ("gauge", '"asInt":"1","startTimeUnixNano":null', {"value": 1}, {}),
    "exemplars null": ("gauge", f"{ONE}null", {"value": 7}, {}),
    "exemplars that are no array": ("gauge", f'{ONE}{{"asInt":1}}', {"value": 7}, {"part.type": 1}),
    "exemplars that are no objects": (
        "gauge",
        f'{ONE}["x",null,7,{{"asInt":1}}]',
        {"value": 7, "exemplars": [{"value": 1}]},
        {"part.type": 3},
    ),
    "1,025 exemplars that are none": ("gauge", f"{ONE}[{','.join(['0'] * 1025)}]", {"value": 7}, {"part.limit": 1}),
    "exemplar of a base64 id": (
        "gauge",
        f'{ONE}[{{"asDouble":3,{BASE64}}}]',
        {"value": 7, "exemplars": [{"value": 3.0}]},
        {"part.type": 1},
    ),
    "exemplar ids of wrong types": (
        "gauge",
        f'{ONE}[{{"asDouble":3,"traceId":7,"spanId":"abc","timeUnixNano":"5000000"}}]',
        {"value": 7, "exemplars": [{"tsUnixMs": 5, "value": 3.0}]},
        {"part.type": 2},
    ),
    "exemplar ids null": (
        "gauge",
        f'{ONE}[{{"asDouble":3,"traceId":null,"spanId":""}}]',
        {"value": 7, "exemplars": [{"value": 3.0}]},
        {},
    ),
    "exemplar values of wrong types": (
        "gauge",
        f'{ONE}[{{"asInt":"x"}},{{"asDouble":{{}}}},{{"asInt":1.5}}]',
        {"value": 7},
        {"part.type": 3},
    ),
    "exemplars of two values": (
        "gauge",
        f'{ONE}[{{"asInt":1,"asDouble":1}},{{"asInt":"x","asDouble":1}},{{"asInt":1,"asDouble":null}}]',
        {"value": 7, "exemplars": [{"value": 1}]},
        {"part.type": 2},
    ),
    "exemplar values out of range": (
        "gauge",
        f'{ONE}[{{"asInt":9223372036854775808}},{{"asDouble":1e400}},{{"asInt":1e400}}]',
        {"value": 7},
        {"part.range": 3},
    ),
    "an exemplar that is left out counts once": (
        "gauge",
        f'{ONE}[{{"asDouble":"NaN","traceId":7,"spanId":7,"timeUnixNano":"x","filteredAttributes":7}}]',
        {"value": 7},
        {"part.nan": 1},
    ),
    "an exemplar that stays counts each fault": (
        "gauge",
        f'{ONE}[{{"asDouble":1,"traceId":7,"spanId":7,"timeUnixNano":"x","filteredAttributes":7}}]',
        {"value": 7, "exemplars": [{"value": 1.0}]},
        {"part.type": 4},
    ),
    "exemplar times out of range": (
        "gauge",
        f'{ONE}[{{"asInt":1,"timeUnixNano":-1}},{{"asInt":2,"timeUnixNano":"18446744073709551616"}},{{"asInt":3,"timeUnixNano":1e400}}]',
        {"value": 7, "exemplars": [{"value": 1}, {"value": 2}, {"value": 3}]},
        {"part.range": 3},
    ),
    "exemplar times of wrong types": (
        "gauge",
        f'{ONE}[{{"asInt":1,"timeUnixNano":"now"}},{{"asInt":2,"timeUnixNano":0.5}},{{"asInt":3,"timeUnixNano":null}}]',
        {"value": 7, "exemplars": [{"value": 1}, {"value": 2}, {"value": 3}]},
        {"part.type": 2},
    ),
    "exemplar attributes of wrong types": (
        "gauge",
        (
            f'{ONE}[{{"asInt":1,"filteredAttributes":{{}}}},{{"asInt":2,"filteredAttributes":[null]}},'
            f'{{"asInt":3,"filteredAttributes":[{{"key":"a","value":"b"}}]}},{{"asInt":4,"filteredAttributes":null}}]'
        ),
        {"value": 7, "exemplars": [{"value": 1}, {"value": 2}, {"value": 3}, {"value": 4}]},
        {"part.type": 3},
    ),
    "exemplar attributes too deep": (
        "gauge",
        f'{ONE}[{{"asInt":1,"filteredAttributes":{attribute(nested(48))}}}]',
        {"value": 7, "exemplars": [{"value": 1}]},
        {"part.limit": 1},
    ),
    "exemplar attributes too many and of a wrong type": (
        "gauge",
        f'{ONE}[{{"asInt":1,"filteredAttributes":[{",".join(["{}"] * 1025)},7]}}]',
        {"value": 7, "exemplars": [{"value": 1}]},
        {"part.type": 1},
    ),
}
