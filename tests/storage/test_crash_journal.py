"""A record that kills its process is passed over after three deaths; one that was only there at the time is not."""

import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import textwrap

import pytest

from lmstream.config import cluster_of, load
from lmstream.errors import ConfigError
from lmstream.interfaces import Batch
from lmstream.lab.generator import Generator
from lmstream.storage.crash_journal import CrashJournal
from lmstream.testing import ScriptedSink
from support.doubles import bundle, make, nobody, record

CODEC = """
    import os, signal
    from lmstream.codecs.otlp_json import Codec as Real

    class Codec(Real):
        def decode(self, payload, /):
            if os.environ.get("KILL", "KILLS").encode() in payload:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().decode(payload)
"""


@pytest.fixture
def folder(tmp_path):
    """Bundles, one of which (the third) kills whoever decodes it."""
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "__init__.py").write_text("")
    (tmp_path / "deadly" / "codec.py").write_text(textwrap.dedent(CODEC))
    made = [each.payload for _, each in zip(range(6), Generator(instances=2).bundles(), strict=False)]
    made[2] = made[2].replace(b'{"resourceMetrics"', b'{"KILLS":1,"resourceMetrics"')
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(made) + b"\n")
    return tmp_path


def lmstream(folder, *more, kill="KILLS"):
    args = [
        "run",
        "--topic",
        "files",
        "--files",
        "in.jsonl",
        "--org",
        "acme",
        "--landed",
        "landed",
        "--dead-letters",
        "dead",
        *more,
    ]
    env = {**os.environ, "PYTHONPATH": str(folder), "KILL": kill, "LMSTREAM_ENGINE__FORMAT": "deadly.codec"}
    return subprocess.run(
        [sys.executable, "-m", "lmstream", *args], cwd=folder, env=env, capture_output=True, timeout=60, check=False
    )


def letters(folder):
    return [json.loads(path.read_bytes()) for path in sorted((folder / "dead").rglob("*.json"))]


def marks(folder):
    return sorted(each.name for each in (folder / "dead" / ".state").glob("*.mark"))


def deaths(folder):
    path = folder / "dead" / ".state" / "deaths"
    found = json.loads(path.read_bytes()) if path.exists() else {}
    return {name.partition(" ")[0]: count for name, count in found.items()}  # without timestamp and cluster


@pytest.mark.slow
def test_after_three_deaths_a_stub_is_written_and_the_rest_goes_on(folder):
    for count in range(3):
        assert deaths(folder).get("files/0/2", 0) == max(0, count - 1)
        done = lmstream(folder)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(marks(folder)) == 1
        assert letters(folder) == []
    done = lmstream(folder)
    assert done.returncode == 0, done.stderr
    (letter,) = letters(folder)
    assert (letter["reason"], letter["code"], letter["offset"]) == ("record.kills", "LMS-1014", 2)
    assert "value" not in letter
    assert "3 processes died" in letter["detail"]
    assert b"already landed: 2 records of these files" in done.stderr  # before the one that kills
    assert b"4 records" in done.stderr
    assert (deaths(folder), marks(folder)) == ({}, [])


@pytest.mark.slow
def test_a_record_that_was_only_there_is_delivered_at_the_next_try_and_forgotten(folder):
    for _ in range(2):
        assert lmstream(folder).returncode == -signal.SIGKILL
    done = lmstream(folder, kill="no such bytes")
    assert done.returncode == 0, done.stderr
    assert (letters(folder), deaths(folder), marks(folder)) == ([], {}, [])
    shutil.rmtree(folder / "landed")
    assert lmstream(folder).returncode == -signal.SIGKILL  # and counting starts anew
    assert lmstream(folder).returncode == -signal.SIGKILL
    assert deaths(folder) == {"files/0/2": 1}


def end(crashes):
    """What the kernel does at a death: the lock goes, the page stays."""
    crashes._page.close()
    os.close(crashes._file)


def test_a_kill_between_two_records_blames_nobody_and_a_living_process_is_no_dead_one(tmp_path):
    one, two = CrashJournal(tmp_path), CrashJournal(tmp_path)
    one.enter(record(5, b"x"))
    assert CrashJournal(tmp_path).deaths(record(5, b"x")) == 0
    one.leave()
    two.close()
    two.close()
    end(one)
    assert CrashJournal(tmp_path).deaths(record(5, b"x")) == 0
    three = CrashJournal(tmp_path)
    three.enter(record(7, b"x", partition=2))
    end(three)
    four = CrashJournal(tmp_path)
    assert four.deaths(record(7, b"x", partition=2)) == 1
    four.forget(record(7, b"x", partition=2))
    assert four.deaths(record(7, b"x", partition=2)) == 0
    assert json.loads((tmp_path / "deaths").read_bytes()) == {}


