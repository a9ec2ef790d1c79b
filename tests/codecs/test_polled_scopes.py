"""Scopes that are new in every poll but for LMDP's epoch: read through what was learned, rows are as if read afresh."""

import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine
from lmstream.engine.timestamps import TimePieces
from support.judging import ACME, agree, lines_of, record
from support.repoison import TIME
from support.wire import varint

EPOCH = '{"key":"epoch","value":{"stringValue":"%s"}}'
OTHER = '{"key":"collector","value":{"stringValue":"snmp"}}'
PROBE = "1000000000000"  # what the codec tries a scope with

# Texts of a scope with %s where an epoch goes, none of them usual.
SCOPES = {
    "usual": f'{{"name":"Cpu","attributes":[{OTHER},{EPOCH}]}}',
    "alone": f'{{"attributes":[{EPOCH}]}}',
    "twice, the same": f'{{"attributes":[{EPOCH},{EPOCH}]}}',
    "first of two": f'{{"attributes":[{EPOCH},{EPOCH % 5}]}}',
    "last of two": f'{{"attributes":[{EPOCH % 5},{EPOCH}]}}',
    "in the name too": f'{{"name":"%s","attributes":[{EPOCH}]}}',
    "beside the probe": f'{{"name":"{PROBE}","attributes":[{EPOCH}]}}',
    "beside the probe, escaped": f'{{"name":"\\u0031{PROBE[1:]}","attributes":[{EPOCH}]}}',
    "of a longer key": '{"attributes":[{"x\\"key":"epoch","value":{"stringValue":"%s"},"key":"a"}]}',
    "in a value": '{"attributes":[{"key":"a","value":{"kvlistValue":{"values":[' + EPOCH + "]}}}]}",
    "of an ignored member": f'{{"name":"Cpu","other":[{EPOCH}]}}',
    "value given again": '{"attributes":[{"key":"epoch","value":{"stringValue":"%s"},"value":{"stringValue":"7"}}]}',
    "key given again": '{"attributes":[{"key":"epoch","value":{"stringValue":"%s"},"key":"other"}]}',
    "name as attribute": '{"name":"Cpu","attributes":[{"key":"name","value":{"stringValue":"x"}},' + EPOCH + "]}",
    "attributes given again": f'{{"attributes":[{EPOCH}],"attributes":[]}}',
}
EPOCHS = st.one_of(
    st.integers(0, 10**17).map(str),
    st.integers(10**12, 10**13 - 1).map(str),
    st.sampled_from(
        [
            "",
            "0",
            "007",
            "-5",
            "1e3",
            " 1",
            "1715263558360",
            PROBE,
            "0" * 13,
            "0" * 12 + "7",
            "9" * 13,
            "9" * 14,
            "\u0661",
            "NaN",
            "1.5",
        ]
    ),
)


def bundle(scope: str) -> bytes:
    point = f'{{"asInt":"1",{TIME}}},{{"asInt":"2"}}'  # the second has no time of its own: the epoch stands in
    return (
        f'{{"resourceMetrics":[{{"scopeMetrics":[{{"scope":{scope},'
        f'"metrics":[{{"name":"a","gauge":{{"dataPoints":[{point}]}}}}]}}]}}]}}'
    ).encode()


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
@given(epochs=st.lists(EPOCHS, min_size=2, max_size=5))
def test_a_scope_that_differs_in_its_epoch_only_reads_as_if_it_were_the_first(scope: str, epochs: list[str]) -> None:
    warm = Engine(ACME)
    for epoch in epochs:
        rec = record(bundle(scope.replace("%s", epoch)))
        out = warm.fan_out(rec)
        assert out.ndjson() == Engine(ACME).fan_out(rec).ndjson()
        agree(rec, ACME)


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def attribute(key: bytes, text: bytes) -> bytes:
    return field(3, field(1, key) + field(2, field(1, text)))


