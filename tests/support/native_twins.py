"""Two engines, one with the native part and one without, that must say the same of every payload: fuzzing by a seed.

PYTHONPATH=src:tests python tests/support/native_twins.py SECONDS [SEED]
"""

import copy
import json
import math
import os
import random
import re
import sys
import time
from typing import Any

from benchmarks import corpus

from lmstream import Engine, Settings
from lmstream.engine.columns import Columns
from lmstream.errors import DecodeError, LmstreamError
from lmstream.model import Record
from lmstream.native import SWITCH
from lmstream.rules import Conditions, Maps, Mask, Names, Rule, Scale
from lmstream.settings import Limits
from support.wire_damage import DOUBLES, damaged

TOKENS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"null",
        b"true",
        b"-",
        b".",
        b"0",
        b"e5",
        b"\\",
        b"\\u0041",
        b" ",
        b"\n",
    ),
    *(b"\\ud83d\\ude00", b"\\ud83d", b"\x00", b"\x1f", b"\xff", b"\xc3\xa4", b"[]", b"{}", b'""', b"NaN", b'"x":1,'),
    *(
        b'"asInt":"1",',
        b'"asDouble":1.5,',
        b'"flags":1,',
        b'"exemplars":[],',
        b'"timeUnixNano":"1",',
        b'"attributes":[],',
    ),
    *(b'"startTimeUnixNano":5,', b'"dataPoints":[],', b'"schemaUrl":"u",', b'"resource":{},', b'"scope":{},'),
]
NUMBERS = [
    *(
        "0",
        "-0",
        "0.0",
        "-0.0",
        "00",
        "01",
        "1",
        "-1",
        "1.",
        ".5",
        "1.0",
        "1.50",
        "0.5",
        "0.05",
        "0.005",
        "0.0005",
        "0.00001",
    ),
    *(
        "1e3",
        "1E3",
        "1e+3",
        "1.5e-7",
        "1e999",
        "-1e999",
        "1e22",
        "123456789012345",
        "1234567890123456",
        "0.1234567890123456",
    ),
    *("12345678901234567", "123456789012345678", "999999999999999999", "9223372036854775807", "9223372036854775808"),
    *(
        "-9223372036854775808",
        "99999999999999.5",
        "999999999999999.5",
        "9007199254740993",
        "0.30000000000000004",
        "5e-324",
    ),
    *(
        "1.7976931348623157e308",
        "100000000000000000000.0",
        "1000000000000000.0",
        "123456789012345.0",
        '"5"',
        '"-5"',
        '"05"',
    ),
    *(
        '"1.5"',
        '"NaN"',
        '"Infinity"',
        '"1715263577241000000"',
        '"18446744073709551615"',
        '""',
        '" 5"',
        "null",
        "true",
        "[]",
    ),
]
_NUMBER = re.compile(rb'"?-?\d+(\.\d+)?"?(?=[,}])')


class Twins:
    """Both engines, warm or cold."""

    def __init__(self, settings: Settings) -> None:
        before = os.environ.pop(SWITCH, None)
        self.native = Engine(settings)
        self._load(self.native)
        os.environ[SWITCH] = "off"
        self.plain = Engine(settings)
        self._load(self.plain)
        del os.environ[SWITCH]
        if before is not None:
            os.environ[SWITCH] = before

    def _load(self, engine: Engine) -> None:
        """Have the codecs made, which look for the native part then."""
        for payload in (b"[]", b"\n\0"):
            self.said(engine, payload)

    def said(self, engine: Engine, payload: bytes) -> tuple[Any, ...]:
        """All that an engine says of a payload."""
        try:
            out = engine.fan_out(Record(topic="t", partition=0, offset=7, timestamp=1_715_263_558_360, value=payload))
        except DecodeError as error:
            return error.reason, str(error)
        columns = [
            (each.path, _by_row(each), list(each.ordinals), each.metrics, each.times, each.values, each.tails, each.odd)
            for each in (() if engine.settings.dimensions else out.columns())
        ]
        groups = [(each.path, each.data, each.rows) for each in out.groups]
        counts = (
            sorted(out.noted.items()),
            sorted(out.skipped.items()),
            out.rejected,
            out.parts,
            out.unknown,
            out.points,
            sorted(out.dropped.items()),
            sorted(out.paths),
        )
        lines = out.ndjson()
        if (
            out.hour is not None
        ):  # may be None where points that a rule drops are of others: then it is not known at once
            rows = [json.loads(line) for line in lines.splitlines()]
            assert {(row["orgKey"], row["ts"][:13].encode()) for row in rows} <= {out.hour}, payload
        return lines, groups, out.cut(3, 1500), counts, columns, out.dimensions

    def agree(self, payload: bytes) -> bool:
        """Whether the native part took it. Raises AssertionError, with the payload, when they differ."""
        mine, other = self.said(self.native, payload), self.said(self.plain, payload)
        assert mine == other, f"{payload!r}\n{_difference(mine, other)}"
        return scanned(self.native, payload)


