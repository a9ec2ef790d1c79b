"""The files source: every format, damage inside a file, bounds, and that one file cannot spoil another."""

import asyncio
import gzip
import io
import json
import os
import random
import sys

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lmstream import Engine
from lmstream import Settings as EngineSettings
from lmstream.errors import ConfigError, DecodeError, SourceError
from lmstream.model import DeadLetter, TopicPartition
from lmstream.settings import Limits
from lmstream.sources._documents import Documents
from lmstream.sources._frames import FixedFrames, Frames
from lmstream.sources._framing import Sniffing, sniff
from lmstream.sources._inflating import Inflating
from lmstream.sources._listing import left_out
from lmstream.sources.files import Files, Settings
from support.repoison import GOOD_PROTO

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


def fixed(*values):
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


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
        0: [(0, PRETTY.rstrip())],
        1: [(0, BUNDLE), (1, BUNDLE)],
        2: [(0, BUNDLE), (1, BUNDLE)],
        3: [(0, MESSAGE), (1, b""), (2, b"x" * 300)],
        4: [(0, MESSAGE)],
        5: [(0, PRETTY.rstrip())],
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
    (tmp_path / "others").mkdir()
    for name in ("a.log", "b.log.gz", "c.txt", ".hidden"):
        (tmp_path / "others" / name).write_bytes(b"")
    for paths, text in [
        ((tmp_path / "no.json",), "no such file"),
        ((tmp_path / "empty",), "known name"),
        ((tmp_path / "others",), "3 files left out: .log .txt"),
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
        (BUNDLE, "text"),
        (PRETTY, "text"),
        (b"\n\n  " + PRETTY, "text"),
        (b'{"resourceMetrics":[{"cut\n' + BUNDLE, "text"),
        (b"\xef\xbb\xbf" + BUNDLE, "text"),
        (b"\x1e" + BUNDLE, "text"),
        (b"[\n" + BUNDLE, "text"),
        (b"hello\nworld", "text"),
        (b"\x1b[32mINFO\x1b[0m colours\n" + BUNDLE, "text"),
        (framed(MESSAGE), "frames"),
        (framed(b"\x0a\x79" + b"\x12" * 121), "frames"),  # its length is `{`
        (framed(b"", MESSAGE), "frames"),
        (fixed(MESSAGE), "fixed"),
        (fixed(b"", MESSAGE), "fixed"),
        (fixed(MESSAGE + MESSAGE * 60), "fixed"),
        (fixed(zstandard.compress(BUNDLE), zstandard.compress(BUNDLE)), "fixed"),
        (MESSAGE, "whole"),
        (b"\x0a\x0a\x12\x08" + bytes(8), "whole"),  # a bare message whose length looks like its tag
        (b'{\0"\0}\0', "whole"),
        (BUNDLE.decode().encode("utf-16"), "whole"),
        (BUNDLE.decode().encode("utf-32-be"), "whole"),
        (bytes(range(256)), "whole"),
    ],
)
def test_content_tells_its_framing(head, framing):
    assert sniff(head) == sniff(head, "json" if framing != "text" or b"{" in head else None) == framing


def test_a_name_decides_only_where_the_bytes_say_nothing():
    assert [sniff(b"\x80\x80\x01xyz\x01", named) for named in (None, "json", "lines", "frames")] == [
        *["whole"] * 3,
        "frames",
    ]
    html = b"<html>\n<body>502</body>\n</html>"
    assert [sniff(html, named) for named in (None, "json", "lines", "frames")] == ["text", "whole", "text", "text"]
    for named in ("json", "lines", "frames"):
        assert sniff(BUNDLE, named) == sniff(PRETTY, named) == "text"
        assert (sniff(framed(MESSAGE), named), sniff(fixed(MESSAGE), named)) == ("frames", "fixed")


pieces = st.lists(st.integers(1, 7), max_size=40)


def fed(cutter, data, cuts):
    out, at = [], 0
    for cut in cuts:
        out += cutter.feed(data[at : at + cut])
        at += cut
    out += cutter.feed(data[at:])
    return out + list(cutter.finish())


@given(st.lists(st.binary(max_size=12)), pieces, st.sampled_from([(Frames, framed), (FixedFrames, fixed)]))
def test_frames_come_back_however_the_bytes_arrive(bundles, cuts, kind):
    cutter = kind[0](8)
    assert fed(cutter, kind[1](*bundles), cuts) == [bundle[:8] for bundle in bundles]
    assert not cutter.damage


