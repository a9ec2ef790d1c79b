"""Small bundles that unfold: each is refused, or made rows of, within bounded memory and time."""

import gzip
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow  # each in a process of its own, and all of it computes

MIB = 1024 * 1024
SIZE = 24 * MIB

_POINT = (
    b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"timeUnixNano":"1715263558360000000",'
)

# name -> (head, repeated part, tail, reason), or ("in", field numbers to wrap it in, repeated part, reason)
BOMBS = {
    "json points {}": (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[',
        b"{},",
        b"{}]}}]}]}]}",
        "limits.points",
    ),
    "json points 0": (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[',
        b"0,",
        b"0]}}]}]}]}",
        "limits.points",
    ),
    "json buckets": (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"timeUnixNano":"1715263558360000000","bucketCounts":[',
        b"0,",
        b"0]}]}}]}]}]}",
        "limits.points",
    ),
    "json unknown": (b'{"a":[', b"0,", b"0]}", "limits.points"),
    "json monotonic": (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"isMonotonic":[',
        b"[],",
        b"[]]}}]}]}]}",
        "limits.points",
    ),
    "json attributes": (b'{"resourceMetrics":[{"resource":{"attributes":[', b"{},", b"{}]}}]}", "limits.points"),
    "json keys": (b'{"a":1', b',"b":0', b"}", "decode.top_level"),
    "proto resources": (b"", b"\n\0", b"", "limits.points"),
    "proto scopes": ("in", (1,), b"\x12\0", "limits.points"),
    "proto metrics": ("in", (1, 2), b"\x12\0", "limits.points"),
    "proto metadata": ("in", (1, 2, 2), b"\x62\0", "limits.points"),
    "proto points": ("in", (1, 2, 2, 5), b"\n\0", "limits.points"),
    "proto attributes": ("in", (1, 1), b"\n\0", "limits.size"),
    "proto exemplars": ("in", (1, 2, 2, 5, 1), b"\x2a\0", "limits.size"),
    "proto unknown": (b"", b"\x7a\0", b"", "limits.points"),
}
SMALL = {
    "a thousand attributes too many": ("in", (1, 1), b"\n\0", "limits.attributes"),
    "a thousand attributes of a point too many": ("in", (1, 2, 2, 5, 1), b"\x3a\0", "rows=0"),
    "a thousand exemplars too many": ("in", (1, 2, 2, 5, 1), b"\x2a\0", "rows=0"),
    "a thousand labels too many": ("in", (1, 2, 2, 5, 1), b"\n\0", "rows=0"),
}
EITHER = {
    # what holds nothing that is understood, or cannot be counted, is refused within the same bounds, whichever is met first
    "json lost resources": (b'{"resourceMetrics":[', b"0,", b"0]}"),
    "json lost metrics": (b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[', b"0,", b"0]}]}]}"),
    "json unknown beside": (b'{"resourceMetrics":[],"a":0', b',"b":0', b"}"),
    "json unknown names": (b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[', b'{"a":0},', b'{"b":0}]}]}]}'),
    "json labels": (_POINT + b'"labels":[', b"{},", b"{}]}]}}]}]}]}"),
    "json exemplars": (_POINT + b'"exemplars":[', b"{},", b"{}]}]}}]}]}]}"),
    "json quantiles": (_POINT.replace(b"gauge", b"summary") + b'"quantileValues":[', b"0,", b"0]}]}}]}]}]}"),
    "json wrong sum": (_POINT.replace(b"gauge", b"histogram") + b'"sum":[', b"[],", b"[]]}]}}]}]}]}"),
    "proto labels": ("in", (1, 2, 2, 5, 1), b"\n\0"),
    "proto quantiles": ("in", (1, 2, 2, 11, 1), b"\x32\0"),
    "proto unknown of a gauge": ("in", (1, 2, 2, 5), b"\x7a\0"),
    "proto unknown of a value": ("in", (1, 1, 1, 2), b"\x7a\0"),
}

JUDGE = """
    import resource, sys, time
    resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20))
    from lmstream import Engine, Record, Settings
    from lmstream.settings import Limits
    from lmstream.errors import DecodeError
    payload = sys.stdin.buffer.read()
    began = time.process_time()
    try:
        out = Engine(Settings(org_id="acme", limits=Limits(record_bytes=64 << 20))).fan_out(Record(topic="t", partition=0, offset=0, value=payload))
        verdict = f"rows={out.rows}"
    except DecodeError as error:
        verdict = error.reason
    print(verdict, time.process_time() - began < 20)
"""


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def unfolded(bomb, size=SIZE) -> bytes:
    if bomb[0] == "in":
        payload = bomb[2] * (size // len(bomb[2]))
        for number in reversed(bomb[1]):
            payload = varint(number << 3 | 2) + varint(len(payload)) + payload
        return payload
    head, part, tail = bomb[:3]
    return head + part * (size // len(part)) + tail


def judge(payload: bytes) -> str:
    """In a process of its own with 900 MiB of address space."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(JUDGE)], input=payload, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().strip()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bundle_that_unfolds_is_refused_within_bounds(name):
    assert judge(unfolded(BOMBS[name])).split() == [BOMBS[name][-1], "True"]


@pytest.mark.parametrize("name", SMALL)
def test_more_items_than_anybody_sends_are_refused(name):
    assert judge(unfolded(SMALL[name], 4096)).split() == [SMALL[name][3], "True"]


@pytest.mark.parametrize("name", EITHER)
def test_what_is_not_understood_and_unfolds_costs_no_more_than_its_bounds(name):
    verdict, quick = judge(unfolded(EITHER[name], 6 * MIB)).split()
    assert quick == "True"
    assert verdict.startswith(("limits.", "decode.", "rows="))


def test_gzip_of_many_members_is_refused():
    assert judge(gzip.compress(b"") * 300_000).split() == ["decode.gzip", "True"]


def test_gzip_of_two_members_is_read():
    assert judge(gzip.compress(b'{"resource') + gzip.compress(b'Metrics":[]}')).split() == ["rows=0", "True"]