@pytest.mark.parametrize(
    ("cluster", "timestamp"),
    [("one b-1:9092", 1_700_000_000_001), ("two b-1:9092", 1_700_000_000_000), ("one b-2:9092", 1_700_000_000_000)],
    ids=["topic made anew", "another source_id", "another cluster"],
)
def test_deaths_at_coordinates_say_nothing_of_another_record_there(tmp_path, cluster, timestamp):
    for _ in range(3):
        crashes = CrashJournal(tmp_path, "one b-1:9092")
        crashes.enter(record(5, b"x", timestamp=1_700_000_000_000))
        end(crashes)
    assert CrashJournal(tmp_path, "one b-1:9092").deaths(record(5, b"x", timestamp=1_700_000_000_000)) == 3
    assert CrashJournal(tmp_path, cluster).deaths(record(5, b"healthy", timestamp=timestamp)) == 0


def test_two_configurations_are_two_clusters_and_the_order_of_brokers_is_nothing():
    def cluster(**source):
        flags = {f"source.{name}": value for name, value in source.items()}
        return cluster_of(load(None, env={}, overrides={"source.type": "kafka", "source.topics": ("t",), **flags}))

    assert cluster(bootstrap="b-1:9092,b-2:9092") == cluster(bootstrap="b-2:9092, b-1:9092")
    assert cluster(bootstrap="b-1:9092") != cluster(bootstrap="b-2:9092")


def _no_space(folder):
    try:
        with (folder / "filler").open("wb") as file:
            file.write(bytes(2_000_000))
    except OSError:
        return
    raise AssertionError("the disk is not full")


@pytest.fixture
def small(tmp_path):
    """A folder of state on a disk of 64 kB of its own."""
    state = tmp_path / "small"
    state.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(state)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield state
    subprocess.run(["umount", "-l", str(state)], check=True)


async def test_a_memory_of_deaths_on_a_full_disk_is_no_bug(small, caplog):
    await _settle_with_a_death(small, lambda: _no_space(small), caplog)


async def test_a_memory_of_deaths_that_is_gone_is_no_bug(tmp_path, caplog):
    state = tmp_path / "state"
    await _settle_with_a_death(state, lambda: shutil.rmtree(state), caplog)


async def _settle_with_a_death(state, break_it, caplog):
    """A noted death, then the folder cannot be written, and the record is delivered after all."""
    killed = CrashJournal(state)
    killed.enter(record(0, bundle()))
    end(killed)
    guard = CrashJournal(state)
    assert guard.deaths(record(0, bundle())) == 1
    break_it()
    pipeline = make(ScriptedSink(), guard=guard)
    pipeline.submit(Batch(records=[record(0, bundle())]), nobody)
    await pipeline.drain()
    assert not pipeline.broken
    assert pipeline.counts.delivered == 1
    await pipeline.close()
    (said,) = [each for each in caplog.records if each.name == "lmstream.delivery.settlement"]
    assert "t/0/0 is settled, but the crash journal cannot be written" in said.message
    assert said.code == "LMS-4005"


def test_odd_coordinates_and_damaged_files_do_no_harm(tmp_path):
    (tmp_path / "deaths").write_bytes(b"no json")
    (tmp_path / "0.mark").write_bytes(b"\x01")
    crashes = CrashJournal(tmp_path)
    for offset in (2**63, -(2**63) - 5, 2**70):
        crashes.enter(record(offset, b""))
        crashes.leave()
    crashes.close()
    with pytest.raises(ConfigError, match=r"run\.state_dir"):
        CrashJournal(tmp_path / "deaths")


LITTLE = """
    import resource
    from pathlib import Path
    from lmstream.codecs.otlp_json import Codec as Real

    class Codec(Real):
        def decode(self, payload, /):
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            if len(payload) > 1_000_000:  # all that is mapped by now, and too little more for so many points
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4_000_000, hard))
            try:
                return super().decode(payload)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
"""


