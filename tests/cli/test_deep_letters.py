"""A line nested 200,000 deep, where dead letters are looked for, is a line that is not a dead letter: it ends no verb."""

import base64
import json

import msgspec
import pytest

from lmstream import Engine, Settings
from lmstream.dead_letters.form import NotALetterError, decode, decode_or_none, encode
from lmstream.model import DeadLetter
from lmstream.verification import expectation
from support.file_records import file_record

DEEP = b'{"topic":"t","more":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
LETTER = DeadLetter(topic="t", partition=0, offset=7, timestamp=5, value=b"no bundle", reason="decode.json", code="x")


@pytest.fixture
def landed(cli, bundles, tmp_path):
    """Arguments of `verify` for one bundle that landed whole."""
    folder, (bundle,) = bundles(1)
    assert cli("run", "--files", folder, "--topic", "t", "--org", "acme", "--landed", tmp_path / "landed").code == 0
    record = file_record(bundle.payload, topic="t")
    log = tmp_path / "log.jsonl"
    log.write_bytes(msgspec.json.encode(expectation(Engine(Settings(org_id="acme")), record, "")) + b"\n")
    return "verify", "--landed", tmp_path / "landed", "--expected", log


def test_among_dead_letters_it_is_left_out_and_the_verdict_comes(cli, landed, tmp_path):
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "x.json").write_bytes(DEEP)
    (letters / "y.json").write_bytes(encode(LETTER))
    said = cli(*landed, "--dead-letters", letters)
    assert (said.code, "LMS-9001" in said.err) == (0, False)
    assert "skipped a line that is not a dead letter" in said.err
    listed = cli("dlq", "ls", letters, "--json")
    assert (listed.code, json.loads(listed.out)["record"]) == (0, "t/0/7")


def test_in_the_error_prefix_it_is_somebody_elses_and_the_verdict_comes(cli, landed, tmp_path):
    errors = tmp_path / "errors"
    errors.mkdir()
    failed = json.dumps({"attemptsMade": 4, "rawData": base64.b64encode(b"{}\n").decode()}).encode()
    (errors / "x").write_bytes(DEEP + b"\n" + failed + b"\n")
    said = cli(*landed, "--errors", errors)
    assert (said.code, "LMS-9001" in said.err) == (0, False)
    assert "verified: lost=0" in said.out


def test_as_the_second_line_of_an_inspected_file_it_is_one_clear_error(cli, tmp_path):
    two = tmp_path / "two.json"
    two.write_bytes(encode(LETTER) + DEEP + b"\n")
    said = cli("inspect", two, "--org", "acme")
    assert (said.code, said.out) == (1, "")
    assert "line 2 is not a dead letter" in said.err
    assert "LMS-9001" not in said.err
    assert len(said.err.splitlines()) == 2  # of the first line, what it is, and the error


def test_the_one_decoder_takes_letters_and_nothing_else():
    assert decode(encode(LETTER)) == decode_or_none(encode(LETTER)) == LETTER
    for line in (DEEP, b"", b"{}", b"\xff", b'{"topic":"t"}', encode(LETTER)[:-3]):
        assert decode_or_none(line) is None
        with pytest.raises(NotALetterError):
            decode(line)
