"""run: files to anywhere, and what it says when a setting, a disk or a stream is wrong."""

import asyncio
import gzip
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmstream import Engine, Settings
from lmstream.lab import Fault, FirehoseLab, StreamConfig
from lmstream.sources import files
from support.file_records import file_record
from support.repoison import GOOD


def lines_below(folder):
    return sorted(line for path in folder.rglob("*.gz") for line in gzip.decompress(path.read_bytes()).splitlines())


def expected_of(made):
    engine = Engine(Settings(org_id="acme"))
    outs = [engine.fan_out(file_record(b.payload, n)) for n, b in enumerate(made)]
    return sorted(line for out in outs for line in out.ndjson().splitlines())


def test_files_land_in_a_folder_exactly_as_the_engine_makes_them(cli, bundles, tmp_path):
    folder, made = bundles(8)
    said = cli(
        "run",
        "--topic",
        "files",
        "--files",
        folder,
        "--org",
        "acme",
        "--landed",
        tmp_path / "landed",
        "--dead-letters",
        tmp_path / "dead",
    )
    assert said.code == 0
    assert said.out == ""
    assert "8 records" in said.err
    assert lines_below(tmp_path / "landed") == expected_of(made)


@pytest.mark.slow
@pytest.mark.parametrize("topic", [["--topic", "files"], []])
def test_workers_share_the_files_and_row_ids_are_those_of_one_process(cli, bundles, tmp_path, topic):
    folder, _ = bundles(7)
    common = ["run", *topic, "--files", folder, "--org", "acme", "--dead-letters", tmp_path / "dead"]
    one = cli(*common, "--landed", tmp_path / "one")
    # In a process of its own: the workers are its children, and what they say is theirs.
    done = subprocess.run(
        [sys.executable, "-m", "lmstream", *map(str, common), "--landed", tmp_path / "two", "--workers", "2"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (one.code, done.returncode) == (0, 0), done.stderr
    records = [int(text) for text in re.findall(r"worker \d: done .*?: (\d+) records", done.stderr.decode())]
    assert sorted(records) == [3, 4]
    assert lines_below(tmp_path / "two") == lines_below(tmp_path / "one")


def test_the_end_of_a_run_says_what_was_odd_where_letters_are_and_what_a_broken_file_left(cli, in_tmp):
    (in_tmp / "in").mkdir()
    gauge = '{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1715263558360000000","asInt":1}]}}'
    total = gauge.replace("gauge", "sum").replace(
        "}]}}", '}],"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA"}}'
    )
    (in_tmp / "in/a.json").write_text(f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{gauge},{total}]}}]}}]}}')
    (in_tmp / "in/b.json").write_text("no bundle")
    said = cli("run", "--files", "in", "--org", "acme", "--landed", "landed")
    assert said.code == 0
    assert "2 rows delivered, 1 dead letters" in said.err
    assert "noted 2 datasource.unknown, noted 2 device.unknown, noted 1 enum.name" in said.err
    assert "lmstream dlq ls ./dead-letters" in said.err
    (in_tmp / "in/c.jsonl.gz").write_bytes(gzip.compress(b"{}\n{}")[:-4])
    unset = ("--set", "engine.org_attributes=nobody.sets.it")
    said = cli("run", "--files", "in", "--landed", "landed2", *unset)
    broke, letters, error = said.err.splitlines()
    assert said.code == 1
    assert letters == "why, and which: lmstream dlq ls ./dead-letters"
    assert broke.startswith("broke off after")
    assert "4 records, 0 rows delivered" in broke
    assert "rejected 2 org.unresolved" in broke
    assert "LMS-3004 in/c.jsonl.gz: ends inside its gzip data" in error
    (in_tmp / "in/c.jsonl.gz").unlink()
    said = cli("run", "--files", "in", "--landed", "landed3", *unset)
    assert said.code == 4
    assert said.err.endswith("nothing was delivered: no row from 2 records\n")


