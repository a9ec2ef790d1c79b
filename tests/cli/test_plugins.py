"""Modules of other people on the command line: found with or without a dot, and blamed by name for what they raise."""

import json

import pytest

from lmstream.cli import main

CODEC = """
from lmstream.codecs.building import Point, PointCodec
from lmstream.errors import DecodeError

class Codec(PointCodec):
    def points(self, payload):
        for number, line in enumerate(payload.decode().splitlines(), 1):
            host, metric, value = line.split(",")
            if value == "all":
                raise DecodeError("acmecsv.all", "all of it")
            yield Point(metric=metric, value=float(value), time=1715263558 * 10**9, resource={"host.name": host})
"""
SINK = """
from msgspec import Struct
from lmstream.interfaces import Limits

class Settings(Struct, forbid_unknown_fields=True):
    broken: str = ""

class Sink:
    limits = Limits(pack_bytes=1000, pack_rows=10, request_packs=4, request_bytes=4000)
    def __init__(self, settings):
        if settings.broken == "make":
            raise ZeroDivisionError("oops")
    async def write(self, packs):
        return [None] * len(packs)
    async def close(self):
        pass

make = Sink
"""
SOURCE = """
from msgspec import Struct

class Settings(Struct, forbid_unknown_fields=True):
    pass

class Source:
    on_revoke = None
    def __init__(self, settings):
        pass
    async def poll(self, room):
        return {}["offset"]
    async def commit(self, offsets):
        pass
    async def close(self):
        pass

make = Source
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {"acmecsv": CODEC, "acmesink": SINK, "acmesource": SOURCE}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "in.csv").write_text("h1,cpu,1.5\nh2,cpu,all\n")
    return tmp_path


def test_inspect_and_run_take_a_codec_of_ones_own_by_the_flag(here, capsys):
    flags = ["--org", "acme", "--input-format", "acmecsv"]
    assert main(["inspect", "in.csv", "--json", *flags]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["deviceId"] == "h1"
    assert "LMS-1027 all of it [acmecsv.all]" in said.err
    assert main(["run", "--files", "in.csv", "--landed", "out", "--dead-letters", "dl", "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1
    (letter,) = (here / "dl").glob("in.csv/0/*.json")
    assert json.loads(letter.read_bytes())["reason"] == "acmecsv.all"
    assert json.loads(letter.read_bytes())["code"] == "LMS-1027"


def test_an_error_of_a_codec_names_module_line_and_record_and_commits_nothing(here, capsys):
    (here / "in.csv").write_text("h1,cpu,1.5\nh2,cpu,abc\n")
    assert main(["run", "--files", "in.csv", "--org", "acme", "--input-format", "acmecsv", "--landed", "out"]) == 1
    said = capsys.readouterr().err
    assert "LMS-9002 acmecsv raised ValueError: could not convert string to float: 'abc' at acmecsv.py:" in said
    assert "for in.csv/0/1 [plugin.failed]" in said
    assert "LMS-9001" not in said


def test_a_sink_without_a_dot_runs_and_an_error_of_it_names_it(here, capsys):
    (here / "in.csv").write_text("h1,cpu,1.5\n")
    flags = ["run", "--files", "in.csv", "--org", "acme", "--input-format", "acmecsv", "--sink", "acmesink"]
    assert main(flags) == 0
    capsys.readouterr()
    assert main([*flags, "--set", "sink.broken=make"]) == 1
    assert "LMS-9002 acmesink raised ZeroDivisionError: oops at acmesink.py:" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_an_error_of_a_source_names_it(capsys):
    flags = ["run", "--source", "acmesource", "--org", "acme", "--landed", "out", "--dead-letters", "dl"]
    assert main([*flags, "--set", "endpoints.address=off"]) == 1
    said = capsys.readouterr().err
    assert "LMS-9002 acmesource raised KeyError: 'offset' at acmesource.py:" in said
    assert "LMS-9001" not in said


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "acme_snik",
            "there is no sink 'acme_snik' (from the flags); known: firehose, local, null, s3, stdout; or the",
        ),
        ("locl", "did you mean 'local'?"),
        ("acme.snik", "cannot import acme.snik: No module named 'acme'"),
        ("colorsys", "module colorsys has no Settings and no make"),
        ("memory", "lmstream.testing.Memory is for tests, and keeps nothing of a run"),
        ("no/name", "there is no sink 'no/name'"),
    ],
)
def test_a_name_that_is_no_module_says_what_to_do(capsys, name, said):
    assert main(["run", "--files", "in.csv", "--org", "acme", "--input-format", "acmecsv", "--sink", name]) == 2
    text = capsys.readouterr().err
    assert said in text
    if name == "acme.snik":
        assert "put its folder on PYTHONPATH" in text
