"""A start needs no more than a run: busy services, full disks, slow names and leftovers of the killed are no refusal."""

import asyncio
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lmstream.cli import main
from lmstream.cli.scratch import scratch
from lmstream.dead_letters import letters
from lmstream.errors import ConfigError, SinkError, SourceError
from lmstream.kafka.connection_probe import probe
from lmstream.lab import Fault, FirehoseLab, StreamConfig
from lmstream.settings import Settings
from lmstream.sinks import local
from lmstream.storage import durable_files
from lmstream.storage.crash_journal import CrashJournal

# The state folder


def open_and_close(folder, seconds, failures):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            CrashJournal(folder).close()
        except ConfigError as error:
            failures.put(str(error))


@pytest.mark.slow
def test_processes_that_start_and_stop_beside_each_other_never_refuse_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    failures = context.SimpleQueue()
    each = [context.Process(target=open_and_close, args=(tmp_path / "state", 3.0, failures)) for _ in range(4)]
    for process in each:
        process.start()
    for process in each:
        process.join(60)
        assert process.exitcode == 0
    assert failures.empty(), failures.get()
    assert {path.name for path in (tmp_path / "state").iterdir()} <= {"lock", "deaths"}


# What a kill leaves


@pytest.mark.parametrize("kind", ["letters", "local"])
async def test_what_a_killed_process_left_half_made_goes_at_the_next_start_and_nothing_else(tmp_path, kind):
    sinks = {
        "letters": lambda: letters.make(letters.Settings(root=str(tmp_path))),
        "local": lambda: local.make(local.Settings(root=str(tmp_path))),
    }
    await sinks[kind]().check()
    drafts = tmp_path / durable_files.DRAFTS
    code = f"""
import os, signal
from pathlib import Path
from lmstream.storage import durable_files
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with durable_files.folder(Path({str(tmp_path)!r}), ()) as at, durable_files.drafts(Path({str(tmp_path)!r})) as drafts:
    durable_files.replace(at, "5.json", b"half", drafts)
"""
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await asyncio.wait_for(killed.wait(), 60) == -signal.SIGKILL
    assert len(list(drafts.iterdir())) == 1
    (drafts / "somebody else's").write_text("kept")
    await sinks[kind]().check()
    assert [path.name for path in drafts.iterdir()] == ["somebody else's"]
    assert not [path for path in tmp_path.iterdir() if path != drafts]


def test_what_is_being_written_stays_and_what_was_taken_away_is_written_again(tmp_path, monkeypatch):
    fsync = os.fsync

    def meanwhile(file):
        monkeypatch.setattr(os, "fsync", fsync)
        durable_files.sweep(tmp_path)  # a start of another process
        fsync(file)

    with durable_files.folder(tmp_path, ()) as at, durable_files.drafts(tmp_path) as drafts:
        monkeypatch.setattr(os, "fsync", meanwhile)
        durable_files.replace(at, "a", b"whole", drafts)
        assert (tmp_path / "a").read_bytes() == b"whole"

        def gone(file):
            monkeypatch.setattr(os, "fsync", fsync)
            for draft in (tmp_path / durable_files.DRAFTS).iterdir():  # on a disk without locks
                draft.unlink()
            fsync(file)

        monkeypatch.setattr(os, "fsync", gone)
        durable_files.replace(at, "b", b"whole", drafts)
    assert (tmp_path / "b").read_bytes() == b"whole"


def test_a_disk_of_its_own_below_the_root_is_written_there(tmp_path, monkeypatch):
    replace, tried = os.replace, []

    def across(source, target, **places):
        tried.append(places)
        if len(tried) == 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target, **places)

    monkeypatch.setattr(os, "replace", across)
    with durable_files.folder(tmp_path, ("own",)) as at, durable_files.drafts(tmp_path) as drafts:
        durable_files.replace(at, "a", b"whole", drafts)
    assert (tmp_path / "own/a").read_bytes() == b"whole"
    assert len(tried) == 2
    assert not list((tmp_path / durable_files.DRAFTS).iterdir())


