"""`verify` as a library: plain arguments in, a report out, and nothing is printed."""

import gzip
from itertools import islice

import msgspec
import pytest

from lmstream import Engine, Record, Settings
from lmstream.dead_letters.form import encode
from lmstream.errors import ConfigError, SourceError
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter
from lmstream.verification import expectation, log_entries, verify


@pytest.fixture
def scene(tmp_path):
    """Three bundles that must land, one record that is none, a log of them, and the rows."""
    engine = Engine(Settings(org_id="acme"))
    payloads = [*(each.payload for each in islice(Generator(instances=2).bundles(), 3)), b"no bundle"]
    records = [Record(topic="t", partition=0, offset=n, timestamp=5, value=each) for n, each in enumerate(payloads)]
    expected = [expectation(engine, each, "") for each in records]
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in expected))
    rows = [engine.fan_out(each).ndjson() for each in records[:-1]]
    (tmp_path / "landed" / "errors").mkdir(parents=True)
    (tmp_path / "landed" / "a.gz").write_bytes(gzip.compress(b"".join(rows)))
    return tmp_path, expected, rows


def test_a_report_comes_of_plain_arguments_and_nothing_is_printed(scene, capsys):
    folder, expected, rows = scene
    report = verify(log_entries(folder / "log.jsonl"), str(folder / "landed"))
    assert report.ok
    assert report.total.landed == b"".join(rows).count(b"\n")
    assert report.verdict.startswith("verified: lost=0 ")
    assert report.letters_checked is False
    assert verify(expected, folder / "landed") == report
    assert capsys.readouterr() == ("", "")


def test_a_missing_letter_is_named_and_what_is_no_letter_is_told(scene):
    folder, expected, _ = scene
    letters = folder / "letters"
    letters.mkdir()
    (letters / "junk.json").write_bytes(b"junk\n")
    said = []
    report = verify(expected, folder / "landed", letters, say=said.append)
    assert not report.ok
    assert report.verdict.startswith("NOT VERIFIED (LMS-5001 verify.failed): lost=0 ")
    assert report.letters_missing == ["t/0/3:0"]
    assert said == [f"{letters / 'junk.json'}: a line that is no dead letter was left out"]
    letter = DeadLetter(topic="t", partition=0, offset=3, timestamp=5, value=b"no bundle", reason="decode.json")
    (letters / "3.json").write_bytes(encode(letter))
    assert verify(expected, folder / "landed", letters, say=said.append).ok


def test_landed_objects_pass_through_what_watches_them(scene):
    folder, expected, _ = scene
    seen = []

    def watch(objects):
        for name, lines in objects:
            seen.append(name)
            yield name, lines

    assert verify(expected, folder / "landed", watch=watch).ok
    assert seen == [str(folder / "landed" / "a.gz")]


def test_a_place_that_is_none_and_a_folder_that_is_missing_are_errors_of_ours(scene):
    folder, expected, _ = scene
    with pytest.raises(ConfigError, match="expected s3://BUCKET/PREFIX"):
        verify(expected, "s3://")
    with pytest.raises(SourceError, match="none"):
        verify(expected, folder / "none")