def test_a_record_that_needs_more_memory_than_there_is_is_a_dead_letter_and_not_the_end(folder):
    """Not the kernel's kill but a real MemoryError: address space runs out while one bundle is decoded."""
    (folder / "deadly" / "codec.py").write_text(textwrap.dedent(LITTLE))
    bundles = (folder / "in.jsonl").read_bytes().splitlines()
    point = (
        b'{"timeUnixNano":"1715263558360000000","asInt":"%d","attributes":[{"key":"k","value":{"stringValue":"%d"}}]}'
    )
    points = b",".join(point % (n, n) for n in range(60_000))
    bundles[2] = (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[%s]}}]}]}]}' % points
    )
    (folder / "in.jsonl").write_bytes(b"\n".join(bundles))
    done = lmstream(folder, "--strict")
    assert done.returncode == 4, done.stderr
    assert b"6 records" in done.stderr
    (letter,) = letters(folder)
    assert (letter["reason"], letter["offset"], letter["detail"]) == (
        *("limits.size", 2),
        "more memory than this process may take",
    )


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_folder_and_its_files_are_for_this_user_alone_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        crashes = CrashJournal(tmp_path / "more" / "state")
        crashes.enter(record(5, b"x"))
        end(crashes)
        CrashJournal(tmp_path / "more" / "state").close()
    finally:
        os.umask(before)
    state = tmp_path / "more" / "state"
    assert mode(state) == 0o700
    assert {each.name: mode(each) for each in state.iterdir()} == {"lock": 0o600, "deaths": 0o600}


def test_a_folder_of_an_earlier_version_is_closed_to_others(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    (state / "deaths").write_text(json.dumps({CrashJournal(tmp_path / "other")._key(record(7, b"")): 2}))
    crashes = CrashJournal(state)
    assert crashes.deaths(record(7, b"")) == 2
    crashes.close()
    assert mode(state) == 0o700


def test_a_folder_with_other_files_keeps_its_mode_and_is_refused_when_others_write_there(tmp_path):
    (tmp_path / "else.txt").write_text("mine")
    tmp_path.chmod(0o755)
    CrashJournal(tmp_path).close()
    assert mode(tmp_path) == 0o755
    tmp_path.chmod(0o775)
    with pytest.raises(ConfigError, match=r"others may write there \(mode 0775\): chmod 700"):
        CrashJournal(tmp_path)


@pytest.mark.parametrize("name", ["deaths", "deaths.new", "lock", "planted.mark"])
def test_planted_links_are_not_followed(tmp_path, name):
    """Neither is anything written or read through them: their targets stay as they are, and are not in `deaths`."""
    target = tmp_path / "target"
    head = struct.pack("<qqi8sH", 8, -1, 0, b"01234567", 1) + b"t"
    target.write_bytes(head + b"a secret")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    # A mark with coordinates makes `deaths` be written.
    (state / "a.mark").write_bytes(head)
    (state / name).symlink_to(target)
    try:
        CrashJournal(state).close()
    except ConfigError as error:
        assert "is a link" in str(error)  # noqa: PT017 - either is right: refused, or replaced
    assert target.read_bytes() == head + b"a secret"
    assert not target.with_name("target.new").exists()
    deaths = state / "deaths"
    assert deaths.is_symlink() or not deaths.exists() or [*json.loads(deaths.read_bytes()).values()] == [1]


def test_a_link_instead_of_the_folder_is_refused_and_a_link_to_nowhere_too(tmp_path):
    (tmp_path / "real").mkdir()
    for target in ("real", "nowhere"):
        (tmp_path / "state").symlink_to(tmp_path / target)
        with pytest.raises(ConfigError, match="is a link"):
            CrashJournal(tmp_path / "state")
        (tmp_path / "state").unlink()
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize("name", ["lock", "deaths", "x.mark"])
def test_a_planted_pipe_does_not_hold_up_the_start(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=f"{name} in it is no regular file"):
        CrashJournal(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_refused(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12345)
    with pytest.raises(ConfigError, match=r"belongs to another user \(uid 12345\)"):
        CrashJournal(state)
    os.chown(state, 0, 0)
    (state / "deaths").write_text('{"t/0/7":3}')
    os.chown(state / "deaths", 12345, 12345)
    with pytest.raises(ConfigError, match="deaths in it belongs to another user"):
        CrashJournal(state)