# The same in protobuf, from an epoch's text to a scope's bytes.
PROTO_SCOPES: dict[str, Callable[[bytes], bytes]] = {
    "usual": lambda e: field(1, b"Cpu") + attribute(b"collector", b"snmp") + attribute(b"epoch", e),
    "alone": lambda e: attribute(b"epoch", e),
    "twice, the same": lambda e: 2 * attribute(b"epoch", e),
    "first of two": lambda e: attribute(b"epoch", e) + attribute(b"epoch", b"5"),
    "last of two": lambda e: attribute(b"epoch", b"5") + attribute(b"epoch", e),
    "in the name too": lambda e: field(1, e) + attribute(b"epoch", e),
    "beside the probe": lambda e: field(1, PROBE.encode()) + attribute(b"epoch", e),
    "the name again, behind": lambda e: field(1, b"a") + attribute(b"epoch", e) + field(1, b"b"),
    "in a text": lambda e: attribute(b"a", attribute(b"epoch", e)),
    "in a text, before its own": lambda e: attribute(b"a", attribute(b"epoch", e)) + attribute(b"epoch", e),
    "in bytes": lambda e: field(3, field(1, b"a") + field(2, field(7, attribute(b"epoch", e)))),
    "in a map": lambda e: field(3, field(1, b"a") + field(2, field(6, field(1, attribute(b"epoch", e)[2:])))),
    "of an unknown field": lambda e: field(1, b"Cpu") + field(99, attribute(b"epoch", e)),
    "of another type": lambda e: field(3, field(1, b"epoch") + field(2, field(7, e))),
    "value given again": lambda e: field(3, field(1, b"epoch") + field(2, field(1, e)) + field(2, field(1, b"7"))),
    "key given again": lambda e: field(3, field(1, b"epoch") + field(2, field(1, e)) + field(1, b"other")),
    "name as attribute": lambda e: field(1, b"Cpu") + attribute(b"name", b"x") + attribute(b"epoch", e),
}


def proto_bundle(scope: bytes) -> bytes:
    # The second point has no time of its own.
    points = (b"\x19" + struct.pack("<Q", 1_715_263_558_360_000_000) + b"\x31" + bytes(8), b"\x31" + bytes(8))
    metric = field(2, field(1, b"a") + field(5, b"".join(field(1, point) for point in points)))
    return field(1, field(2, field(1, scope) + metric))


@pytest.mark.parametrize("scope", PROTO_SCOPES.values(), ids=PROTO_SCOPES)
@given(epochs=st.lists(EPOCHS, min_size=2, max_size=5))
def test_so_does_one_in_protobuf(scope: Callable[[bytes], bytes], epochs: list[str]) -> None:
    warm = Engine(ACME)
    for epoch in epochs:
        rec = record(proto_bundle(scope(epoch.encode())))
        out = warm.fan_out(rec)
        assert out.ndjson() == Engine(ACME).fan_out(rec).ndjson()
        agree(rec, ACME)


def test_the_epoch_of_each_poll_is_in_its_row_and_stands_in_for_the_time() -> None:
    engine = Engine(ACME)
    for epoch in (1_715_263_558_360, 1_715_263_618_361):
        _, late = lines_of(engine.fan_out(record(bundle(SCOPES["usual"] % epoch))).ndjson())
        assert late["scope"] == {"name": "Cpu", "collector": "snmp", "epoch": str(epoch)}
        assert late["tsUnixMs"] == epoch


def test_a_thousand_polls_of_one_scope_keep_one_entry() -> None:
    engine = Engine(ACME)
    for poll in range(1000):
        epoch = str(1_715_263_558_360 + 60_000 * poll)
        engine.fan_out(record(bundle(SCOPES["usual"] % epoch)))
        engine.fan_out(record(proto_bundle(PROTO_SCOPES["usual"](epoch.encode()))))
    for codec in engine.codecs.values():
        assert len(codec._scopes._polled) == 1
        assert not codec._scopes._whole


def test_flags_and_exemplars_are_judged_alike_when_they_are_there_and_empty() -> None:
    for members in ('"flags":0', '"flags":null', '"exemplars":[]', '"flags":0,"exemplars":null', '"flags":"0"'):
        payload = json.loads(bundle('{"name":"s"}'))
        text = json.dumps(payload, separators=(",", ":")).replace('"asInt":"1"', f'"asInt":"1",{members}')
        agree(record(text.encode()), ACME)
        assert lines_of(Engine(ACME).fan_out(record(text.encode())).ndjson())[0]["value"] == 1


def test_every_millisecond_of_a_minute_is_written_with_three_decimals() -> None:
    pieces = TimePieces()
    for start in (946_684_800_000, 1_715_263_500_000, 4_133_980_740_000):
        for ms in range(start, start + 60_000, 7 if start != 1_715_263_500_000 else 1):
            text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
            want = f'"ts":"{text}","tsUnixMs":{ms},"value":'
            assert pieces[1_000_000 * ms + 999_999, 0] == want.encode()
