"""A lake in a folder, as an operator has it: verify, repair, compact, replay and query, and rows of before claims."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

ENV = {k: v for k, v in os.environ.items() if not k.startswith("LMSTREAM_")} | {"COLUMNS": "200"}


@pytest.fixture
def ran(cli, bundles, tmp_path, monkeypatch):
    """Bundles that landed in some windows: the command line, their folder, the landing folder, and how many rows."""
    monkeypatch.chdir(tmp_path)
    files, made = bundles(12)
    done = cli("run", "--files", files, "--org", "acme", "--landed", "landed", "--set", "sink.window_rows=20")
    assert done.code == 0, done.err
    return cli, files, tmp_path / "landed", sum(each.rows for each in made)


def verdict(cli, *more):
    done = cli("verify", "--landed", "landed", "--json", *more)
    return done.code, json.loads(done.out)["total"]


def objects(landed):
    return sorted((landed / "acme").rglob("*.ndjson.gz"))


def counted(cli):
    (row,) = cli(
        *("query", "select count(*) as n, count(distinct rowId) as ids from landed", "--landed", "landed", "--json")
    ).out.splitlines()
    return json.loads(row)


def versions(landed):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in objects(landed)}


def test_the_folder_alone_proves_what_landed(ran):
    cli, _, landed, rows = ran
    code, total = verdict(cli)
    assert (code, total["landed"], total["expected"], total["duplicate"]) == (0, rows, rows, 0)
    objects(landed)[0].unlink()
    code, total = verdict(cli, "--settle", "0.1")
    assert code == 3
    assert total["lost"] > 0


def test_missing_and_short_objects_are_repaired_from_the_same_files_whatever_they_are_called(ran):
    cli, files, landed, rows = ran
    gone, short, *_ = [path for path in objects(landed) if gzip.decompress(path.read_bytes()).count(b"\n") > 1]
    gone.unlink()
    lines = gzip.decompress(short.read_bytes()).splitlines(keepends=True)
    short.write_bytes(gzip.compress(lines[0]))
    for number, path in enumerate(sorted(files.iterdir(), reverse=True)):
        path.rename(files / f"moved-{number}.json")
    repair = ("lake", "repair", "--files", files, "--landed", "landed", "--json")
    seen = [json.loads(line) for line in cli(*repair).out.splitlines()]
    assert (sum(each["missing"] for each in seen), sum(each["short"] for each in seen)) == (1, 1)
    done = cli(*repair, "--yes")
    assert done.code == 0, done.err
    assert sum(json.loads(line)["made"] for line in done.out.splitlines()) == 2
    assert counted(cli) == {"n": rows, "ids": rows}
    code, total = verdict(cli)
    assert (code, total["landed"]) == (0, rows)
    assert [json.loads(line)["made"] for line in cli(*repair, "--yes").out.splitlines()] == [0]  # the supplement stays


def test_other_files_repair_nothing_and_say_so(ran, tmp_path):
    cli, files, landed, _ = ran
    objects(landed)[0].unlink()
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(next(files.iterdir()), some)
    done = cli("lake", "repair", "--files", some, "--landed", "landed", "--yes")
    assert "no claim is of a run of exactly these files" in done.err
    ((lane,),) = [[path.parent.name for path in (landed / "_lmstream/claims/_").glob("*/0")]]
    done = cli("lake", "repair", "--files", some, "--landed", "landed", "--claim", f"{lane}/0/1", "--yes")
    assert (done.code, "other files than the run that landed them" in done.err) == (1, True)


def test_small_objects_of_a_folder_become_larger_ones_and_no_name_comes_free(ran):
    cli, files, landed, rows = ran
    before = objects(landed)
    done = cli("lake", "compact", "--landed", "landed", "--yes", "--json")
    assert done.code == 0, done.err
    replaced = sum(json.loads(line)["replaced"] for line in done.out.splitlines())
    assert replaced > 4
    after = objects(landed)
    assert {*before} < {*after}
    assert sum(not gzip.decompress(path.read_bytes()) for path in before) == replaced
    assert counted(cli) == {"n": rows, "ids": rows}
    code, total = verdict(cli)
    assert (code, total["landed"], total["duplicate"]) == (0, rows, 0)
    there = versions(landed)
    for command in (
        ("lake", "compact", "--landed", "landed", "--yes"),
        ("lake", "repair", "--files", files, "--landed", "landed", "--yes"),
        ("run", "--files", files, "--org", "acme", "--landed", "landed"),
    ):
        assert cli(*command).code == 0
        assert versions(landed) == there


def test_a_compaction_that_was_killed_is_finished(ran):
    cli, _, landed, rows = ran
    whole = {path: path.read_bytes() for path in objects(landed)}
    assert cli("lake", "compact", "--landed", "landed", "--yes").code == 0
    emptied = [path for path, data in whole.items() if path.read_bytes() != data]
    larger = [path for path in objects(landed) if path.name.startswith("compacted-")]
    emptied[0].write_bytes(whole[emptied[0]])  # as before its last step
    for path in [each for each in emptied if each.parent == emptied[-1].parent]:
        path.write_bytes(whole[path])
    next(each for each in larger if each.parent == emptied[-1].parent).unlink()  # as after its first
    assert cli("lake", "compact", "--landed", "landed", "--yes").code == 0
    assert counted(cli) == {"n": rows, "ids": rows}
    assert verdict(cli)[0] == 0


def test_an_object_that_is_damaged_is_named_and_left_alone(ran):
    cli, files, landed, _ = ran
    objects(landed)[0].write_bytes(b"\x1f\x8bno gzip")
    assert verdict(cli)[0] == 3
    done = cli("lake", "repair", "--files", files, "--landed", "landed", "--yes")
    assert (done.code, "LMS-4024" in done.err) == (1, True)
    done = cli("lake", "compact", "--landed", "landed", "--yes")
    assert done.code in {0, 4}  # 4 where it is one of several of its path
    assert objects(landed)[0].read_bytes() == b"\x1f\x8bno gzip"


def test_letters_of_files_are_replayed_into_their_folder_once(cli, bundles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, made = bundles(12)
    (files / "bad.json").write_bytes(b'{"resourceMetrics": 5}')
    rows = sum(each.rows for each in made)
    run = ("run", "--files", files, "--org", "acme", "--landed", "landed")
    assert cli(*run, "--set", "engine.limits.points=7", "--set", "breaker.records=0").code == 0
    some = counted(cli)["n"]
    assert 0 < some < rows
    replay = ("dlq", "replay", "dead-letters", "--org", "acme", "--landed", "landed", "--yes")
    done = cli(*replay)
    assert done.code == 0, done.err
    assert f"{rows - some:,} rows landed" in done.err
    assert "1 were refused again" in done.err
    assert counted(cli) == {"n": rows, "ids": rows}
    code, total = verdict(cli, "--dead-letters", "dead-letters")
    assert (code, total["landed"], total["duplicate"], total["letters"]) == (0, rows, 0, 5)
    again = cli(*replay, "--purge-delivered")
    assert "0 rows landed" in again.err
    assert "already landed" in again.err
    assert ["bad.json" in str(path) for path in letters(tmp_path)] == [True]
    assert counted(cli) == {"n": rows, "ids": rows}


def letters(at):
    return [path for path in (at / "dead-letters").rglob("*.json") if "/." not in str(path)]


def test_rows_of_before_claims_are_told_of_at_the_start_and_seen_once(ran, tmp_path):
    cli, files, landed, rows = ran
    old = tmp_path / "old"
    for path in objects(landed):  # as the sink of before claims named them
        at = old / path.parent.relative_to(landed)
        at.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, at / f"part-0123456789ab-{len(list(at.iterdir())):06d}.ndjson.gz")
    run = ("run", "--files", files, "--org", "acme", "--landed", "old")
    done = cli(*run)
    assert done.code == 0
    assert "old has rows of an earlier version, without claims" in done.err
    view = cli("query", "select count(*) as n from rows", "--landed", "old", "--json").out
    every = cli("query", "select count(*) as n from landed", "--landed", "old", "--json").out
    assert (json.loads(view)["n"], json.loads(every)["n"]) == (rows, 2 * rows)
    done = cli("verify", "--landed", "old", "--json")
    total = json.loads(done.out)["total"]
    assert (done.code, total["lost"], total["duplicate"]) == (3, 0, rows)
    done = cli(*run)
    assert "earlier version" not in done.err
    assert "already landed" in done.err


def test_a_lake_of_parquet_in_a_folder(cli, bundles, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    files, made = bundles(12)
    more = ("--set", "sink.format=parquet", "--set", "sink.window_rows=20")
    done = cli("run", "--files", files, "--org", "acme", "--landed", "landed", *more)
    assert done.code == 0, done.err
    rows = sum(each.rows for each in made)
    assert cli("lake", "compact", "--landed", "landed", "--set", "sink.format=parquet", "--yes").code == 0
    there = {path: path.stat().st_ino for path in (tmp_path / "landed/acme").rglob("*.parquet")}
    assert cli("lake", "compact", "--landed", "landed", "--set", "sink.format=parquet", "--yes").code == 0
    assert {path: path.stat().st_ino for path in (tmp_path / "landed/acme").rglob("*.parquet")} == there
    assert counted(cli) == {"n": rows, "ids": rows}
    code, total = verdict(cli)
    assert (code, total["landed"]) == (0, rows)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lands_what_a_window_has_gathered_and_waits_for_no_window(bundles, tmp_path, sent):
    _, made = bundles(3)
    command = [
        sys.executable,
        "-m",
        "lmstream",
        "run",
        "--files",
        "-",
        "--org",
        "acme",
        "--landed",
        tmp_path / "landed",
    ]
    command += [
        "--dead-letters",
        tmp_path / "dead",
        "--set",
        "sink.window_seconds=3600",
        "--set",
        "run.report_seconds=0.1",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV) as process:
        process.stdin.write("".join(f"{json.dumps(json.loads(each.payload))}\n" for each in made))
        process.stdin.flush()
        while "3 records" not in (line := process.stderr.readline()):
            assert line, "it ended"
        assert not objects(tmp_path / "landed")
        began = time.monotonic()
        process.send_signal(sent)
        rest = process.stderr.read()
        assert process.wait(30) == 0, rest
        assert time.monotonic() - began < 15
    landed = sum(gzip.decompress(path.read_bytes()).count(b"\n") for path in objects(tmp_path / "landed"))
    assert landed == sum(each.rows for each in made)


def test_two_runs_of_the_same_files_at_once_land_each_row_once(cli, bundles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, made = bundles(40)
    command = [sys.executable, "-m", "lmstream", "run", "--files", files, "--org", "acme", "--landed", "landed"]
    command += ["--set", "sink.window_rows=30"]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENV) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]  # also of one that had nothing left to deliver
    rows = sum(each.rows for each in made)
    assert counted(cli) == {"n": rows, "ids": rows}
    code, total = verdict(cli)
    assert (code, total["landed"], total["expected"], total["duplicate"]) == (0, rows, rows, 0)


# --- rows with keys ---


@pytest.fixture
def keyed(ran):
    """The same bundles once more, with keys in their rows."""
    cli, files, landed, rows = ran
    config = landed.parent / "keyed.toml"
    config.write_text(
        '[engine]\norg_id = "acme"\ndimensions = true\n[sink]\ntype = "local"\nroot = "keyed"\nwindow_rows = 20\n'
    )
    done = cli("run", "--config", config, "--files", files)
    assert done.code == 0, done.err
    return cli, files, config, landed.parent / "keyed", rows


def selected(cli, landed, sql="select * from rows order by rowId"):
    return [json.loads(line) for line in cli("query", sql, "--landed", landed, "--json").out.splitlines()]


def of_dimensions(landed):
    return sorted((landed / "acme" / "_dimensions").rglob("*.ndjson.gz"))


def test_rows_with_keys_are_queried_as_rows_without(keyed):
    cli, _, _, landed, rows = keyed
    found = selected(cli, landed)
    assert len(found) == rows
    assert found == selected(cli, landed.parent / "landed")
    one = selected(cli, landed, "select * from keyed limit 1")[0]
    assert one["deviceId"] is None
    assert one["resourceKey"]
    kinds = selected(
        cli, landed, "select dimension, count(*) as n, count(distinct (hour, key)) as keys from dimensions group by 1"
    )
    assert {each["dimension"] for each in kinds} == {"resource", "scope", "attributes"}
    assert all(each["n"] == each["keys"] for each in kinds)


def test_rows_with_keys_are_proved_and_compacted_and_their_dimension_rows_repaired(keyed):
    cli, files, config, landed, rows = keyed
    before = selected(cli, landed)

    def proved(*more):
        done = cli("verify", "--landed", landed, "--json", *more)
        return done.code, json.loads(done.out)

    code, report = proved()
    assert (code, report["total"]["landed"], report["lake"]["orphans"]) == (0, rows, 0)
    gone, *_ = of_dimensions(landed)
    gone.unlink()
    code, report = proved("--settle", "0.1")
    assert code == 3
    assert report["lake"]["dimensions_wrong"] > 0
    done = cli("lake", "repair", "--files", files, "--config", config, "--json", "--yes")
    assert done.code == 0, done.err
    code, report = proved()
    assert (code, report["lake"]["orphans"]) == (0, 0)
    done = cli("lake", "compact", "--config", config, "--json", "--yes")
    assert done.code == 0, done.err
    full = [path for path in of_dimensions(landed) if gzip.decompress(path.read_bytes())]
    assert len(full) < len(of_dimensions(landed))
    assert all("compacted" in path.name for path in full[:1])
    code, report = proved()
    assert (code, report["total"]["landed"], report["total"]["duplicate"], report["lake"]["orphans"]) == (0, rows, 0, 0)
    assert selected(cli, landed) == before
    for path in full:
        path.unlink()
    code, report = proved("--settle", "0.1")
    assert code == 3
    assert report["lake"]["orphans"] > 0


def test_keys_are_refused_with_parquet(keyed):
    cli, files, config, *_ = keyed
    done = cli("run", "--config", config, "--files", files, "--set", "sink.format=parquet")
    assert done.code == 2
    assert "each distinct map once" in done.err
