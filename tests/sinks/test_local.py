"""A lake in a folder: settings, what a start refuses, a disk that is full, and runs that are killed at any call."""

import asyncio
import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmstream.config import build_runtime, load
from lmstream.errors import ConfigError
from lmstream.lab.generator import Generator
from lmstream.sinks.local import Settings, make
from lmstream.storage import compression
from lmstream.storage.compression import gzip as compressed

KILLED = Path(__file__).parent.parent / "support/killed_run.py"
SEEDS = int(os.environ.get("LMSTREAM_TEST_KILLED_RUNS", "3"))


def config(tmp_path, paths, **more):
    settings = {
        "source.type": "files",
        "source.paths": [str(path) for path in paths],
        "sink.type": "local",
        "sink.root": str(tmp_path / "landed"),
        "engine.org_id": "acme",
        "dead_letters.type": "letters",
        "dead_letters.root": str(tmp_path / "letters"),
    }
    return load(env={}, overrides=settings | more)


def run(tmp_path, *paths, **more):
    """Run to the end; answers its counts, and what was said."""
    said = []

    async def work():
        runtime = build_runtime(config(tmp_path, paths, **more))
        if hasattr(runtime.source, "say"):
            runtime.source.say = said.append
        return await runtime.run()

    return asyncio.run(work()), said


def landed(root):
    return [
        json.loads(line)["rowId"]
        for path in sorted(root.rglob("*.ndjson.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]


@pytest.fixture
def bundles(tmp_path):
    """Files of a bundle each, and how many rows they are."""
    made = [bundle for bundle, _ in zip(Generator(instances=2).bundles(), range(6), strict=False)]
    paths = [tmp_path / f"{number}.json" for number in range(len(made))]
    for path, bundle in zip(paths, made, strict=True):
        path.write_bytes(bundle.payload)
    return paths, sum(each.rows for each in made)


@pytest.mark.parametrize("level", range(10))
def test_content_is_the_same_with_isal_and_without(monkeypatch, level):
    rows = b"".join(b'{"rowId":"%032d:0","value":%d}\n' % (n, n * n) for n in range(5000))
    one = compressed(rows, level)
    monkeypatch.setattr(compression, "_isal", None)
    other = compressed(rows, level)
    assert gzip.decompress(one) == gzip.decompress(other) == rows
    assert one[4:8] == other[4:8] == bytes(4)  # no time: the same rows give the same bytes
    assert (level not in (1, 2)) == (one == other)


def test_isal_is_really_used_where_it_is_installed():
    assert compression._isal is not None  # the lock of the tests has it


def test_objects_lie_at_their_paths_and_claims_apart(tmp_path, bundles):
    paths, rows = bundles
    counts, _ = run(tmp_path, *paths)
    assert counts.rows == rows == len(set(landed(tmp_path / "landed")))
    found = sorted(path.relative_to(tmp_path / "landed").parts for path in (tmp_path / "landed").rglob("*.*z"))
    assert {parts[0] for parts in found} == {"acme"}
    names = {parts[-1].split("-")[0] for parts in found}
    assert names == {"files"}
    assert list((tmp_path / "landed/_lmstream/claims").rglob("*.json"))


def test_the_same_content_is_said_to_have_landed_whatever_the_files_are_called(tmp_path, bundles):
    paths, rows = bundles
    run(tmp_path, *paths)
    moved = [path.rename(tmp_path / f"moved-{9 - number}.json") for number, path in enumerate(paths)]
    counts, said = run(tmp_path, *reversed(moved))
    assert counts.records == 0
    assert said == ["already landed: what these files hold. To land it again, name another folder"]
    assert len(landed(tmp_path / "landed")) == rows


def test_other_content_lands_beside_it(tmp_path, bundles):
    paths, rows = bundles
    run(tmp_path, *paths[:3])
    run(tmp_path, *paths)  # another list: its first three lie there twice, under the same row ids
    found = landed(tmp_path / "landed")
    assert len(set(found)) == rows < len(found)


def test_what_cannot_be_read_twice_lands_at_least_once(tmp_path, bundles):
    paths, _ = bundles
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(open({str(paths[0])!r}, 'rb').read())"]
        )
        counts, said = run(tmp_path, pipe)
        assert not writer.wait(60)
        assert counts.records == 1
        assert len(said) == 1
        assert "cannot be read twice" in said[0]
    found = landed(tmp_path / "landed")
    assert len(found) == 2 * len(set(found)) > 0


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path, bundles, monkeypatch):
    from lmstream.sources import _lanes, files

    paths, _ = bundles
    lane_of = _lanes.lane_of

    def meanwhile(*args, **more):
        lane = lane_of(*args, **more)
        paths[2].write_bytes(paths[2].read_bytes() + b"\n")
        return lane

    monkeypatch.setattr(files, "lane_of", meanwhile)
    with pytest.raises(Exception, match="changed while it was read"):
        run(tmp_path, *paths)


def test_settings_of_rolling_are_read_as_those_of_windows(tmp_path):
    made = config(tmp_path, [], **{"rolling.age": 5.0, "rolling.bytes": 2 << 20})
    assert (made.sink.settings.window_seconds, made.sink.settings.object_bytes) == (5.0, 2 << 20)
    made = config(tmp_path, [], **{"rolling.age": 5.0, "sink.window_seconds": 7.0})
    assert made.sink.settings.window_seconds == 7.0


async def test_a_root_that_is_a_file_or_read_only_is_said_before_the_start(tmp_path, monkeypatch):
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        await make(Settings(root=str(tmp_path / "root"))).check()
    assert caught.value.reason == "sink.disk"

    def refused(*_args, **_more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(ConfigError, match="Read-only"):
        await make(Settings(root=str(tmp_path))).check()


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
async def test_a_file_system_without_hard_links_is_refused_before_the_start(tmp_path, monkeypatch, error):
    def refused(*_args, **_more):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(ConfigError, match="no hard links"):
        await make(Settings(root=str(tmp_path))).check()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path, bundles, monkeypatch):
    paths, rows = bundles
    real, refused = os.write, []

    def full(file, data):
        if len(refused) < 6:
            refused.append(len(data))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data)

    monkeypatch.setattr(os, "write", full)
    counts, _ = run(tmp_path, *paths)
    assert len(refused) == 6
    assert counts.rows == rows == len(landed(tmp_path / "landed")) == len(set(landed(tmp_path / "landed")))
    assert list((tmp_path / "landed/.drafts").iterdir()) == []


def test_each_row_is_there_once_however_often_runs_are_killed_at_any_call(tmp_path):
    done = subprocess.run(
        [sys.executable, KILLED, tmp_path, str(SEEDS)], capture_output=True, text=True, check=True, timeout=60 * SEEDS
    )
    played = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(played) == SEEDS
    assert sum(each["kills"] for each in played) > 0
    for each in played:
        assert (each["rows"], each["different"]) == (each["expected"], each["expected"]), each
        assert (each["letters"], each["windows"] > 3) == (1, True), each