@given(st.lists(st.text("ab {}\r", max_size=12).map(str.encode)), pieces)
def test_lines_that_are_no_json_come_back_however_the_bytes_arrive(lines, cuts):
    lines = [b"x" + line for line in lines]
    assert fed(Documents(8), b"\n".join(lines), cuts) == [line.rstrip()[:8] for line in lines]


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"{}[]\\\n\x1e,'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab{", max_size=2), inner, max_size=3),
    max_leaves=8,
)
documents = st.lists(trees.map(lambda tree: {"resourceMetrics": [tree]}), min_size=1, max_size=4)
WRITERS = {
    "lines": "\n".join,
    "CRLF and blank lines": lambda texts: "\r\n\r\n".join(texts) + "\r\n",
    "nothing between them": "".join,
    "RFC 7464": lambda texts: "".join(f"\x1e{text}\n" for text in texts),
    "an array": lambda texts: f"[{','.join(texts)}]",
    "an array, a line each": lambda texts: "[\n" + ",\n".join(texts) + "\n]\n",
    "arrays of one": lambda texts: "\n".join(f"[{text}]" for text in texts),
    "a mark each": lambda texts: "\n".join(f"\ufeff{text}" for text in texts),
}


@given(documents, st.sampled_from([None, 0, 1, 4]), st.sampled_from(sorted(WRITERS)), pieces)
def test_documents_come_back_however_they_are_written_and_arrive(wanted, indent, writer, cuts):
    separators = (",", ":") if indent is None else None
    data = WRITERS[writer]([json.dumps(each, indent=indent, separators=separators) for each in wanted]).encode()
    for named in (None, "json", "lines"):
        cutter = Sniffing(named, 10_000)
        assert [json.loads(value) for value in fed(cutter, data, cuts)] == wanted
        assert not cutter.damage


@given(documents, st.sampled_from([None, 2]), st.data(), pieces)
def test_a_document_cut_anywhere_spares_its_neighbours(wanted, indent, data, cuts):
    texts = [json.dumps(each, indent=indent).encode() for each in [*wanted, {"resourceMetrics": []}]]
    at = data.draw(st.integers(0, len(wanted) - 1))
    texts[at] = texts[at][: data.draw(st.integers(1, len(texts[at]) - 1))]
    got = fed(Sniffing("json", 10_000), b"\n".join(texts), cuts)
    whole = texts[:at] + texts[at + 1 :]
    assert [value for value in got if value in whole] == whole
    assert len(got) > len(whole)


@given(st.text('{}[]",:\n\x1ea1 \\', max_size=60).map(str.encode), pieces)
def test_no_byte_of_text_is_lost_but_what_stands_between_documents(data, cuts):
    between = b" \n\x1e,[]"
    got = fed(Documents(1000), data, cuts)
    assert b"".join(got).translate(None, between) == data.translate(None, between)
    assert all(got)


@given(st.binary(max_size=60), pieces)
def test_any_bytes_are_cut_without_an_error_and_nothing_is_over_the_bound(data, cuts):
    for named in (None, "json", "lines", "frames"):
        for head in (b"", b"{", b"[", b"\0\0\0", b"\n"):
            assert all(len(value) <= 8 for value in fed(Sniffing(named, 8), head + data, cuts))


@given(
    st.lists(st.binary(max_size=40), min_size=1),
    pieces,
    st.data(),
    st.sampled_from([gzip.compress, zstandard.compress]),
)
def test_compressed_data_comes_back_however_it_arrives_and_a_cut_is_damage(members, cuts, data, compress):
    stored = [compress(member) for member in members]
    padded = b"".join(member + data.draw(st.sampled_from([b"", b"\0\0", b"\n", bytes(9)])) for member in stored)
    whole = Inflating()
    assert b"".join(fed(whole, padded, cuts)) == b"".join(members)
    assert not whole.damage
    end = data.draw(st.integers(4, sum(map(len, stored)) - 1))
    cut = Inflating()
    assert b"".join(members).startswith(b"".join(fed(cut, b"".join(stored)[:end], cuts)))
    ends = [sum(map(len, stored[:n])) for n in range(len(stored))]
    assert bool(cut.damage) == (end not in ends)


