"""The files source: every format, damage inside a file, bounds, and that one file cannot spoil another."""

import asyncio
import gzip
import io
import os
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.errors import SourceError
from lmstream.model import DeadLetter, TopicPartition
from lmstream.settings import Limits
from lmstream.sources._framing import Frames, Inflating, Lines, Sniffing, sniff
from lmstream.sources.files import Files, Settings

BUNDLE = b'{"resourceMetrics":[]}'
PRETTY = b'{\n  "resourceMetrics": [\n  ]\n}\n'
MESSAGE = bytes([0x0A, 3, 0x12, 1, 0])


def framed(*values):
    out = b""
    for value in values:
        length = len(value)
        while length > 0x7F:
            out += bytes([length & 0x7F | 0x80])
            length >>= 7
        out += bytes([length]) + value
    return out


async def read(*paths, room=1 << 20, stdin=None, limits=None, topic="files"):
    source = Files(Settings(paths=tuple(map(str, paths)), topic=topic), stdin=stdin, limits=limits)
    records, problems = [], ""
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    batch = await source.poll(room)
                except SourceError as error:
                    problems = error.detail
                    continue
                records += batch.records
                if batch.end:
                    assert (await source.poll(room)).end
                    return records, problems
    finally:
        await source.close()
        await source.close()


def values(records):
    return [record.value for record in records]


async def test_every_format_in_one_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    files = {
        "a.json": PRETTY,
        "b.jsonl": BUNDLE + b"\r\n\n" + BUNDLE,
        "c.ndjson.gz": gzip.compress(BUNDLE + b"\n") + gzip.compress(BUNDLE + b"\n") + b"\0\0",
        "d.pb": framed(MESSAGE, b"", b"x" * 300),
        "deep/e.pb.gz": gzip.compress(framed(MESSAGE)),
        "f.json.gz": gzip.compress(PRETTY),
        "g.pb": MESSAGE,  # a bare message
        "h.jsonl": gzip.compress(BUNDLE),  # gzip by content
        "README.md": b"not read",
        ".hidden.json": b"not read",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    records, problems = await read(tmp_path)
    assert not problems
    by_file = {}
    for record in records:
        assert (record.topic, record.timestamp) == ("files", -1)
        by_file.setdefault(record.partition, []).append((record.offset, record.value))
    assert by_file == {
        0: [(0, PRETTY)],
        1: [(0, BUNDLE), (1, BUNDLE)],
        2: [(0, BUNDLE), (1, BUNDLE)],
        3: [(0, MESSAGE), (1, b""), (2, b"x" * 300)],
        4: [(0, MESSAGE)],
        5: [(0, PRETTY)],
        6: [(0, MESSAGE)],
        7: [(0, BUNDLE)],
    }


async def test_dead_letters_keep_their_coordinates_and_bad_ones_are_bundles(tmp_path):
    letter = DeadLetter(
        topic="lm",
        partition=3,
        offset=77,
        timestamp=5,
        value=b"\x00raw",
        key=b"k",
        headers=(("h", None),),
        rejected=((2, "value.two"),),
    )
    line = msgspec.json.encode(letter)
    damaged = line.replace(b'"value":"', b'"value":"*')
    no_letter = b'{"resourceMetrics":[],"x":"topic partition offset"}'
    (tmp_path / "l.jsonl").write_bytes(b"\n".join([line, damaged, no_letter]))
    (tmp_path / "m.json").write_bytes(line + b"\n")
    records, _ = await read(tmp_path)
    assert records[0] == letter.record() == records[3]
    assert records[0].only == (2,)
    assert [(r.topic, r.partition, r.offset) for r in records[1:3]] == [("files", 0, 1), ("files", 0, 2)]
    assert values(records[1:3]) == [damaged, no_letter]


async def test_damage_stays_in_its_file(tmp_path):
    good = b"".join(BUNDLE + b"\n" for _ in range(3000))
    wrong_sum = bytearray(gzip.compress(good))
    wrong_sum[-8] ^= 1
    squeezed = gzip.compress(random.Random(1).randbytes(200_000).hex().encode() + b"\n" + good)
    files = {
        "a.pb": framed(MESSAGE, MESSAGE) + bytes([200, 1]) + b"cut",
        "b.pb": framed(MESSAGE) + b"\xff" * 20,
        "c.jsonl.gz": bytes(wrong_sum),
        "d.jsonl.gz": squeezed[: len(squeezed) // 2],
        "e.jsonl.gz": gzip.compress(BUNDLE) + b"tail",
        "f.json": b"",
        "g.json": b"not json",
        "h.jsonl": b"\xff\xfe{\n" + BUNDLE,
        "z.jsonl": BUNDLE,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    records, problems = await read(tmp_path, room=5000)
    got = {}
    for record in records:
        got.setdefault("abcdefghz"[record.partition], []).append(record.value)
    assert got["a"] == [MESSAGE, MESSAGE, bytes([200, 1]) + b"cut"]
    assert got["b"] == [MESSAGE, b"\xff" * 20]
    assert got["c"] == [BUNDLE] * 3000
    assert len(got["d"]) == 1
    assert len(got["d"][0]) > 100_000
    assert got["e"] == [BUNDLE]
    assert (got["f"], got["g"], got["h"], got["z"]) == ([b""], [b"not json"], [b"\xff\xfe{", BUNDLE], [BUNDLE])
    assert len(problems.split("; ")) == 5
    for name in "abcde":
        assert f"{name}." in problems


async def test_what_is_too_long_is_cut_and_the_rest_goes_on(tmp_path):
    limits = Limits(record_bytes=1000)
    bound = 1500 + 64 * 1024
    (tmp_path / "a.jsonl").write_bytes(b"{" * 500_000 + b"\n" + BUNDLE)
    (tmp_path / "b.pb").write_bytes(framed(b"x" * 300_000, MESSAGE))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b"{" * 50_000_000))
    records, problems = await read(tmp_path, limits=limits, room=1)
    assert [len(v) for v in values(records)] == [bound, len(BUNDLE), bound, len(MESSAGE), bound]
    assert not problems


async def test_room_holds_and_every_record_comes(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"".join(b'{"n":%d}\n' % n for n in range(200)))
    source = Files(Settings(paths=(str(tmp_path),)))
    seen = []
    while True:
        assert not (await source.poll(0)).records
        batch = await source.poll(25)
        assert sum(len(v) for v in values(batch.records)) <= 25
        seen += batch.records
        if batch.end:
            break
    assert [r.offset for r in seen] == list(range(200))
    await source.commit({TopicPartition("files", 0): 200})
    assert source.committed == {TopicPartition("files", 0): 200}
    await source.close()


async def test_a_cancelled_poll_loses_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(BUNDLE + b"\n" + BUNDLE)
    source = Files(Settings(paths=(str(tmp_path),)))
    poll = asyncio.create_task(source.poll(1))
    await asyncio.sleep(0)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    seen = []
    async with asyncio.timeout(5):
        while not (batch := await source.poll(1)).end:
            seen += batch.records
    assert [r.offset for r in seen + list(batch.records)] == [0, 1]
    await source.close()


async def test_standard_input_as_it_comes():
    records, _ = await read("-", stdin=io.BytesIO(gzip.compress(BUNDLE + b"\n" + BUNDLE)), topic="in")
    assert [(r.topic, r.partition, r.offset, r.value) for r in records] == [("in", 0, 0, BUNDLE), ("in", 0, 1, BUNDLE)]
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as stdin, os.fdopen(theirs, "wb", buffering=0) as out:
        source = Files(Settings(paths=("-",)), stdin=stdin)
        assert (await source.poll(1 << 20)).records == []  # nothing yet, and no thread that hangs in a read
        out.write(BUNDLE + b"\n" + BUNDLE[:5])
        assert values((await source.poll(1 << 20)).records) == [BUNDLE]
        out.write(BUNDLE[5:])
        out.close()
        batch = await source.poll(1 << 20)
        assert (values(batch.records), batch.end) == ([BUNDLE], True)
        await source.close()


async def test_what_is_not_there_is_said_at_once_and_what_cannot_be_read_at_the_end(tmp_path):
    (tmp_path / "empty").mkdir()
    for paths, text in [
        ((tmp_path / "no.json",), "no such file"),
        ((tmp_path / "empty",), "known name"),
        ((), "no paths"),
    ]:
        source = Files(Settings(paths=tuple(map(str, paths))))
        with pytest.raises(SourceError, match=text):
            await source.poll(1)
        await source.close()
    (tmp_path / "a.json").symlink_to(tmp_path / "gone")
    (tmp_path / "b.json").write_bytes(BUNDLE)
    records, problems = await read(tmp_path)
    assert [(r.partition, r.value) for r in records] == [(1, BUNDLE)]
    assert "a.json: No such file" in problems


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (BUNDLE, "lines"),
        (BUNDLE + b"\n" + BUNDLE, "lines"),
        (PRETTY, "json"),
        (b"\n\n  " + PRETTY, "json"),
        (b'{"resourceMetrics": [\n {', "json"),
        (b'{"resourceMetrics":[{"cut\n' + BUNDLE, "lines"),
        (framed(MESSAGE), "frames"),
        (framed(b"\x0a{\x12" + b"z" * 130), "frames"),
        (MESSAGE, "frames"),
        (b"\xef\xbb\xbf{}", "json"),
        (b"{\0}\0", "json"),
        (b"hello\nworld", "lines"),
    ],
)
def test_content_tells_its_framing(head, framing):
    assert sniff(head) == framing


