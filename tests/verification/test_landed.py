"""What is read of a line that landed: its id, its time, its digests; and what Firehose could not partition."""

import base64
import json

import pytest

from lmstream.storage.objects import Folder
from lmstream.verification.landed import digest, event_time, failed_lines, path_digest, row_id


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"rowId":"ab:0"}', (b"ab", b"0")),
        (b'{"rowId":"ab:1234567890","x":{"rowId":"no:1"}}', (b"ab", b"1234567890")),
        (b'{"rowId":"ab:1:2"}', (b"", b"")),  # the ordinal begins behind the first colon
        (b'{"rowId":":1"}', (b"", b"")),
        (b'{"rowId":"ab"}', (b"", b"")),
        (b'{"rowId":5}', (b"", b"")),
        (b"no json", (b"", b"")),
        (b'{"rowId":"a\xff:1"}', (b"", b"")),
        (b'{"rowId":"\\ud800:1"}', (b"", b"")),
        (b'{"rowId":"\\ud800\\udc00:1"}', ("\U00010000".encode(), b"1")),
        (b"[" * 100_000, (b"", b"")),
    ],
)
def test_the_id_of_a_row_is_that_of_its_top_level(line, found):
    assert row_id(line) == found


def test_the_time_of_a_row_is_minus_one_without_one():
    assert event_time(b'{"tsUnixMs":1715263558360}') == 1715263558360
    for line in (b"{}", b"no json", b'{"tsUnixMs":"1"}', b"\xff", b"[" * 100_000):
        assert event_time(line) == -1


def test_digests_are_frozen():
    """Logs of `publish --verifiable` hold them: another version of lmstream reads them."""
    assert digest(b'{"rowId":"ab:0"}\n') == 0xA1812AE4E6C8F3F8
    assert path_digest("rows/acme/cpu") == 0x752876F6
    for path in ("rows/acme/cpu", "/rows/acme/cpu/", "rows/acme/cpu/"):
        assert path_digest(path) == path_digest("rows/acme/cpu")
    assert path_digest("Xrows/acme/cpuX") != path_digest("rows/acme/cpu")
    assert path_digest("a\udcffb") == path_digest("a?b")  # a name that is no UTF-8


def test_what_firehose_could_not_partition_is_read_and_what_is_somebody_elses_passed_over(tmp_path):
    rows = [b'{"rowId":"ab:0"}', b'{"rowId":"ab:1"}', b'{"rowId":"ab:2"}']
    raw = base64.b64encode(b"\n".join(rows[:2]) + b"\n").decode()
    lines = [
        {"rawData": raw},
        {"rawData": f"!!{base64.b64encode(rows[2]).decode()}"},  # no base64 of Firehose's
        {"rawData": 5},
        {"other": 1},
        {"rawData": base64.b64encode(rows[2]).decode()},
    ]
    (tmp_path / "errors").mkdir()
    text = "\n".join([*map(json.dumps, lines[:3]), "no json", *map(json.dumps, lines[3:])])
    (tmp_path / "errors" / "part").write_text(text)
    assert list(failed_lines(Folder(tmp_path / "errors"))) == rows
    assert list(failed_lines(Folder(tmp_path / "none"))) == []