@given(
    st.binary(max_size=300), pieces, st.sampled_from([b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\x00", b"\x50\x2a\x4d\x18"])
)
def test_any_compressed_bytes_are_data_or_damage(data, cuts, head):
    inflating = Inflating()
    fed(inflating, head + data, cuts)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_what_follows_compressed_data_is_named(compress):
    for tail in (b"x", b"tail and more"):
        inflating = Inflating()
        assert b"".join(fed(inflating, compress(BUNDLE) + tail, [])) == BUNDLE
        assert "follow its" in inflating.damage


async def test_a_long_line_of_many_documents_is_streamed(tmp_path):
    one = b'{"resourceMetrics":[{"x":"' + b"y" * 5000 + b'"}]}'
    (tmp_path / "array.json").write_bytes(b"[" + b",".join([one] * 400) + b"]")
    (tmp_path / "joined.json").write_bytes(one * 400)
    limits = Limits(record_bytes=6000)
    records, problems = await read(tmp_path, limits=limits)
    assert values(records) == [one] * 800
    assert not problems


def test_a_string_without_an_end_takes_bounded_memory():
    cutter = Documents(1000)
    got = list(cutter.feed(b'{"a":"'))
    for _ in range(200):
        got += cutter.feed(b"x" * 1000)
        assert len(cutter._data) <= 4000
    got += cutter.feed(b"\n" + BUNDLE)
    assert [len(value) for value in got + list(cutter.finish())] == [1000, len(BUNDLE)]


def zipped(data):
    return gzip.compress(data, mtime=0)  # the same in every process, for the names of the tests


LOG_LINE = b"2024-05-01T12:00:00Z info flushed 3 metrics"


@pytest.mark.parametrize(
    ("name", "data", "wanted"),
    [
        # The File Exporter's own metrics.json: a JSON object a line (its README, "File Format").
        ("metrics.json", BUNDLE + b"\n" + BUNDLE + b"\n", 2),
        ("metrics-2022-09-14T05-02-14.173.json", BUNDLE + b"\r\n" + BUNDLE, 2),
        ("metrics.json.gz", zipped(BUNDLE) + zipped(BUNDLE), 2),
        ("metrics.json.gz", zipped(BUNDLE + b"\n" + BUNDLE) + b"\n", 2),
        ("metrics.json", BUNDLE + b"\n" + LOG_LINE + b"\n", 1),
        ("two.json", PRETTY + PRETTY, 2),
        ("two.jsonl", PRETTY + PRETTY, 2),
        ("bom.json", b"\xef\xbb\xbf" + PRETTY, 1),
        ("array.json", b"[" + PRETTY + b"," + BUNDLE + b"]\n", 2),
        ("seq.json", b"\x1e" + PRETTY + b"\x1e" + BUNDLE + b"\n", 2),
        # format: proto; with compression: zstd each message is compressed and then framed, JSON too.
        ("metrics.pb", fixed(GOOD_PROTO, GOOD_PROTO), 2),
        ("metrics.json", fixed(GOOD_PROTO, GOOD_PROTO), 2),
        ("metrics.json", fixed(zstandard.compress(BUNDLE), zstandard.compress(BUNDLE)), 2),
        ("metrics", fixed(zstandard.compress(GOOD_PROTO)), 1),
        # With the gate exporter.file.nativeCompression the file is one stream of zstd frames.
        ("metrics.json.zst", zstandard.compress(BUNDLE + b"\n") + zstandard.compress(BUNDLE + b"\n"), 2),
        ("metrics.pb.zst", zstandard.compress(fixed(GOOD_PROTO)) + zstandard.compress(fixed(GOOD_PROTO)), 2),
        ("metrics.json", zstandard.compress(fixed(GOOD_PROTO, GOOD_PROTO)), 2),
    ],
)
async def test_the_bytes_beat_the_name_and_every_bundle_is_read(tmp_path, name, data, wanted):
    (tmp_path / name).write_bytes(data)
    records, problems = await read(tmp_path / name)
    assert not problems
    engine = Engine(EngineSettings(org_id="acme"))
    read_well = 0
    for at, record in enumerate(records):
        assert record.offset == at
        try:
            engine.fan_out(record)
        except DecodeError:
            assert record.value == LOG_LINE
        else:
            read_well += 1
    assert read_well == wanted


async def test_names_that_are_passed_over_are_counted_once(tmp_path):
    for name in ("a.json", "b.log", "c.txt", "d.bin", "e.protobuf", "deep/f.log", "g", ".h.log", "i.json.zst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(BUNDLE)
    assert left_out([str(tmp_path)]) == "6 files left out: (without an ending) .bin .log .protobuf .txt"
    assert left_out([str(tmp_path / "b.log"), "-"]) == ""
    assert values((await read(tmp_path / "b.log"))[0]) == [BUNDLE]


async def test_zstd_without_its_library_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "a.json").write_bytes(zstandard.compress(BUNDLE))
    with pytest.raises(ConfigError, match="pip install"):
        await read(tmp_path)
