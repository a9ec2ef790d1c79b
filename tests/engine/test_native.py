"""The native part says what the plain engine says, of whatever bytes; where it is not built, these are skipped."""

import json
import os
import random
import subprocess
import sys
import types
from bisect import bisect_right
from itertools import pairwise

import pytest

from lmstream import Engine, Settings
from lmstream.codecs import otlp_json
from lmstream.codecs.checking import misfit
from lmstream.engine import kept
from lmstream.native import SWITCH, engine, native
from support.judging import record
from support.native_twins import MORE_RULES, Twins, bases, play, random_rules, settings_of

pytestmark = pytest.mark.skipif(native("scan") is None, reason="the native part is not built here: make native")

TIMES = {"startTimeUnixNano": "1715263517241000000", "timeUnixNano": "1715263577241000000"}


@pytest.fixture(scope="module")
def twins():
    """Two engines that stay warm over the tests."""
    return Twins(settings_of("otlp"))


def point(value, instance="a", **more):
    attributes = [{"key": "i", "value": {"stringValue": instance}}]
    return json.dumps(TIMES | more)[:-1] + f', {value}, "attributes": {json.dumps(attributes)}}}'


def bundle(*metrics, resource='{"attributes":[]}', scope='{"name":"s"}'):
    """Bytes of a bundle: metrics are the insides of their data points."""
    made = ",".join(f'{{"name":"m{at}","gauge":{{"dataPoints":[{points}]}}}}' for at, points in enumerate(metrics))
    scopes = f'[{{"scope":{scope},"metrics":[{made}]}}]'
    return f'{{"resourceMetrics":[{{"resource":{resource},"scopeMetrics":{scopes}}}]}}'.encode()


ONE = point('"asDouble":1.5')


@pytest.mark.parametrize("names", ["otlp", "any"])
@pytest.mark.parametrize("seed", range(8))
def test_changed_bundles_are_the_same_to_both(seed, names):
    assert play(seed, 150, Twins(settings_of(names)), bases()) > 30, "hardly any were plain: nothing was compared"


@pytest.mark.parametrize("rules", MORE_RULES)
@pytest.mark.parametrize("seed", range(3))
def test_rules_do_the_same_in_both(seed, rules):
    assert play(seed, 150, Twins(settings_of("otlp", rules=MORE_RULES[rules])), bases()) > 30, "hardly any were plain"


@pytest.mark.parametrize("seed", range(20))
def test_rules_at_random_do_the_same_in_both(seed):
    rng = random.Random(seed)
    play(seed, 50, Twins(settings_of("otlp", rules=random_rules(rng))), bases())


@pytest.mark.parametrize("rules", MORE_RULES)
def test_rules_that_applied_to_nothing_are_the_same_to_both(rules):
    twins = Twins(settings_of("otlp", rules=MORE_RULES[rules]))
    before = None
    for payload in bases():
        assert twins.agree(payload)
        assert twins.native.shaping.idle == twins.plain.shaping.idle
        before = before or twins.native.shaping.idle
    assert before != twins.native.shaping.idle, "nothing ever applied"


@pytest.mark.parametrize(
    "number",
    [*("0", "-0", "-0.0", "0.0", "1", "-1", "1.50", "0.001", "0.0001", "1e3", "1E-7", "123456789012345", "1234567890123456"),
     *("0.1234567890123456", "999999999999999.5", "9007199254740993", "5e-324", "1.7976931348623157e308", "1e22")],
)  # fmt: skip
def test_decimals_are_written_as_the_engine_writes_them(twins, number):
    assert twins.agree(bundle(point(f'"asDouble":{number}'))) or number.startswith("-0")


@pytest.mark.parametrize(
    "number", ["1e999", "01", "1.", ".5", "+1", "NaN", '"NaN"', '"1.5"', "1e", "null", "true", "[]"]
)
def test_what_is_no_plain_decimal_is_left_to_the_codec(twins, number):
    assert not twins.agree(bundle(point(f'"asDouble":{number}')))


@pytest.mark.parametrize(
    ("number", "plain"),
    [
        *((number, True) for number in ("0", '"0"', '"-7"', '"999999999999999999"')),
        *(
            (number, False)
            for number in ('"9223372036854775807"', '"-0"', '"007"', '" 7"', "1.0", '"9223372036854775808"')
        ),
    ],
)
def test_integers_are_copied_when_they_surely_fit(twins, number, plain):
    assert twins.agree(bundle(point(f'"asInt":{number}'))) is plain