def _by_row(columns: Columns) -> list[Any]:
    """The series of each row: two that follow one another may be the same."""
    return [series[:4] for series in columns.series for _ in range(series.rows)]


def _difference(mine: Any, other: Any, where: str = "$") -> str:
    """The first place where two answers differ."""
    if isinstance(mine, list | tuple) and isinstance(other, list | tuple) and len(mine) == len(other):
        at = next(at for at, pair in enumerate(zip(mine, other, strict=True)) if pair[0] != pair[1])
        return _difference(mine[at], other[at], f"{where}[{at}]")
    if isinstance(mine, bytes) and isinstance(other, bytes) and b"\n" in mine and b"\n" in other:
        return _difference(mine.split(b"\n"), other.split(b"\n"), where)
    return f"{where}: native {mine!r}, plain {other!r}"


def scanned(engine: Engine, payload: bytes) -> bool:
    """Whether the payload is plain to the scanner of its format."""
    codec: Any = engine.codecs["otlp_proto" if payload[:1] == b"\n" else "otlp_json"]
    return codec._plain.read(payload) is not None


RULES = (
    Rule(name="by-2", when=Conditions(metric="m*"), scale=Scale(multiply=1 << 10, unit="x")),
    Rule(name="mebi", unless=Conditions(metric="m1"), scale=Scale(divide=1 << 20, unit="MiBy")),
)
"""Of metrics in documents(): each is scaled, by three powers."""
MORE_RULES: dict[str, tuple[Rule, ...]] = {
    "scaled": RULES,
    "dropped by metric and scope": (
        Rule(name="kept", when=Conditions(metric="m1"), keep=True),
        Rule(name="of-t", when=Conditions(datasource=["t", "SNMP_Datasource1*"]), drop=True),
        Rule(name="counts", when=Conditions(metric="*Count"), unless=Conditions(unit="By"), drop=True),
        Rule(name="second", when=Conditions(metric=["m2", "*Usage"]), drop=True),
        Rule(name="late", when=Conditions(metric="m2"), keep=True),
        Rule(name="hidden", when=Conditions(metric="m2", resource={"hostId": "7"}), metric_key="hidden"),
        *RULES,
    ),
    "and keyed by resource": (
        Rule(name="first", when=Conditions(metric="m0"), drop=True),
        Rule(name="dc", when=Conditions(resource={"hostId": "7"}, metric="*1"), metric_key="one"),
        Rule(name="half", when=Conditions(unit="By"), scale=Scale(divide=2, unit="2By")),
    ),
    "dropped by several parts": (
        Rule(name="both", when=Conditions(datasource="s", metric="m2"), drop=True),
        Rule(name="point", when=Conditions(attributes={"i": "a"}, metric="m1"), drop=True),
        Rule(name="of-t", when=Conditions(datasource="t"), drop=True),
    ),
}
"""By what they do: the native part does some of it before a codec sees the bundle, and all of it must be the same."""


