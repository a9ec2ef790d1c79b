"""Names of others reach terminals and logs as text: nothing steers, nothing begins another line."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstream.cli import terminal
from lmstream.errors import SourceError
from lmstream.observability import logs
from lmstream.visible import visible

EVIL = "a\x1b]0;owned\x07\n forged: line\r\x9b2J\u202e\u2028\ufeffz"
BAD = set("\x1b\x07\n\r\x9b\u202e\u2028\ufeff")


@given(st.text(st.characters(codec=None)))
def test_what_is_visible_is_one_printable_line_and_stays_as_it_is(text):
    shown = visible(text)
    assert visible(shown) == shown
    assert len(shown.splitlines()) <= 1
    assert not {c for c in shown if ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF}
    if text.isascii() and text.isprintable():
        assert shown == text


def test_talk_escapes_whatever_it_is_given(capsys):
    terminal.say(f"the topic {EVIL} is gone")
    said = capsys.readouterr().err
    assert not BAD & set(said[:-1])
    assert said.count("\n") == 1


@pytest.mark.parametrize("json_lines", [True, False])
def test_logs_escape_names_and_the_lines_of_tracebacks(json_lines):
    stream = io.StringIO()
    handler = logs.handler(json=json_lines, stream=stream)
    error = ValueError(EVIL)
    record = logging.getLogger("lmstream.x").makeRecord(
        "lmstream.x", logging.ERROR, "", 0, "the sink said %s", (EVIL,), (ValueError, error, None)
    )
    handler.handle(record)
    text = stream.getvalue()
    assert "forged" in text
    assert not any(line.lstrip().startswith("forged") for line in text.splitlines())
    for bad in BAD - {"\n", "\x1b"}:
        assert bad not in text
    assert "\x1b]0" not in text  # a console line has colours of its own
    if json_lines:
        assert text.count("\n") == 1
        json.loads(text)


def test_plain_log_lines_escape_too(capsys):
    with terminal.logging_to_stderr():
        logging.getLogger("lmstream.x").warning("topic %s", EVIL)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not BAD & set(said[:-1])


def test_an_error_of_a_remote_service_is_one_line(capsys):
    from lmstream.cli.invocation import guarded

    def work():
        raise SourceError("place.unreachable", f"s3://b: {EVIL}")

    assert guarded(work) == 1
    assert capsys.readouterr().err.count("\n") == 1
    guarded(work, debug=True)
    assert not (BAD - {"\n"}) & set(capsys.readouterr().err)


def test_file_names_of_letters_and_rows_are_shown_escaped(cli, tmp_path):
    name = "x\x1b]0;owned\x07\nforged: line.json"
    for folder in ("dead/t/0", "landed"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dead/t/0" / name).write_bytes(b"no letter\n")
    (tmp_path / "landed" / f"{name}.gz").write_bytes(b"\x1f\x8bno gzip")
    (tmp_path / "expected.log").write_bytes(b"")
    where = ("--landed", tmp_path / "landed", "--expected", tmp_path / "expected.log")
    (tmp_path / "empty").mkdir()
    for args in (
        ("dlq", "ls", tmp_path / "dead"),
        ("dlq", "stats", tmp_path / "dead"),
        ("verify", *where),
        ("verify", "--landed", tmp_path / "empty", *where[2:], "--dead-letters", tmp_path / "dead"),
        ("query", "--landed", tmp_path / "landed"),
        ("inspect", tmp_path / "dead/t/0" / name),
    ):
        said = cli(*args)
        for text in (said.out, said.err):
            assert not {"\x1b", "\x07"} & set(text), args
            assert not any(line.startswith("forged") for line in text.splitlines()), args


def test_logs_are_quick_however_long_a_text_is():
    import time

    began = time.process_time()
    stream = io.StringIO()
    handler = logs.handler(json=True, stream=stream)
    handler.handle(logging.getLogger("lmstream.x").makeRecord("x", logging.ERROR, "", 0, "-a" * 1_000_000, (), None))
    assert time.process_time() - began < 0.5
    assert len(stream.getvalue()) < 3_000