@pytest.mark.parametrize(
    "payload",
    [
        bundle(ONE).replace(b'"gauge"', b'"gauge":{"dataPoints":[]},"gauge"'),
        bundle(ONE).replace(b'"dataPoints"', b'"dataPoints":[],"dataPoints"'),
        bundle(ONE).replace(b'"metrics"', b'"metrics":[],"metrics"'),
        bundle(ONE, ONE).replace(b'},{"name":"m1"', b'}],"metrics":[{"name":"m1"'),
        bundle(ONE)[:-3] + b',"scopeMetrics":' + bundle(ONE).partition(b'"scopeMetrics":')[2],
        bundle(ONE).replace(b'"scope":', b'"scope":{},"scope":'),
        bundle(ONE).replace(b'"resource":', b'"resource":{},"resource":'),
        bundle(point('"asInt":"1","asInt":"2"')),
        bundle(point('"asInt":"1","asDouble":2.5')),
        bundle(point('"asInt":"1","timeUnixNano":"5"')),
        bundle(point('"asInt":"1","attributes":[]')),
        bundle(ONE, ONE).replace(b'"asDouble"', b'"asDo\\u0075ble"'),
    ],
)
def test_a_member_twice_or_spelled_otherwise_is_left_to_the_codec(twins, payload):
    assert not twins.agree(payload)


def test_points_alike_but_for_what_stands_behind_the_value_keep_their_own(twins):
    """The scanner goes from the last point's beginning, and from the metric before's rest, only where they are equal."""
    late = (
        ONE.replace('"startTimeUnixNano": "1715263517241000000", ', "")[:-1]
        + ',"startTimeUnixNano":"1715263517241000001"}'
    )
    first = ",".join([ONE, point('"asDouble":2.5', "b"), late])
    second = ",".join([point('"asDouble":3.5', "c"), late, ONE])
    assert twins.agree(bundle(first, second, first, second))
    assert twins.agree(bundle(",".join([ONE, point('"asInt":"3"'), ONE]), ",".join([point('"asInt":"4"'), ONE])))


def test_points_alike_up_to_the_end_may_have_more_or_less_there(twins):
    """What stands between value and attributes, and behind these, is remembered of a point that had nothing else."""
    spaced = ONE.replace(', "attributes"', ' ,\n"attributes"')
    more = ONE[:-1] + ', "startTimeUnixNano": "1715263517241000000"}'
    value_last = json.dumps({**TIMES, "attributes": []})[:-1] + ', "asDouble":1.5}'
    between = ONE.replace(', "attributes"', ',"flags":0, "attributes"')
    late = ONE.replace('"timeUnixNano": "1715263577241000000", ', "")[:-1] + ', "timeUnixNano": "1715263577241000001"}'
    bare = json.dumps(TIMES)[:-1] + ', "asDouble":1.5}'
    assert twins.agree(bundle(f"{ONE},{spaced},{ONE},{late},{ONE},{value_last},{spaced},{ONE}", ONE, spaced))
    for odd in (more, between, bare):
        for first in (ONE, spaced):
            assert not twins.agree(bundle(f"{first},{ONE},{odd},{ONE}", ONE))


def test_scopes_of_other_polls_are_known_again_and_end_where_they_end(twins):
    epoch = '{"name":"s","attributes":[{"key":"epoch","value":{"stringValue":"%s"}}%s]%s}'
    more = ',{"key":"x","value":{"stringValue":"%s"}}'
    for digits in ("1715263558360", "1715263618360", "171526361836", "17152636183600", "171526361836x"):
        for rest in ("", more % "]}", more % '\\"', more % "1715263558360"):
            for end in ("", ',"version":"2"', ' , "droppedAttributesCount" : 0'):
                assert twins.agree(bundle(ONE, scope=epoch % (digits, rest, end)))
                assert not twins.agree(bundle(ONE, scope=epoch % (digits, rest, end + ","))), "no JSON"


def test_a_list_that_begins_with_a_known_one_is_read_to_its_own_end(twins):
    for instance in ('x"]', "x]", 'x"}}]', "\\"):
        assert twins.agree(bundle(point('"asDouble":1.5', instance), point('"asDouble":1.5', instance + "y")))


@pytest.mark.parametrize("deep", [31, 33, 200, 100_000])
def test_depth_is_bounded(twins, deep):
    value = b'{"arrayValue":{"values":[' * deep + b"]}}" * deep
    twins.agree(bundle(ONE).replace(b'{"stringValue": "a"}', value))


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud83d", b"\\ud83d\\u0041", b"\\udc00", b"\x01", b"\\x"]
)
def test_texts_that_are_none_are_left_to_the_codec(twins, raw):
    assert not twins.agree(bundle(ONE).replace(b'"stringValue": "a"', b'"stringValue": "' + raw + b'"'))


