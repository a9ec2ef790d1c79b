"""Scopes that are new in every poll but for LMDP's epoch: read through what was learned, rows are as if read afresh."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging import ACME, agree, lines_of, record
from lmstream import Engine
from lmstream.times import TimePieces
from repoison import TIME

EPOCH = '{"key":"epoch","value":{"stringValue":"%s"}}'
OTHER = '{"key":"collector","value":{"stringValue":"snmp"}}'
PROBE = "1000000000000000"  # what the codec tries a scope with

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
    st.sampled_from(
        ["", "0", "007", "-5", "1e3", " 1", "1715263558360", PROBE, "9" * 16, "9" * 17, "\u0661", "NaN", "1.5"]
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


def test_the_epoch_of_each_poll_is_in_its_row_and_stands_in_for_the_time() -> None:
    engine = Engine(ACME)
    for epoch in (1_715_263_558_360, 1_715_263_618_361):
        _, late = lines_of(engine.fan_out(record(bundle(SCOPES["usual"] % epoch))).ndjson())
        assert late["scope"] == {"name": "Cpu", "collector": "snmp", "epoch": str(epoch)}
        assert late["tsUnixMs"] == epoch


def test_a_thousand_polls_of_one_scope_keep_one_entry() -> None:
    engine = Engine(ACME)
    for poll in range(1000):
        engine.fan_out(record(bundle(SCOPES["usual"] % (1_715_263_558_360 + 60_000 * poll))))
    codec = engine.codecs["otlp_json"]
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