pieces = st.lists(st.integers(1, 7), max_size=40)


def fed(cutter, data, cuts):
    out, at = [], 0
    for cut in cuts:
        out += cutter.feed(data[at : at + cut])
        at += cut
    out += cutter.feed(data[at:])
    return out + list(cutter.finish())


@given(st.lists(st.binary(max_size=12)), pieces)
def test_frames_come_back_however_the_bytes_arrive(bundles, cuts):
    cutter = Frames(8)
    assert fed(cutter, framed(*bundles), cuts) == [bundle[:8] for bundle in bundles]
    assert not cutter.damage


@given(st.lists(st.text("ab {}\r", max_size=12).map(str.encode)), pieces)
def test_lines_come_back_however_the_bytes_arrive(lines, cuts):
    expected = [line.removesuffix(b"\r") for line in lines]
    assert fed(Lines(8), b"\n".join(lines), cuts) == [line[:8] for line in expected if line and not line.isspace()]


@given(st.binary(max_size=60), pieces)
def test_any_bytes_are_cut_without_an_error_and_nothing_is_over_the_bound(data, cuts):
    for framing in (None, "json", "lines", "frames"):
        assert all(len(value) <= 8 for value in fed(Sniffing(framing, 8), data, cuts))


@given(st.lists(st.binary(max_size=40), min_size=1), pieces, st.integers(0, 200))
def test_gzip_comes_back_however_it_arrives_and_a_cut_is_damage(members, cuts, end):
    data = b"".join(map(gzip.compress, members))
    whole = Inflating()
    assert b"".join(fed(whole, data, cuts)) == b"".join(members)
    assert not whole.damage
    cut = Inflating()
    assert b"".join(members).startswith(b"".join(fed(cut, data[:end], cuts))) or end < 2