def test_more_points_than_the_limit_are_left_to_the_codec():
    twins = Twins(settings_of("otlp", points=3))
    assert twins.agree(bundle(",".join([ONE] * 3)))
    assert not twins.agree(bundle(",".join([ONE] * 4)))


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_cut_bundle_is_left_to_the_codec(twins, cut):
    whole = bundle(ONE, ONE)
    assert not twins.agree(whole[: len(whole) - 1 - cut])


def packed(*ranges):
    return kept.packed(ranges)


def test_columns_that_do_not_fit_together_are_refused():
    weave = native("weave")
    one = [b"a"], [2], [b"b"], [2], [b"c"], [2], b"1,2", [b"d", b"e"], b"", b"", [[(0, 2)]]
    assert weave(*one) == [b'a0",bc1da1",bc2e']
    assert weave(*one[:10], [[(1, 2)], [(1, 2), (0, 1)], []]) == [b'a1",bc2e', b'a1",bc2ea0",bc1d', b""]
    assert weave(*one[:8], b"\1\0", b"", [1]) == [b'a1",bc2e']
    assert weave(*one[:8], b"\1\1", b"", [0, [(0, 0)], []]) == [b"", b"", b""]
    assert weave(*one[:9], packed((8, 9), (9, 10)), [2]) == [b'a8",bc1da9",bc2e']
    assert weave(*one[:9], packed((9, 9), (99, 100), (100, 101)), [2]) == [b'a99",bc1da100",bc2e']
    wrong = [
        (0, [b"a", b"a"]),
        (1, [1]),
        (3, [2, 2]),
        (4, [b"c", b"c"]),
        (5, [1]),
        (5, [3]),
        (6, b"1"),
        (7, [b"d"]),
        (8, b"\0"),
        (8, b"\0\1"),
        (9, packed((0, 1))),
        (9, packed((0, 2), (2, 3))),
        (9, b"\0\0\0\0\1"),
        (10, [[(0, 3)]]),
        (10, [[(2, 1)]]),
        (10, [3]),
        (10, [2, 1]),
    ]
    for at, value in wrong:
        with pytest.raises(ValueError, match=r"unequal|no such rows"):
            weave(*one[:at], value, *one[at + 1 :])
    assert weave(*one[:8], b"\1\0", packed((7, 8), (12, 13)), [1]) == [b'a12",bc2e']
    with pytest.raises(TypeError):
        weave(*one[:7], [b"d", None], b"", b"", [[(0, 2)]])
    with pytest.raises(TypeError):
        weave(*one[:10], [(0, 2)])


def test_lines_of_many_scopes_metrics_and_times_are_numbered_through():
    """Runs of scopes, of metrics and of times end at different rows; ordinals get another digit inside of one."""
    rows = 1003
    stops_of = {
        "<%d:": [9, 10, 101, rows],
        "m%d ": [*range(3, 900, 3), rows],
        "t%d ": [1, 2, 50, *range(51, rows), rows],
    }
    runs = [([name.encode() % at for at in range(len(stops))], stops) for name, stops in stops_of.items()]
    values, tails = ([b"%c%d" % (mark, at) for at in range(rows)] for mark in b"vz")
    lines = [
        b"".join((begin, b"%d" % at, b'",', metric, time, values[at], tails[at]))
        for at in range(rows)
        for begin, metric, time in [[pieces[bisect_right(stops, at)] for pieces, stops in runs]]
    ]
    columns = *(part for run in runs for part in run), b",".join(values), tails
    groups = [[(0, rows)], [(5, 12)], [(99, 102), (8, 11)], [(1000, 1003)]]
    made = native("weave")(*columns, b"", b"", groups)
    assert made == [b"".join(line for each in ranges for line in lines[slice(*each)]) for ranges in groups]
    stops = [1, 1, 12, 500, rows]
    runs = native("weave")(*columns, b"", b"", stops)
    assert runs == [b"".join(lines[start:stop]) for start, stop in pairwise((0, *stops))]
    left = [(0, 9), (95, 100), (110, 110), (998, 998 + rows - 14)]
    ordinals = [b"%d" % ordinal for each in left for ordinal in range(*each)]
    again = [line.replace(b'%d",' % at, ordinals[at] + b'",', 1) for at, line in enumerate(lines)]
    assert native("weave")(*columns, b"", packed(*left), stops) == [
        b"".join(again[start:stop]) for start, stop in pairwise((0, *stops))
    ]


