"""The local sink: durable or not there, inside its root, and a full disk is no loss."""

import asyncio
import errno
import gzip
import os
import resource
import signal
import subprocess
import sys

import pytest

from lmstream.errors import ConfigError
from lmstream.model import Kind, Pack
from lmstream.sinks.local import Local, Settings
from lmstream.storage import compression

PATH = "acme/CpuUsage/2024/05/09/14/"


def files(root):
    return sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file())


def local(root, **more):
    return Local(Settings(root=str(root), **more), run="r")


async def test_objects_lie_at_their_path_with_sortable_names_and_the_same_bytes(tmp_path):
    for root in ("one", "two"):
        sink = local(tmp_path / root)
        await sink.check()
        assert (
            list(await sink.write([Pack(b"a\n", 1, PATH), Pack(b"b\n", 1, "x=1/"), Pack(b"c\n", 1, PATH)]))
            == [None] * 3
        )
        await sink.close()
    names = [f"{PATH}part-r-000000.ndjson.gz", f"{PATH}part-r-000002.ndjson.gz", "x=1/part-r-000001.ndjson.gz"]
    assert files(tmp_path / "one") == names
    assert gzip.decompress((tmp_path / "one" / names[1]).read_bytes()) == b"c\n"
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert Local(Settings(root="x"))._run != Local(Settings(root="x"))._run


@pytest.mark.parametrize("level", range(10))
async def test_content_is_the_same_with_isal_and_without(tmp_path, monkeypatch, level):
    rows = b"".join(b'{"rowId":"%032d:0","value":%d}\n' % (n, n * n) for n in range(5000))
    for root in ("with", "without"):
        sink = local(tmp_path / root, level=level)
        assert list(await sink.write([Pack(rows, 5000, PATH), Pack(b"", 0, PATH)])) == [None] * 2
        monkeypatch.setattr(compression, "_isal", None)
    for name in files(tmp_path / "with"):
        one, other = ((tmp_path / root / name).read_bytes() for root in ("with", "without"))
        assert gzip.decompress(one) == gzip.decompress(other)
        assert one[4:8] == other[4:8] == bytes(4)  # no time: the same rows give the same bytes
    assert (level not in (1, 2)) == (
        (tmp_path / "with" / files(tmp_path / "with")[0]).read_bytes()
        == (tmp_path / "without" / files(tmp_path / "without")[0]).read_bytes()
    )


def test_isal_is_really_used_where_it_is_installed():
    assert compression._isal is not None  # the lock of the tests has it


@pytest.mark.parametrize("path", ["../", "/etc/", "a/../../b/", "a/./b/", ".hidden/", "a/\0/", "a\\b/", "a/.."])
async def test_a_path_that_could_leave_the_root_is_refused(tmp_path, path):
    root = tmp_path / "root"
    [verdict] = await local(root).write([Pack(b"a\n", 1, path)])
    assert (verdict.kind, verdict.code) == (Kind.FATAL_CONFIG, "sink.disk")  # a template did that, no row
    assert files(tmp_path) == []


async def test_a_planted_link_is_not_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "acme").symlink_to(outside)
    (root / "file").write_bytes(b"")
    verdicts = await local(root).write([Pack(b"a\n", 1, PATH), Pack(b"a\n", 1, "file/x/"), Pack(b"a\n", 1, "ok/")])
    assert [v and v.kind for v in verdicts] == [Kind.FATAL_CONFIG, Kind.FATAL_CONFIG, None]
    assert files(outside) == []


@pytest.fixture
def small_disk(tmp_path):
    """1 MiB that is really full when it is full; skipped where mounting is not allowed."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs; test_a_file_size_limit covers the same path")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


async def test_a_full_disk_is_retryable_and_leaves_nothing_behind(small_disk):
    sink = local(small_disk, level=0)
    whole, big = Pack(b"a" * 300_000, 1, PATH), Pack(b"b" * 2_000_000, 1, PATH)
    assert [v and (v.kind, v.code) for v in await sink.write([whole, big, whole])] == [
        None,
        (Kind.RETRYABLE, "ENOSPC"),
        None,
    ]
    assert files(small_disk) == [f"{PATH}part-r-000000.ndjson.gz", f"{PATH}part-r-000002.ndjson.gz"]
    filler = small_disk / "filler"
    filler.write_bytes(b"")
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"f" * 2_000_000)
    [verdict] = await sink.write([whole])
    assert verdict.code == "ENOSPC"
    filler.unlink()
    assert await sink.write([whole]) == [None]
    await sink.close()


def test_a_file_size_limit_is_retryable_and_leaves_nothing_behind(tmp_path):
    # In a process of its own: the limit would hold for everything pytest writes too.
    program = """
import asyncio, resource, signal, sys
from lmstream.model import Pack
from lmstream.storage import compression
from lmstream.sinks.local import Local, Settings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main():
    sink = Local(Settings(root=sys.argv[1], level=0))
    [verdict] = await sink.write([Pack(b"a" * 200_000, 1, "p/")])
    print(verdict.kind, verdict.code)
    await sink.close()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["retryable", "EFBIG"]
    assert files(tmp_path) == []


async def test_a_read_only_folder_is_said_before_the_start_and_retryable_later(tmp_path, monkeypatch):
    def refused(*_args, **_more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    sink = local(tmp_path)
    monkeypatch.setattr(os, "open", refused)
    [verdict] = await sink.write([Pack(b"a\n", 1, PATH)])
    assert (verdict.kind, verdict.code) == (Kind.RETRYABLE, "EROFS")
    with pytest.raises(ConfigError, match="Read-only"):
        await sink.check()


async def test_a_root_that_is_a_file_is_said_before_the_start(tmp_path):
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        await local(tmp_path / "root").check()
    assert caught.value.reason == "sink.disk"


async def test_a_cancelled_write_is_whole_or_not_there(tmp_path):
    sink = local(tmp_path)
    task = asyncio.create_task(sink.write([Pack(os.urandom(3_000_000), 1, PATH)]))
    await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for name in files(tmp_path):
        assert name.endswith(".ndjson.gz") == (not name.rsplit("/", 1)[-1].startswith("."))
    await sink.close()  # waits for the thread
    assert files(tmp_path) == [f"{PATH}part-r-000000.ndjson.gz"]


@pytest.mark.parametrize("point", ["write", "fsync", "replace"])
def test_a_process_killed_at_any_step_leaves_no_partial_object(tmp_path, point):
    program = """
import asyncio, os, signal, sys
from lmstream.model import Pack
from lmstream.storage import compression
from lmstream.sinks.local import Local, Settings
def die(*_a, **_k): os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(Local(Settings(root=sys.argv[1])).check())
setattr(os, sys.argv[2], die)
asyncio.run(Local(Settings(root=sys.argv[1])).write([Pack(b"a" * 1000, 1, "")]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), point], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [name for name in files(tmp_path) if not name.startswith(".")] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
