"""`lmstream test`: a record and what it has to become, recorded from an incident, compared, updated, masked."""

import gzip
import json
import re
import tomllib
from itertools import islice
from types import SimpleNamespace

import pytest

from lmstream import Engine, Settings
from lmstream.cli import main
from lmstream.dead_letters.form import encode
from lmstream.lab import KafkaLab
from lmstream.lab.generator import Generator
from lmstream.model import DeadLetter, Identity
from lmstream.testing.cases import cases
from lmstream.testing.samples import bundle

GOOD = next(Generator(instances=1).bundles()).payload
PROTO = next(islice(Generator(instances=1, format="protobuf").bundles(), 1)).payload
TWO = bundle(2, bad=1)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lmstream.toml").write_text('[engine]\norg_id = "acme"\n[dead_letters]\nroot = "dead"\n')

    def run(*arguments):
        code = main(["test", "--config", "lmstream.toml", *arguments])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    return run


def letter(value=TWO, offset=1205, **more):
    return DeadLetter(
        topic="lm.metrics", partition=3, offset=offset, timestamp=5, value=value, reason="value.two", code="LMS-1104",
        rejected=((2, "value.two"),), **more,
    )  # fmt: skip


def buried(tmp_path, *letters):
    for each in letters:
        path = tmp_path / "dead" / each.topic / str(each.partition) / f"{each.offset}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(each))


def test_a_bundle_becomes_a_case_that_passes_until_a_row_changes(cli, tmp_path):
    (tmp_path / "one.json").write_bytes(GOOD)
    said = cli("--record", "one.json", "--name", "usual", "--about", "a usual poll")
    assert said.code == 0, said.err
    assert said.out == "cases/usual.toml\n"
    assert {path.name for path in (tmp_path / "cases").iterdir()} == {
        "usual.toml", "usual.input.json", "usual.expected.json",
    }  # fmt: skip
    assert (tmp_path / "cases/usual.input.json").read_bytes() == GOOD
    said = cli()
    assert (said.code, said.out, said.err) == (0, "ok      usual\n", "1 cases, 0 failed\n")
    expected = tmp_path / "cases/usual.expected.json"
    found = json.loads(expected.read_text())
    found["rows"][0]["value"] = 7
    found["rows"][1]["attributes"]["more"] = "é"
    del found["rows"][2]
    expected.write_text(json.dumps(found))
    said = cli()
    assert said.code == 1
    assert "FAILED  usual\n        a usual poll\n  row 0 value\n    - 7\n    + " in said.out
    assert '  row 1 attributes.more\n    - "é"\n    + absent\n' in said.out
    assert '  row 2\n    - absent\n    + {"orgId": "acme"' in said.out
    assert said.err.endswith("1 cases, 1 failed; --update expects what comes out today\n")


def test_settings_are_part_of_what_is_tested(cli, tmp_path):
    (tmp_path / "one.json").write_bytes(GOOD)
    assert cli("--record", "one.json", "--name", "usual").code == 0
    said = cli("--set", "engine.org_id=other", "--json")
    (line,) = map(json.loads, said.out.splitlines())
    assert (said.code, line["case"], line["ok"]) == (1, "usual", False)
    assert {each["member"] for each in line["differences"]} == {"orgId", "orgKey"}
    assert line["differences"][0] == {"where": "row 0", "member": "orgId", "expected": "acme", "got": "other"}


def test_an_incident_becomes_a_regression_test(cli, tmp_path):
    """From its dead letter: it fails once the expectation is what ought to come out, and passes when that does."""
    snake = bundle(2).replace(b"asDouble", b"as_double")
    buried(tmp_path, letter(snake))
    said = cli("--record", "lm.metrics/3/1205", "--name", "snake")
    assert said.code == 0, said.err
    about = tomllib.loads((tmp_path / "cases/snake.toml").read_text())
    assert about == {
        "input": "snake.input.json", "about": "recorded from the dead letter of lm.metrics/3/1205",
        "topic": "lm.metrics", "partition": 3, "offset": 1205, "timestamp": 5,
    }  # fmt: skip
    assert cli().code == 0
    assert cli("--update", "--set", "engine.field_names=any").out == "updated snake\n"
    assert cli().code == 1, "the configuration does not read such names yet"
    assert cli("--set", "engine.field_names=any").code == 0
    (tmp_path / "lmstream.toml").write_text('[engine]\norg_id = "acme"\nfield_names = "any"\n')
    assert cli("snake").code == 0