SCRATCH = """
import sys, time
from lmstream.cli.scratch import scratch
with scratch("lmstream-query-") as made:
    (made / "00000001").write_text("rows")
    print(made, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_copy_of_a_bucket_goes_with_its_process_or_with_the_next(tmp_path, monkeypatch, number, code):
    env = os.environ | {"TMPDIR": str(tmp_path)}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", SCRATCH], env=env, stdout=subprocess.PIPE, text=True) as process:
        made = Path(process.stdout.readline().strip())
        assert made.parent == tmp_path
        os.utime(made, (1, 1))
        with scratch("lmstream-query-"):
            assert made.is_dir()  # its process lives
        process.send_signal(number)
        assert process.wait(30) == code
    assert made.exists() == (number == signal.SIGKILL)
    if made.exists():
        os.utime(made, (1, 1))
    with scratch("lmstream-query-") as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert not list(tmp_path.iterdir())


# Full disks


@pytest.fixture
def full(tmp_path):
    """A disk of its own without room."""
    mount = tmp_path / "full"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    with pytest.raises(OSError, match="No space"):
        (mount / ".filler").write_bytes(b"f" * 100_000)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


async def test_a_full_disk_is_told_from_a_wrong_one_before_a_start(full, tmp_path):
    for sink in (
        letters.make(letters.Settings(root=str(full / "d"))),
        local.make(local.Settings(root=str(full / "d"))),
    ):
        with pytest.raises(SinkError) as refused:
            await sink.check()
        assert (refused.value.reason, refused.value.code) == ("sink.full", "LMS-4013")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        await letters.make(letters.Settings(root=str(tmp_path / "file/d"))).check()


def test_a_full_disk_of_letters_keeps_no_run_from_starting_and_costs_nothing(full, tmp_path, bundles, capsys):
    folder, _ = bundles(3)
    words = ["run", "--files", str(folder), "--org", "acme", "--landed", str(tmp_path / "landed")]
    assert main([*words, "--dead-letters", str(full / "dead")]) == 0
    said = capsys.readouterr().err
    assert "dead letters cannot be written at the moment, continuing: LMS-4013" in said
    assert "cannot be remembered until the next start" in said
    assert "3 records" in said
    settings = tmp_path / "lmstream.toml"
    settings.write_text(
        f"""
        source = {{ type = "files", paths = ["{folder}"] }}
        sink = {{ type = "local", root = "{tmp_path / "landed"}" }}
        dead_letters = {{ type = "letters", root = "{full / "dead"}" }}
        engine = {{ org_id = "acme" }}
        """
    )
    assert main(["validate", "--connect", "--config", str(settings)]) == 0
    assert "warning  dead letters: LMS-4013" in capsys.readouterr().out


# A busy service


@pytest.fixture
def bundles(tmp_path):
    from itertools import islice

    from lmstream.lab.generator import Generator

    def make(count):
        folder = tmp_path / "bundles"
        folder.mkdir()
        made = list(islice(Generator(instances=2).bundles(), count))
        for number, bundle in enumerate(made):
            (folder / f"{number}.json").write_bytes(bundle.payload)
        return folder, made

    return make


@pytest.mark.parametrize("times", [1, 100])
async def test_a_stream_whose_description_is_throttled_is_started_on(tmp_path, bundles, times):
    folder, _ = bundles(3)
    config = StreamConfig.for_settings("rows", Settings(org_id="acme"))
    env = os.environ | {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "AWS_EC2_METADATA_DISABLED": "true"}
    async with FirehoseLab(config, tmp_path / "landed") as lab:
        lab.describe_faults.extend([Fault.throttled()] * times)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lmstream", "run", "--files", str(folder), "--org", "acme", "--stream", "rows"),
            *("--region", "us-east-1", "--endpoint-url", lab.endpoint_url, "--dead-letters", str(tmp_path / "dead")),
            stderr=subprocess.PIPE,
            env=env,
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, said.decode()
        assert (b"the stream cannot be described, continuing: LMS-4012" in said) == (times > 4)
        assert lab.counters.records > 0


# Names that take their time


async def slow_names(monkeypatch, seconds):
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def slow(*args, **more):
        await asyncio.sleep(seconds)
        return await ask(*args, **more)

    monkeypatch.setattr(loop, "getaddrinfo", slow)


async def test_a_name_that_takes_longer_than_a_broker_may_is_waited_for_as_long_as_the_setting_says(monkeypatch):
    async def answer(reader, writer):
        await reader.read(4)
        writer.write(b"\0\0\0\1")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr("lmstream.kafka.connection_probe._PROBE", 0.3)
    await slow_names(monkeypatch, 0.6)
    await probe("localhost", port, None, client_cert=False)
    with pytest.raises(SourceError, match=r"localhost:\d+: name resolution timed out after 0\.2 s \(source\."):
        await probe("localhost", port, None, client_cert=False, lookup=0.2)
    server.close()
    await server.wait_closed()