def test_lines_that_are_dropped_count_for_ordinals_alone():
    rng = random.Random(0)
    rows = 200
    values, tails = ([b"%c%d" % (mark, at) for at in range(rows)] for mark in b"vz")
    runs = [b"<", b">"], [77, rows], [b"m%d " % at for at in range(67)], [*range(3, 200, 3), rows], [b"t"], [rows]
    columns = *(list(each) for each in runs), b",".join(values), tails
    lines = native("weave")(*columns, b"", b"", [*range(1, rows + 1)])
    for some in (0.01, 0.5, 0.99):
        verdicts = bytes(rng.choice((1, 100)) * (rng.random() < some) for _ in range(rows))
        left = [line for line, verdict in zip(lines, verdicts, strict=True) if not verdict]
        cuts = sorted(rng.choices(range(len(left) + 1), k=9))
        assert native("weave")(*columns, verdicts, b"", cuts) == [
            b"".join(left[slice(*cut)]) for cut in pairwise((0, *cuts))
        ]
        ranges = [(start, min(start + 5, len(left))) for start in rng.choices(range(len(left)), k=4)]
        assert native("weave")(*columns, verdicts, b"", [ranges]) == [
            b"".join(line for r in ranges for line in left[slice(*r)])
        ]


def test_verdicts_are_those_of_metrics_or_of_classes():
    sift = native("sift")
    kinds = [type("Tail", (bytes,), {}) for _ in range(12)]
    one, two, three = (kind(b"") for kind in kinds[:3])
    known = [{kinds[0]: 0, kinds[1]: 7}, {kinds[0]: 9, kinds[1]: 0}]
    assert sift(bytes((0, 5, 128)), [1, 3, 5], [one, one, two, one, two], known) == bytes((0, 5, 5, 0, 7))
    again = [one, two, one, two, two, one, one]
    assert sift(bytes((128, 128, 129, 128)), [2, 4, 6, 7], again, known) == bytes((0, 7, 0, 7, 0, 9, 0))
    assert sift(bytes((128,)), [1], [three], known) is None, "it was not asked yet"
    for codes, stops, tails in (
        (b"\0\0", [1], [one]),
        (b"\0", [2], [one]),
        (b"\0\0", [2, 1], [one, two]),
        (b"\0", [0], [one]),
    ):
        with pytest.raises(ValueError, match="unequal"):
            sift(codes, stops, tails, known)
    with pytest.raises(IndexError):
        sift(bytes((130,)), [1], [one], known)
    assert sift(bytes((128,)), [1], [b"plain"], known) is None, "it has no class of its own"
    many = [kind(b"") for kind in kinds] * 2
    of_each = {kind: at for at, kind in enumerate(kinds)}
    assert sift(bytes((128,)), [len(many)], many, [of_each]) == bytes([*range(12)] * 2)


def test_the_switch_turns_it_off():
    script = "from lmstream.native import engine; print(engine())"
    for value, told in (("off", "plain"), ("on", "native")):
        env = os.environ | {SWITCH: value}
        assert subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        ).stdout.split() == [told]
    assert engine() == "native"


def test_one_of_other_sources_is_not_used(monkeypatch):
    part = types.ModuleType("lmstream._native")
    part.scan = print
    monkeypatch.setitem(sys.modules, "lmstream._native", part)
    for interface in (None, 1, 10_000):
        part.INTERFACE = interface
        assert native("scan") is None
        assert engine() == "plain"


def test_a_codec_of_somebody_else_may_ask_ours_and_hand_out_what_it_gave(monkeypatch):
    module = types.ModuleType("theirs")
    module.Codec = otlp_json.Codec
    monkeypatch.setitem(sys.modules, "theirs", module)
    payload = bundle(ONE, ONE)
    out = Engine(Settings(org_id="acme", format="theirs")).fan_out(record(payload))
    assert out.ndjson() == Engine(Settings(org_id="acme")).fan_out(record(payload)).ndjson()

    class Later(otlp_json.Codec):
        def decode(self, payload):
            made = super().decode(payload)
            made.times = [time + 3_600_000_000_000 for time in made.times]
            return made

    module.Codec = Later
    later = Engine(Settings(org_id="acme", format="theirs")).fan_out(record(payload))
    assert later.ndjson() == out.ndjson().replace(b"T14:06:17", b"T15:06:17").replace(
        b"1715263577241", b"1715267177241"
    )
    assert later.paths == {path.replace("/14", "/15") for path in out.paths}
    made = otlp_json.Codec(Settings()).decode(payload)
    assert misfit(made) == ""
    made.texts += b",1"
    assert "texts" in misfit(made)