def random_rules(rng: random.Random) -> tuple[Rule, ...]:
    """A few that may stand together, about what documents() has."""
    while True:
        made = tuple(_rule(rng, at) for at in range(rng.randint(1, 7)))
        try:
            Settings(org_id="acme", rules=made)
        except LmstreamError:
            continue
        return made


def _rule(rng: random.Random, number: int) -> Rule:
    whole = rng.random() < 0.5  # then all of a metric or of a scope is decided about
    when = Conditions(
        metric=rng.choice((None, "m1", ["m*", "*Count"], "*Usage", "*")) if whole or rng.random() < 0.5 else None,
        unit=rng.choice((None, None, "By", "%")),
        datasource=rng.choice(("s", "t", "SNMP_Datasource1*", "*")) if not whole else None,
        resource=rng.choice(({}, {}, {"hostId": "7"}, {"location": "us-*"})) if not whole else {},
        attributes=_of_points(rng) if rng.random() < 0.3 else {},
    )
    attributes = _of_points(rng) if rng.random() < 0.15 else {}
    unless = Conditions(metric=rng.choice((None, None, "m2", "*Peak")), attributes=attributes)
    power = 1 << rng.choice((1, 3, 10, 20, 60))
    actions: list[dict[str, Any]] = [
        {"drop": True},
        {"drop": True},
        {"keep": True},
        {"scale": Scale(multiply=power, unit="u")},
        {"scale": Scale(divide=power, unit="v")},
        {"metric_key": f"key{number}"},
        {"remove": Names(scope=("epoch",), resource=("system.*",))},
        {"org": "other"},
        {"set": Maps(resource={"env": "prod"})},
        {"mask": Mask(resource=("host*",), attributes=("i",))},
    ]
    chosen = rng.choice(actions)
    if rng.random() < 0.4 and "drop" not in chosen:  # what is done by a sieve and what is not, in one rule
        chosen = rng.choice(actions[2:]) | chosen
    return Rule(name=f"r{number}", when=when, unless=unless, **chosen)


def _of_points(rng: random.Random) -> dict[str, Any]:
    return {rng.choice(("i", "i", "wildValue")): rng.choice(("a", "b*", ["a", 'c"'], "*-1", "*"))}


def settings_of(names: str, points: int = 100_000, rules: tuple[Rule, ...] = ()) -> Settings:
    """Those of both engines."""
    return Settings(org_id="acme", field_names=names, limits=Limits(points=points), rules=rules)


def documents() -> list[dict[str, Any]]:
    """Plain bundles: of one point, and of metrics with points alike, which the scanner takes a shorter way."""
    found = list(corpus.documents("small", bundles=12))
    point = {"startTimeUnixNano": "1715263517241000000", "timeUnixNano": "1715263577241000000"}
    lists = [[{"key": "i", "value": {"stringValue": name}}] for name in ("a", "b]}", 'c"')]
    metrics: list[dict[str, Any]] = []
    for number in range(3):
        points = [point | {"asDouble": number + at / 8, "attributes": each} for at, each in enumerate(lists)]
        points += [point | {"asInt": str(number), "attributes": lists[0]}]
        metrics.append({"name": f"m{number}", "gauge": {"dataPoints": points}})
    resource = {"attributes": [{"key": "hostId", "value": {"stringValue": "7"}}]}
    scope_metrics = [{"scope": {"name": "s"}, "metrics": metrics}, {"scope": {"name": "t"}, "metrics": metrics[:1]}]
    return [*found, {"resourceMetrics": [{"resource": resource, "scopeMetrics": scope_metrics}] * 2}]


def bases() -> list[bytes]:
    """Plain bundles of both formats."""
    plain = documents()
    found = [corpus.encode(each, "json") for each in plain] + [json.dumps(plain[-1], indent=1).encode()]
    return 2 * found + 2 * [corpus.encode(each, "proto") for each in plain]


