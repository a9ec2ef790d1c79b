"""Poison: payloads that are no bundle are refused for the reason they deserve, by oracle and engine, and cost no more
than their limits."""

import gzip
import json
import time

import msgspec
import pytest

from lmstream import Engine, Settings
from lmstream.errors import REASONS
from lmstream.settings import Limits
from support import oracle, repoison
from support.judging import ACME, agree, engine_reason, judged, record, same_refusal

MANIFEST = json.loads((repoison.POISON / "poison.json").read_bytes())
MIB = 2**20


def test_the_corpus_on_disk_is_the_one_in_the_script():
    assert (repoison.POISON / "poison.json").read_bytes() == repoison.manifest()
    on_disk = {path.name: path.read_bytes() for path in repoison.POISON.iterdir() if path.name != "poison.json"}
    assert on_disk.keys() == repoison.FILES.keys()
    for name, data in on_disk.items():
        if not name.endswith((".gz", ".zlib", ".bz2", ".xz")):  # builds differ in how they compress, not in what
            assert data == repoison.FILES[name][1], name


@pytest.mark.parametrize("name", MANIFEST)
def test_poison_is_refused_for_its_reason(name):
    payload = (repoison.POISON / name).read_bytes()
    assert same_refusal(MANIFEST[name], judged(record(payload)))
    assert MANIFEST[name] in REASONS
    assert engine_reason(Engine(ACME), record(payload)) == MANIFEST[name]


@pytest.mark.parametrize("name", [name for name in MANIFEST if "utf8" in name or "depth" in name])
def test_settings_do_not_change_what_is_poison(name):
    settings = Settings(org_attributes=("none",), exemplars=False)
    assert engine_reason(Engine(settings), record((repoison.POISON / name).read_bytes())) == MANIFEST[name]


def test_good_bundles_follow_poison_on_the_same_engine():
    engine = Engine(ACME)
    good = record(repoison.GOOD)
    before = engine.fan_out(good).ndjson()
    for name in MANIFEST:
        engine_reason(engine, record((repoison.POISON / name).read_bytes()))
        assert engine.fan_out(good).ndjson() == before, f"{name} left something behind"


DEEP = {
    "closed lists in an unknown field": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b',"resourceMetrics":[]}',
    "open lists": b'{"resourceMetrics":[],"x":' + b"[" * 1_000_000,
    "open objects": b'{"x":' * 300_000,
    "closed objects": b'{"x":' * 200_000 + b"1" + b"}" * 200_000,
    "attribute lists": repoison.resource(repoison.attribute(repoison.nested(20_000))),
    "attribute maps of a point": repoison.gauge(
        f'{{{repoison.TIME},"asInt":1,"attributes":{repoison.attribute(repoison.nested(10_000, *repoison.MAP))}}}'
    ),
    "lists in an unknown field of a point": repoison.gauge(
        f'{{{repoison.TIME},"asInt":1,"x":{"[" * 10**5}{"]" * 10**5}}}'
    ),
}


@pytest.mark.parametrize("name", DEEP)
def test_a_depth_bomb_is_refused_quickly(name):
    payload = DEEP[name]
    engine = Engine(ACME)
    started = time.process_time()
    reason = engine_reason(engine, record(payload))
    assert time.process_time() - started < 2
    assert reason == "limits.depth"
    assert judged(record(payload)) == "limits.depth"


def test_a_depth_bomb_in_a_known_place_is_refused_quickly():
    payload = b'{"resourceMetrics":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert engine_reason(Engine(ACME), record(payload)) in ("limits.depth", "decode.type")  # both are true


def test_nesting_that_is_ignored_may_be_a_few_hundred_deep():
    payload = repoison.gauge(f'{{{repoison.TIME},"asInt":1,"x":{"[" * 300}{"]" * 300}}}')
    assert agree(record(payload)).count(b"\n") == 1


def deep_proto(depth: int) -> bytes:
    """A protobuf bundle with so many lists in an attribute, made from the inside out without copying each time."""
    parts = [repoison.field(1, b"x")]
    size = len(parts[0])
    for _ in range(depth):
        for number in (1, 5):
            head = repoison.varint(number << 3 | 2) + repoison.varint(size)
            parts.append(head)
            size += len(head)
    return repoison.proto_resource(repoison.field(1, repoison.proto_attribute(b"".join(reversed(parts)))))


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_a_protobuf_depth_bomb_is_refused(depth):
    payload = deep_proto(depth)
    assert engine_reason(Engine(ACME), record(payload)) == "limits.depth"
    assert judged(record(payload)) == "limits.depth"


@pytest.mark.parametrize("depth", [32, 33, 47])
@pytest.mark.parametrize("kind", [5, 6])
def test_levels_are_taken_in_both_formats(depth, kind):
    text = repoison.nested(depth, *(() if kind == 5 else repoison.MAP))
    lines = agree(record(repoison.gauge(f'{{{repoison.TIME},"asDouble":0,"attributes":{repoison.attribute(text)}}}')))
    assert lines.count(b"\n") == 1
    attribute = repoison.proto_attribute(repoison.proto_nested(depth, kind))
    payload = repoison.proto_gauge(repoison.proto_point(repoison.field(7, attribute)))
    assert agree(record(payload)) == lines


