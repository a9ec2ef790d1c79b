"""Any bytes at all: rows or DecodeError and nothing else, the same at any stack depth and in any thread."""

import gzip
import random
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine
from lmstream.errors import DecodeError
from support import repoison, strategies
from support.judging import ACME, agree, judged, lines_of, record

WARM = Engine(ACME)
GOOD = (repoison.POISON.parent / "golden" / "all_kinds" / "bundle.json").read_bytes()
GOOD_PROTO = (repoison.POISON.parent / "golden" / "all_kinds" / "bundle.pb").read_bytes()
SMALL = {"json": repoison.GOOD, "proto": repoison.GOOD_PROTO, "all json": GOOD, "all proto": GOOD_PROTO}
JSON_PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"null",
    b"1e999",
    b"-",
    b"\\",
    b"\x00",
    b"\xff",
    b"NaN",
    b"true",
]
PROTO_PIECES = [b"\x00", b"\x0a", b"\x12", b"\x7f", b"\x80", b"\xff", b"\x0a\x00", b"\x53", b"\x54", b"\xff" * 10]


def said(engine: Engine, payload: bytes) -> tuple:
    """All that an engine says of a payload."""
    try:
        out = engine.fan_out(record(payload))
    except DecodeError as e:
        return (e.reason,)
    lines_of(out.ndjson())
    return out.ndjson(), out.rejected, sorted(out.skipped.items()), sorted(out.noted.items())


def mutated(payload: bytes, rng: random.Random, pieces: list[bytes]) -> bytes:
    """A few bytes flipped, cut, doubled or put in."""
    data = bytearray(payload)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.randint(0, 6))
        match rng.randrange(5):
            case 0:
                data[at:to] = b""
            case 1:
                data[at:to] = rng.choice(pieces)
            case 2:
                data[at:at] = data[at:to]
            case 3:
                data[at:to] = rng.randbytes(to - at)
            case 4:
                other = rng.randrange(len(data) + 1)
                data[at:to] = data[other : other + 8]
    return bytes(data)


def same_family(payload: bytes) -> None:
    """Engine and oracle both refuse, or both give the same rows. Which of several true reasons is named first may
    differ in bytes that are wrong in several ways; a depth that only the oracle's reader counts may too."""
    verdict = judged(record(payload))
    if isinstance(verdict, str):
        with pytest.raises(DecodeError):
            WARM.fan_out(record(payload))
    else:
        agree(record(payload), engine=WARM)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_rows_or_a_decode_error(data):
    for payload in (
        data,
        b"{" + data,
        b"\n" + data,
        b"\x1f\x8b" + data,
        b"\x1f\x8b\x08\x00" + data,
        gzip.compress(data),
    ):
        said(WARM, payload)
    same_family(data)
    same_family(b"\n" + data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["resourceMetrics", "resource", "scopeMetrics", "scope", "metrics", "name", "gauge", "sum", "dataPoints", "attributes", "key", "value", "asInt", "timeUnixNano"]), inner), max_leaves=20))  # fmt: skip
def test_arbitrary_json_is_rows_or_a_decode_error(tree):
    import json

    for payload in (json.dumps(tree).encode(), json.dumps({"resourceMetrics": tree}).encode()):
        same_family(payload)


@given(st.sampled_from(["json", "all json"]), st.integers(0, 2**32))
def test_damaged_json_is_refused_or_read_as_the_oracle_reads_it(name, seed):
    same_family(mutated(SMALL[name], random.Random(seed), JSON_PIECES))


@given(st.sampled_from(["proto", "all proto"]), st.integers(0, 2**32))
def test_damaged_protobuf_is_refused_or_read_as_the_oracle_reads_it(name, seed):
    same_family(mutated(SMALL[name], random.Random(seed), PROTO_PIECES))


@given(strategies.bundles(), st.integers(0, 2**32))
def test_damaged_bundles_are_refused_or_read_as_the_oracle_reads_them(bundle, seed):
    rng = random.Random(seed)
    same_family(mutated(bundle.SerializeToString(), rng, PROTO_PIECES))
    same_family(mutated(strategies.to_otlp_json(bundle, rng), rng, JSON_PIECES))


@pytest.mark.parametrize("name", SMALL)
def test_every_truncation_is_refused_or_read_as_the_oracle_reads_it(name):
    payload = SMALL[name][:900]
    for end in range(len(payload)):
        same_family(payload[:end])


@pytest.mark.parametrize("name", ["json", "proto"])
def test_every_flipped_byte_is_refused_or_read_as_the_oracle_reads_it(name):
    payload = SMALL[name]
    for at in range(len(payload)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            same_family(payload[:at] + bytes([payload[at] ^ flip]) + payload[at + 1 :])


def at_depth(frames: int, call: object) -> object:
    """The call's result from that many frames further down."""
    return at_depth(frames - 1, call) if frames else call()


DEEP_PAYLOADS = {
    "json": GOOD,
    "proto": GOOD_PROTO,
    "47 lists": repoison.resource(repoison.attribute(repoison.nested(47))),
    "47 maps in a point": repoison.gauge(
        f'{{{repoison.TIME},"asInt":1,"attributes":{repoison.attribute(repoison.nested(47, *repoison.MAP))}}}'
    ),
    "47 maps in protobuf": repoison.proto_gauge(
        repoison.proto_point(repoison.field(7, repoison.proto_attribute(repoison.proto_nested(47, 6))))
    ),
    "48 lists": repoison.resource(repoison.attribute(repoison.nested(48))),
    "300 ignored lists": b'{"resourceMetrics":[],"x":' + b"[" * 300 + b"]" * 300 + b"}",
    "depth bomb": b'{"x":' + b"[" * 100_000,
    "bad point": repoison.gauge(f'{repoison.POINT},{{{repoison.TIME},"asInt":"x"}}'),
    "gzip": gzip.compress(GOOD, mtime=0),
    "not json": b"{x",
}


@pytest.mark.parametrize("name", DEEP_PAYLOADS)
def test_the_verdict_does_not_depend_on_the_stack(name):
    payload = DEEP_PAYLOADS[name]
    wanted = said(Engine(ACME), payload)
    here = len(__import__("inspect").stack(0))
    room = sys.getrecursionlimit() - here
    for frames in (300, 600, room - 150, room - 60, room - 40):
        for engine in (Engine(ACME), WARM):
            got = at_depth(frames, lambda engine=engine: deep_said(engine, payload))
            assert got == wanted, f"{room - frames} frames below the limit"


def deep_said(engine: Engine, payload: bytes) -> tuple:
    """As `said`, without helpers that need more stack than the engine may."""
    try:
        out = engine.fan_out(record(payload))
    except DecodeError as e:
        return (e.reason,)
    return out.ndjson(), out.rejected, sorted(out.skipped.items()), sorted(out.noted.items())


def test_threads_say_the_same():
    payloads = [*DEEP_PAYLOADS.values(), *(data for _, data in repoison.FILES.values())]
    wanted = [said(Engine(ACME), payload) for payload in payloads]
    got: dict[int, list[tuple]] = {}

    def work(n: int) -> None:
        engine = Engine(ACME)
        got[n] = [deep_said(engine, payload) for payload in payloads]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[n] for n in range(4)] == [wanted] * 4