def test_the_collectors_own_file_lands_and_files_left_out_are_told_once(cli, in_tmp):
    folder = in_tmp / "in"
    folder.mkdir()
    (folder / "metrics.json").write_bytes(GOOD + b"\n" + GOOD + b"\n")
    for name in ("b.log", "c.txt", "d.bin", "e.protobuf"):
        (folder / name).write_bytes(GOOD)
    said = cli("run", "--files", "in", "--org", "acme", "--landed", "landed")
    assert "2 records, 2 rows delivered, 0 dead letters" in said.err
    assert said.err.count("4 files left out: .bin .log .protobuf .txt; ") == 1
    assert said.code == 0
    said = cli("run", "--files", "in", "--org", "acme", "--landed", "landed2", "--workers", "2")
    assert said.err.count("left out") == 1


def test_the_exit_code_is_that_of_the_worker_for_which_the_others_were_stopped(bundles, tmp_path):
    folder, _ = bundles(6)
    (tmp_path / "a-file").touch()  # where a folder should be: only who writes there sees it
    common = ["run", "--topic", "files", "--files", folder, "--org", "acme", "--dead-letters", tmp_path / "dead"]
    done = subprocess.run(
        [sys.executable, "-m", "lmstream", *map(str, common), "--landed", tmp_path / "a-file", "--workers", "3"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"ended with exit code 2; stopping the others" in done.stderr
    assert done.returncode == 2, done.stderr  # not that of one which the signal met while it was starting


EARLY = """
import os, signal, sys, threading, time
import lmstream.hosts.container.workers as w

def waits(*_):  # as a worker that is still importing: nobody has asked for signals yet
    time.sleep(60)

if __name__ == "__main__":
    threading.Timer({after}, os.kill, (os.getpid(), signal.SIGTERM)).start()
    sys.exit(w.supervise(waits, (), [{{}}] * 3, print))
"""


@pytest.mark.parametrize("after", [0.001, 0.5])
def test_workers_that_are_stopped_before_they_have_begun_end_at_once_and_well(tmp_path, after):
    (tmp_path / "early.py").write_text(EARLY.format(after=after))
    done = subprocess.run([sys.executable, tmp_path / "early.py"], capture_output=True, timeout=30, check=False)
    # Before anybody listens the signal ends the process itself, as it does any.
    assert done.returncode in {0, -signal.SIGTERM if after < 0.1 else 0}, done.stderr


def test_the_null_sink_takes_files_and_delivers_nothing(cli, bundles, tmp_path):
    folder, made = bundles(3)
    said = cli("run", "--files", folder, "--org", "acme", "--sink", "null", "--dead-letters", tmp_path / "dead")
    assert (said.code, said.out) == (0, "")
    assert f"{len(expected_of(made)):,} rows delivered" in said.err
    assert {path.name for path in tmp_path.iterdir()} == {"bundles", "dead"}
    assert not list((tmp_path / "dead").rglob("*.json"))


def test_rows_on_standard_output_are_data_and_nothing_else(bundles, tmp_path):
    folder, made = bundles(3)
    args = [
        "run",
        "--topic",
        "files",
        "--files",
        str(folder),
        "--org",
        "acme",
        "--sink",
        "stdout",
        "--dead-letters",
        str(tmp_path / "dead"),
    ]
    done = subprocess.run([sys.executable, "-m", "lmstream", *args], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == expected_of(made)


def test_a_configuration_file_says_the_same_as_flags(cli, bundles, tmp_path, monkeypatch):
    folder, made = bundles(3)
    path = tmp_path / "run.toml"
    path.write_text(
        f'[engine]\norg_id = "acme"\n[source]\ntype = "files"\ntopic = "files"\npaths = ["{folder}"]\n'
        f'[sink]\ntype = "local"\nroot = "{tmp_path}/landed"\n[dead_letters]\nroot = "{tmp_path}/dead"\n'
    )
    assert cli("run", "--config", path).code == 0
    assert lines_below(tmp_path / "landed") == expected_of(made)
    monkeypatch.setenv("LMSTREAM_CONFIG", str(path))
    monkeypatch.setenv("LMSTREAM_SINK__ROOT", str(tmp_path / "other"))
    assert cli("run").code == 0
    assert lines_below(tmp_path / "other") == expected_of(made)


def test_strict_exits_4_when_something_was_dead_lettered(cli, bundles, tmp_path):
    folder, made = bundles(10, poison=0.5)
    args = [
        "run",
        "--topic",
        "files",
        "--files",
        folder,
        "--org",
        "acme",
        "--landed",
        tmp_path / "landed",
        "--dead-letters",
        tmp_path / "dead",
    ]
    assert cli(*args).code == 0
    assert cli(*args, "--set", f"sink.root={tmp_path / 'again'}", "--strict").code == 4
    assert len(list((tmp_path / "dead").rglob("*.json"))) == sum(bool(b.poison) for b in made)


def test_dead_letters_are_replayed_with_the_row_ids_they_would_have_had(cli, bundles, tmp_path):
    folder, made = bundles(4)
    args = ["--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead"]
    # No organization that any resource would have: every point is rejected.
    unset = ("--set", "engine.org_attributes=nobody.sets.it")
    assert cli("run", "--topic", "files", "--files", folder, *args, *unset).code == 4
    assert not (tmp_path / "landed").exists() or not lines_below(tmp_path / "landed")
    again = ["--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead2"]
    assert cli("run", "--topic", "files", "--files", tmp_path / "dead", "--org", "acme", *again).code == 0
    ids = {json.loads(line)["rowId"] for line in lines_below(tmp_path / "landed")}
    assert ids == {json.loads(line)["rowId"] for line in expected_of(made)}


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


DEAD = ("--dead-letters", "d")


@pytest.mark.parametrize(
    ("code", "said", "args"),
    [
        (2, "source.type is not set", ["--landed", "x"]),
        (2, "sink.type is not set", ["--files", "good.json"]),
        (2, "LMS-3004", ["--files", "./none", "--landed", "x"]),
        (
            2,
            "did you mean delivery.concurrency?",
            ["--files", "good.json", "--landed", "x", "--set", "delivery.concurency=4"],
        ),
        (
            2,
            'expected int, saw "many"',
            ["--files", "good.json", "--landed", "x", "--set", "delivery.concurrency=many"],
        ),
        (2, "expected KEY=VALUE", ["--files", ".", "--landed", "x", "--set", "nonsense"]),
        (2, "--landed and --stream: rows go to one sink", ["--files", "good.json", "--landed", "x", "--stream", "s"]),
        (2, "standard input is read by one process", ["--files", "-", "--landed", "x", "--workers", "2"]),
        (2, "discards rows", ["--topic", "t", "--group", "g", "--bootstrap", "h:1", "--sink", "null", *DEAD]),
        (2, "run.workers: expected int >= 1", ["--files", "good.json", "--landed", "x", "--workers", "0"]),
        (2, "there is no sink 'parquet'", ["--files", "good.json", "--sink", "parquet"]),
        (2, "source.bootstrap is not set", ["--topic", "t", "--landed", "x", *DEAD]),
        (1, "LMS-3001", ["--topic", "t", "--group", "g", "--bootstrap", "127.0.0.1:1", "--landed", "x", *DEAD]),
        (
            2,
            "none.pem",
            ["--topic", "t", "--group", "g", "--bootstrap", "h:1", "--ca", "none.pem", "--landed", "x", *DEAD],
        ),
    ],
)
def test_what_is_wrong_is_one_clear_message(cli, in_tmp, args, code, said):  # noqa: ARG001 - the folder is where it runs
    Path("good.json").write_text('{"resourceMetrics": []}')
    got = cli("run", "--org", "a", *args)
    assert (got.code, got.out) == (code, "")
    assert said in got.err
    assert "More: lmstream explain LMS-" in got.err
    assert len(got.err.splitlines()) == 1


def test_a_landing_folder_that_is_a_file_is_refused_before_anything_is_read(cli, bundles, tmp_path):
    folder, _ = bundles(1)
    (tmp_path / "file").write_text("x")
    got = cli(
        "run",
        "--topic",
        "files",
        "--files",
        folder,
        "--org",
        "a",
        "--landed",
        tmp_path / "file",
        "--dead-letters",
        tmp_path / "dead",
    )
    assert got.code == 2
    assert "LMS-4005" in got.err


async def firehose_run(bundles, tmp_path, hose, stream, *more):
    folder, made = bundles(6)
    args = [
        "run",
        "--topic",
        "files",
        "--files",
        folder,
        "--org",
        "acme",
        "--stream",
        stream,
        "--region",
        "us-east-1",
        "--endpoint-url",
        hose,
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmstream", *map(str, args), "--dead-letters", str(tmp_path / "dead"), *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "PATH": "/usr/bin:/bin"},
    )
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    return process.returncode, err.decode(), made


async def test_files_to_firehose_with_failures_on_the_way(bundles, tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=100)
    async with FirehoseLab(config, tmp_path / "landed") as hose:
        hose.faults.extend([Fault.unavailable(), Fault.partial(0), Fault.html()])
        code, err, made = await firehose_run(bundles, tmp_path, hose.endpoint_url, "rows")
        assert code == 0, err
        await hose.flush()
    assert lines_below(tmp_path / "landed") == expected_of(made)


async def test_a_missing_stream_and_a_missing_service_are_one_message_and_exit_1(bundles, tmp_path):
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"))
    async with FirehoseLab(config, tmp_path / "landed") as hose:
        code, err, _ = await firehose_run(bundles, tmp_path, hose.endpoint_url, "rosw")
        assert (code, "LMS-4004" in err, "Traceback" in err) == (1, True, False)
    code, err, _ = await firehose_run(bundles, tmp_path, "http://127.0.0.1:1", "rows")
    assert (code, "LMS-4002" in err, "Traceback" in err) == (1, True, False)


def test_rows_of_two_files_landed_in_one_folder_have_ids_of_their_own(cli, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_bytes(
            b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"%b","gauge":{"dataPoints":'
            b'[{"timeUnixNano":"1715263558360000000","asInt":1}]}}]}]}]}' % name.encode()
        )
        landing = ("--org", "acme", "--landed", tmp_path / "landed", "--dead-letters", tmp_path / "dead")
        assert cli("run", "--files", tmp_path / f"{name}.json", *landing).code == 0
    said = cli("query", "select metric from rows order by 1", "--landed", tmp_path / "landed", "--json")
    assert [json.loads(line)["metric"] for line in said.out.splitlines()] == ["a", "b"]


def test_a_run_does_not_read_what_it_writes(cli, bundles, monkeypatch):
    folder, made = bundles(4)
    (folder / "old").mkdir()
    (folder / "old/letter.json").write_bytes(b"no bundle")
    monkeypatch.chdir(folder)
    flags = ("run", "--files", ".", "--topic", "files", "--org", "acme", "--landed", "lake")
    for apart in ("not read: old (", "not read: old, lake, ./dead-letters ("):
        said = cli(*flags, "--set", 'source.without=["old"]')
        assert (said.code, apart in said.err) == (0, True), said.err
        # The second time the folder of rows is there, and full, and the list of contents is the same.
        assert lines_below(Path("lake")) == expected_of(made)
        assert not [*Path("dead-letters").rglob("*.json")]
    Path("old/letter.json").unlink()
    # Letters of the first run are no input of the second, unless their folder is named.
    Path("bad.json").write_bytes(b"no bundle")
    for records in ("5 records", "already landed"):
        said = cli(*flags)
        assert (said.code, records in said.err) == (0, True), said.err
    assert len([*Path("dead-letters").rglob("*.json")]) == 1
    said = cli("run", "--files", "dead-letters", "--org", "acme", "--landed", "lake")
    assert (said.code, "1 records" in said.err) == (4, True), said.err
    [share, _] = files.Settings(paths=(".",), without=("old", "lake", "dead-letters")).shares(2)
    assert share["paths"] == ("./000.json", "./001.json", "./002.json", "./003.json", "./bad.json")


def test_a_folder_is_not_read_that_the_rows_go_into(cli, bundles, in_tmp):  # noqa: ARG001 - the folder is where it runs
    folder, _ = bundles(1)
    for landed in (folder, f"{folder}/../{folder.name}"):
        said = cli("run", "--files", folder, "--org", "a", "--landed", landed)
        assert (said.code, "rows would land in the folder that is read" in said.err) == (2, True)
    Path("lake/deep").mkdir(parents=True)
    Path("lake/deep/rows.json").write_bytes(b"{}")
    said = cli("run", "--files", ".", "--org", "a", "--landed", "lake", "--set", f'source.without=["{folder.name}"]')
    assert (said.code, "not read: bundles, lake" in said.err) == (2, True)