def bomb(size: int, head: bytes = b"{") -> bytes:
    return gzip.compress(head + b" " * size, mtime=0)


def test_a_gzip_bomb_is_refused_by_its_ratio():
    payload = bomb(9 * MIB)
    assert agree(record(payload)) == "limits.ratio"
    assert agree(record(bomb(60 * MIB))) == "limits.ratio"


def test_a_high_ratio_is_fine_below_8_mib():
    payload = gzip.compress(repoison.GOOD + b" " * (7 * MIB), mtime=0)
    assert agree(record(payload)).count(b"\n") == 1


def test_the_sizes_are_bounded():
    good = repoison.GOOD
    exact = Settings(org_id="acme", limits=Limits(record_bytes=len(good), inflated_bytes=len(good)))
    assert agree(record(good), exact).count(b"\n") == 1
    assert agree(record(good + b" "), exact) == "limits.size"
    assert agree(record(gzip.compress(good, mtime=0)), exact).count(b"\n") == 1
    small = Settings(org_id="acme", limits=Limits(inflated_bytes=len(good) - 1))
    assert agree(record(gzip.compress(good, mtime=0)), small) == "limits.size"


def test_data_points_are_bounded():
    point = repoison.POINT
    settings = Settings(org_id="acme", limits=Limits(points=3))
    assert agree(record(repoison.gauge(",".join([point] * 3))), settings).count(b"\n") == 3
    assert agree(record(repoison.gauge(f"{point},7,{point},{point}")), settings) == "limits.points"
    four = repoison.proto_metric(repoison.field(5, repoison.field(1, repoison.proto_point()) * 4))
    assert agree(record(four), settings) == "limits.points"


@pytest.mark.parametrize("extra", [0, 1])
def test_a_row_is_bounded_with_its_newline(extra):
    settings = Settings(org_id="acme", limits=Limits(row_bytes=1024))
    empty = oracle.rows(record(repoison.gauge(more='"name":"n","unit":"x"')), settings).rows[0]
    room = 1024 - len(msgspec.json.encode(empty)) - 1
    unit = '"' + "x" * (room + 1 + extra) + '"'
    payload = repoison.gauge(f"{repoison.POINT},{{{repoison.TIME}}}", more=f'"name":"n","unit":{unit}')
    lines = agree(record(payload), settings)
    assert lines.count(b"\n") == 1 - extra
    out = Engine(settings).fan_out(record(payload))
    assert out.rejected == ((*([(0, "row.too_large")] * extra), (1, "value.missing")))


def test_gzip_may_come_in_members():
    payload = gzip.compress(repoison.GOOD[:50], mtime=0) + gzip.compress(repoison.GOOD[50:], mtime=0)
    assert agree(record(payload)) == agree(record(repoison.GOOD))


PADDED = {
    "a line feed": b"\n",
    "a NUL": b"\0",
    "many NULs": bytes(512),
    "NULs and a line feed": bytes(3) + b"\n",
    "white space": b"\r\n \t",
    "NULs and another member": bytes(3) + gzip.compress(b" \n", mtime=0),
}


@pytest.mark.parametrize("name", PADDED)
def test_what_pads_a_gzip_value_is_passed_over(name):
    assert agree(record(gzip.compress(repoison.GOOD, mtime=0) + PADDED[name])) == agree(record(repoison.GOOD))


@pytest.mark.parametrize("padding", [b"a", b"\x1f", b"\0\0ab", b"\x1f\x8b", b"{}", bytes(3) + b"\x1f\x8b\x08"])
def test_what_follows_a_gzip_value_and_is_neither_padding_nor_gzip_refuses_it(padding):
    assert agree(record(gzip.compress(repoison.GOOD, mtime=0) + padding)) == "decode.gzip"


def test_gzip_of_protobuf_is_taken():
    assert agree(record(gzip.compress(repoison.GOOD_PROTO, mtime=0))) == agree(record(repoison.GOOD_PROTO))


@pytest.mark.parametrize(
    ("format_", "payload", "reason"),
    [
        ("otlp_json", repoison.GOOD_PROTO, "decode.json"),
        ("otlp_proto", repoison.GOOD, "decode.protobuf"),
        ("otlp_json", b"", "decode.empty"),
        ("otlp_proto", b"", "decode.empty"),
    ],
)
def test_a_fixed_format_takes_no_other(format_, payload, reason):
    settings = Settings(org_id="acme", format=format_)
    if payload == repoison.GOOD_PROTO:  # not UTF-8 either, so either reason is true
        assert engine_reason(Engine(settings), record(payload)) in (reason, "decode.utf8")
    else:
        assert agree(record(payload), settings) == reason


def test_a_fixed_format_still_inflates():
    for format_, payload in (("otlp_json", repoison.GOOD), ("otlp_proto", repoison.GOOD_PROTO)):
        settings = Settings(org_id="acme", format=format_)
        assert agree(record(gzip.compress(payload, mtime=0)), settings).count(b"\n") == 1