def test_a_letter_of_points_is_kept_whole_with_the_ids_of_its_record(cli, tmp_path):
    buried(tmp_path, letter(identity=Identity("files", 0, 4, -9)), letter(b"junk", 7))
    assert cli("--record", "lm.metrics/3/1205").code == 0
    assert cli("--record", "lm.metrics/3/7", "--letters", "dead").code == 0
    points, junk = (json.loads((tmp_path / f"cases/lm.metrics-3-{n}.expected.json").read_text()) for n in (1205, 7))
    assert (len(points["rows"]), points["rejected"]) == (2, {"2": "value.two"})
    assert junk["refused"]["reason"] == "decode.json"
    (one, _) = cases(tmp_path / "cases")
    assert one.record.identity == Identity("files", 0, 4, -9)
    said = cli("--json")
    assert [json.loads(line)["ok"] for line in said.out.splitlines()] == [True, True]


def test_a_letter_file_and_a_compressed_protobuf_bundle_are_recorded(cli, tmp_path):
    (tmp_path / "letter.json").write_bytes(encode(letter()))
    (tmp_path / "one.pb.gz").write_bytes(gzip.compress(PROTO))
    assert cli("--record", "letter.json", "--name", "twice").code == 0
    assert cli("--record", "one.pb.gz", "--name", "proto").code == 0
    assert {path.suffix for path in (tmp_path / "cases").glob("*.input.*")} == {".json", ".pb"}
    assert cli().out == "ok      proto\nok      twice\n"
    assert len(cases(tmp_path / "cases")[0].expected["rows"]) > 0


async def test_a_record_of_a_topic_becomes_a_case(tmp_path):
    import asyncio
    import contextlib
    import io
    import os

    from aiokafka import AIOKafkaProducer

    async with KafkaLab() as lab:
        await lab.create_topic("lm")
        async with AIOKafkaProducer(bootstrap_servers=lab.bootstrap) as producer:
            for value in (b"junk", GOOD):
                await producer.send_and_wait("lm", value, partition=0, timestamp_ms=77)
        flags = ["--cases", str(tmp_path / "cases"), "--org", "acme"]

        def record():
            with contextlib.redirect_stdout(io.StringIO()):
                return main(["test", *flags, "--record", "lm/0/1", "--bootstrap", lab.bootstrap])

        before = dict(os.environ)
        assert await asyncio.to_thread(record) == 0
        assert before == dict(os.environ)
    (one,) = cases(tmp_path / "cases")
    assert (one.name, one.value, one.record.timestamp) == ("lm-0-1", GOOD, 77)
    assert one.differences(Engine(Settings(org_id="acme"))) == []


@pytest.mark.parametrize("payload", [GOOD, PROTO, gzip.compress(GOOD)], ids=["json", "protobuf", "gzip"])
def test_values_of_attributes_are_masked_the_same_value_the_same_way(cli, tmp_path, payload):
    (tmp_path / "one.json").write_bytes(payload)
    assert cli("--record", "one.json", "--name", "plain").code == 0
    plain = cases(tmp_path / "cases")[0].expected["rows"]
    secret = plain[0]["resource"]["hostName"]
    said = cli("--record", "one.json", "--name", "masked", "--mask", "host*", "--mask", "wild*")
    assert said.code == 0, said.err
    (masked, _) = cases(tmp_path / "cases")
    assert secret.encode() in cases(tmp_path / "cases")[1].value or payload is not GOOD
    rows = masked.expected["rows"]
    assert len(rows) == len(plain)
    assert {row["resource"]["hostName"] for row in rows} == {rows[0]["resource"]["hostName"]}
    assert re.fullmatch(r"masked-\d+", rows[0]["resource"]["hostName"])
    assert rows[0]["deviceName"] == rows[0]["resource"]["hostName"]
    assert [row.get("value") for row in rows] == [row.get("value") for row in plain]
    if "elsewhere" not in said.err:
        assert secret.encode() not in masked.value
    assert cli().code == 0