def four_agree(document: dict[str, Any], twins: Twins) -> None:
    """Raise AssertionError unless a plain bundle is taken by the scanners of both formats, and all engines say the same
    of it."""
    of_json, of_proto = corpus.encode(document, "json"), corpus.encode(document, "proto")
    assert twins.agree(of_json), f"JSON was left to the codec: {of_json!r}"
    assert twins.agree(of_proto), f"protobuf was left to the codec: {of_proto!r}"
    mine, other = twins.said(twins.native, of_json), twins.said(twins.native, of_proto)
    assert mine == other, f"JSON and protobuf of {of_json!r}\n{_difference(mine, other)}"


def other_values(rng: random.Random) -> dict[str, Any]:
    """A plain bundle with other numbers and texts than the corpus has."""
    document: dict[str, Any] = copy.deepcopy(rng.choice(documents()))
    for point in (
        point
        for resource in document["resourceMetrics"]
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        for point in (metric.get("gauge") or metric["sum"])["dataPoints"]
    ):
        point.pop("asInt", None), point.pop("asDouble", None)
        if rng.random() < 0.3:
            point["asInt"] = str(rng.choice((0, -1, rng.getrandbits(56), -rng.getrandbits(rng.randint(1, 56)))))
        else:
            point["asDouble"] = _finite(rng)
        if rng.random() < 0.2:
            point.pop("startTimeUnixNano", None)
        if rng.random() < 0.1:
            point["attributes"] = [{"key": "k", "value": {"stringValue": chr(rng.choice((0, 34, 92, 0xE4, 0x1F600)))}}]
    return document


def _finite(rng: random.Random) -> float:
    number = rng.choice((rng.random(), rng.uniform(-1e6, 1e6), rng.gauss(0, 1) * 10 ** rng.randint(-12, 25)))
    number = rng.choice((number, round(number, rng.randint(0, 12)), *DOUBLES))
    return number if math.isfinite(number) and (number or math.copysign(1, number) > 0) else 0.0


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """A payload with a few changes of one kind, or as it is."""
    if payload[:1] == b"\n" and rng.random() < 0.6:
        return damaged(payload, rng)
    kind = rng.randrange(7)
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data))
        to = min(len(data), at + rng.choice((1, 1, 3, 20, 200)))
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:to]
        elif kind == 2:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            data[at:at] = data[at:to]
        elif kind == 4 and (numbers := list(_NUMBER.finditer(data))):
            chosen = rng.choice(numbers)
            data[chosen.start() : chosen.end()] = _spelled(rng)
        elif kind == 5 and (ends := [m.start() for m in re.finditer(rb'[{,]"', data)]):
            where = rng.choice(ends) + 1
            data[where:where] = rng.choice([token for token in TOKENS if token.endswith(b",")])
        elif kind == 6:
            break
    return bytes(data)


def _spelled(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.choice(NUMBERS).encode()
    number = rng.choice((rng.random(), rng.uniform(-1e6, 1e6), rng.gauss(0, 1) * 10 ** rng.randint(-12, 25)))
    spelled = rng.choice((repr(number), f"{number:.{rng.randint(0, 17)}f}", f"{number:.{rng.randint(1, 17)}g}"))
    return spelled.encode()


def play(seed: int, cases: int, twins: Twins, plain: list[bytes]) -> int:
    """Some cases of one seed; answers how many the scanner took."""
    rng = random.Random(seed)
    for _ in range(cases // 50):
        four_agree(other_values(rng), twins)
    return sum(twins.agree(mutated(rng.choice(plain), rng)) for _ in range(cases))


def main() -> int:
    """Play until the time is over."""
    until = time.monotonic() + float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    plain, played, taken = bases(), 0, 0
    while time.monotonic() < until:
        some = [*MORE_RULES.values(), *(random_rules(random.Random(f"{seed} {at}")) for at in range(10))]
        for names, rules in (("otlp", ()), ("any", ()), *(("otlp", each) for each in some)):
            twins = Twins(settings_of(names, rules=rules))
            taken += play(seed, 200, twins, plain)
            played += 200
        seed += 1
    print(f"{played:,} payloads, {taken:,} of them by the scanner, the same said of each; next seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