def test_what_stays_readable_elsewhere_is_said_and_what_cannot_be_masked_is_refused(cli, tmp_path):
    (tmp_path / "one.json").write_bytes(bundle(1, pad="secret").replace(b"WinCPU", b"secret"))
    said = cli("--record", "one.json", "--name", "half", "--mask", "pad")
    assert said.code == 0
    assert "1 of the masked values stand elsewhere in the bundle too" in said.err
    (tmp_path / "junk.json").write_bytes(b"junk")
    said = cli("--record", "junk.json", "--name", "junk", "--mask", "pad")
    assert said.code == 2
    assert "not a bundle of OTLP" in said.err
    assert not (tmp_path / "cases/junk.toml").exists()


def test_one_and_one_point_zero_are_not_the_same(cli, tmp_path):
    (tmp_path / "one.json").write_bytes(bundle(1))
    assert cli("--record", "one.json", "--name", "one").code == 0
    expected = tmp_path / "cases/one.expected.json"
    expected.write_text(expected.read_text().replace('"tsUnixMs": 1715263558360', '"tsUnixMs": 1715263558360.0'))
    assert cli().code == 1
    assert cli("--update").out == "updated one\n"
    assert cli("--update").out == ""
    assert cli().code == 0


def test_a_case_without_an_expectation_fails_and_says_how_to_get_one(cli, tmp_path):
    (tmp_path / "one.json").write_bytes(bundle(1))
    assert cli("--record", "one.json", "--name", "one").code == 0
    (tmp_path / "cases/one.expected.json").unlink()
    said = cli()
    assert said.code == 1
    assert "run with --update" in said.out
    assert cli("--update").code == 0
    assert cli().code == 0


WRONG = {
    "no folder": ([], "cases: no cases there"),
    "an unknown case": (["nope"], "no case 'nope'"),
    "a file that is not there": (["--record", "nope.json"], "nope.json: No such file"),
    "a name with a slash": (["--record", "one.json", "--name", "../x"], "'../x' is not a name of a case"),
    "a name that is taken": (["--record", "one.json", "--name", "one"], "one.toml is there already"),
    "two records": (["--record", "two.jsonl"], "2 records, and a case has one"),
    "a mask without a record": (["--mask", "host"], "go with --record"),
    "both at once": (["--record", "one.json", "--update"], "it runs none"),
    "no letter and no topic": (["--record", "lm/0/7"], ""),
    "a letter without bytes": (["--record", "lm.metrics/3/9"], "there are no bytes of the record"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_and_makes_no_case(cli, tmp_path, what):
    arguments, said = WRONG[what]
    (tmp_path / "one.json").write_bytes(bundle(1))
    (tmp_path / "two.jsonl").write_bytes(bundle(1) + b"\n" + bundle(1) + b"\n")
    buried(tmp_path, letter(None, 9))
    if what != "no folder":
        assert cli("--record", "one.json", "--name", "one").code == 0
    before = sorted((tmp_path / "cases").iterdir()) if what != "no folder" else []
    done = cli(*arguments)
    assert done.code in (1, 2), done.out
    assert said in done.err
    assert (sorted((tmp_path / "cases").iterdir()) if before else []) == before


DAMAGED = {
    "one.toml": (b"about = ", "one.toml: "),
    "one.expected.json": (b"{", "one.expected.json: "),
    "one.input.json": (None, "one.input.json: No such file"),
}


@pytest.mark.parametrize("file", DAMAGED)
def test_a_damaged_case_names_its_file(cli, tmp_path, file):
    (tmp_path / "one.json").write_bytes(bundle(1))
    assert cli("--record", "one.json", "--name", "one").code == 0
    data, said = DAMAGED[file]
    path = tmp_path / "cases" / file
    path.unlink() if data is None else path.write_bytes(data)
    done = cli()
    assert (done.code, said in done.err) == (2, True), done.err
    (tmp_path / "cases/one.toml").write_text('input = "../../etc/passwd"\ntopic = "t"\n')
    assert "is not a file beside it" in cli().err
