"""Objects in a folder: a death at every call of the system, errors at every call, links that were planted, odd disks."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lmstream.errors import ConfigError
from lmstream.interfaces import StoreError
from lmstream.model import Failure, Kind
from lmstream.storage import _linking, objects_folder
from lmstream.storage.objects_folder import FolderObjects

KEY, DATA = "rows/cpu/2026/t-0-7-0.json.gz", b"whole " * 20_000
CALLS = ("open", "mkdir", "write", "fsync", "link", "unlink", "close", "fstat", "stat", "dup", "scandir")

# Dies at the n-th call, before or after it: in a process of its own, which forks for each n.
DEATHS = """
import json, os, sys
from lmstream.storage import _linking, durable_files, objects_folder
from lmstream.storage.objects_folder import FolderObjects

root, key, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = b"whole " * size
CALLS = sys.argv[4].split(",")


class Mortal:
    def __init__(self, at, after):
        self.left, self.after, self.names = at, after, []

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args, **kwargs):
            self.names.append(name)
            self.left -= 1
            if self.left == 0 and not self.after:
                os._exit(9)
            if self.left == 0 and name == "write":
                os.write(args[0], bytes(args[1])[:7])  # part of it went out
                os._exit(9)
            answer = real(*args, **kwargs)
            if self.left == 0:
                os._exit(9)
            return answer

        return call


def act(store):
    return store._create(key, data)


total, seen = 0, []
at = 1
while True:
    found = []
    for after in (False, True):
        folder = f"{root}/{at}-{after}"
        child = os.fork()
        if child == 0:
            mortal = Mortal(at, after)
            _linking.os = objects_folder.os = durable_files.os = mortal
            act(FolderObjects(folder))
            print(json.dumps(mortal.names), file=sys.stderr, flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found.append(os.waitstatus_to_exitcode(status))
        target = f"{folder}/{key}"
        there = os.path.exists(target)
        whole = there and open(target, "rb").read() == data
        again = act(FolderObjects(folder))
        kept = open(target, "rb").read() == data
        third = act(FolderObjects(folder))
        seen.append([at, after, found[-1], there, whole, again, kept, third])
    at += 1
    if found == [0, 0]:
        break
print(json.dumps(seen))
"""


def test_after_a_death_at_any_call_the_object_is_whole_or_not_there():
    memory = Path("/dev/shm")  # syncing hundreds of times takes its time elsewhere
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as root:
        arguments = [sys.executable, "-c", DEATHS, root, KEY, "20000", ",".join(CALLS)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert {"open", "mkdir", "write", "fsync", "link", "unlink", "close"} <= set(
        json.loads(done.stderr.splitlines()[-1])
    )
    died = [each for each in seen if each[2] == 9]
    assert len(died) > 30  # each call twice
    for at, after, code, there, whole, again, kept, third in seen:
        assert code in (0, 9), (at, after)
        assert there == whole, (at, after)  # never half of it under its name
        assert again == (not there), (at, after)
        assert kept, (at, after)
        assert third is False, (at, after)
    assert {each[3] for each in died} == {True, False}  # some deaths were behind the link


class Failing:
    """The n-th call of the system fails, before or after it took effect."""

    def __init__(self, at, number, *, after):
        self.left, self.number, self.after = at, number, after
        self.failed = ""

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args, **kwargs):
            self.left -= 1
            if self.left != 0:
                return real(*args, **kwargs)
            self.failed = name
            if self.after:
                answer = real(*args, **kwargs)
                if name in {"open", "dup"}:
                    os.close(answer)
            raise OSError(self.number, os.strerror(self.number))

        return call


def tried(store):
    try:
        return store._create(KEY, DATA), None
    except StoreError as error:
        return None, error.failure
    except OSError as error:  # of a close: the caller takes it for an unknown outcome
        return None, Failure(Kind.RETRYABLE, errno.errorcode[error.errno])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("after", [False, True])
def test_an_error_at_any_call_is_an_answer_or_a_failure_and_never_half_an_object(tmp_path, monkeypatch, number, after):
    failed = set()
    for at in range(1, 200):
        store = FolderObjects(tmp_path / str(at))
        failing = Failing(at, number, after=after)
        with monkeypatch.context() as patch:
            for module in (_linking, objects_folder):
                patch.setattr(module, "os", failing)
            made, why = tried(store)
        if why is not None:
            assert why.kind is Kind.RETRYABLE
            # What a close that failed has closed all the same is not open any more.
            assert why.code in {errno.errorcode[number], "EBADF" if failing.failed == "close" else ""}
        if not failing.failed:
            break
        failed.add(failing.failed)
        target = tmp_path / str(at) / KEY
        there = target.exists()
        assert not there or target.read_bytes() == DATA
        if made:
            assert there
        assert made is not False  # nobody else made it
        assert store._create(KEY, DATA) is not there
        assert target.read_bytes() == DATA
    else:
        pytest.fail("it never ended")
    assert {"open", "mkdir", "write", "fsync", "link"} <= failed


def test_a_link_whose_answer_was_lost_is_ours(tmp_path, monkeypatch):
    for number in (errno.EIO, errno.EEXIST, errno.ESTALE):

        class Network:
            def __getattr__(self, name):
                return getattr(os, name)

            def link(self, *args, number=number, **kwargs):
                os.link(*args, **kwargs)
                raise OSError(number, os.strerror(number))

        for module in (_linking, objects_folder):
            monkeypatch.setattr(module, "os", Network())
        assert FolderObjects(tmp_path / str(number))._create(KEY, DATA) is True
        monkeypatch.undo()
        assert FolderObjects(tmp_path / str(number))._create(KEY, DATA) is False


def test_what_another_one_made_and_did_not_sync_is_synced_before_it_is_said_to_be_there(tmp_path, monkeypatch):
    FolderObjects(tmp_path)._create(KEY, DATA)
    synced = []

    class Watching:
        def __getattr__(self, name):
            return getattr(os, name)

        def fsync(self, at):
            synced.append(os.fstat(at).st_ino)
            os.fsync(at)

    for module in (_linking, objects_folder):
        monkeypatch.setattr(module, "os", Watching())
    assert FolderObjects(tmp_path)._create(KEY, DATA) is False
    above = [(tmp_path / KEY).parents[n].stat().st_ino for n in range(4)]
    assert set(above) <= set(synced)  # rows/cpu/2026, rows/cpu, rows and the root: also by who made none of them


async def test_a_file_system_without_hard_links_is_refused_at_a_start_and_later(tmp_path, monkeypatch):
    class Fat:
        def __getattr__(self, name):
            return getattr(os, name)

        def link(self, *_args, **_kwargs):
            raise OSError(errno.EPERM, "Operation not permitted")

    store = FolderObjects(tmp_path / "root")
    await store.check()
    assert [each.name for each in (tmp_path / "root").iterdir()] == [".drafts"]
    assert not list((tmp_path / "root" / ".drafts").iterdir())
    for module in (_linking, objects_folder):
        monkeypatch.setattr(module, "os", Fat())
    with pytest.raises(ConfigError, match="no hard links"):
        await store.check()
    with pytest.raises(StoreError, match="hard links") as caught:
        await store.create(KEY, DATA, {})
    assert caught.value.failure.kind is Kind.FATAL_CONFIG
    assert not [each for each in (tmp_path / "root").rglob("*") if each.is_file()]


@pytest.mark.parametrize(
    "what", ["link in the path", "link for the object", "file in the path", "folder for the object", "pipe"]
)
async def test_what_was_planted_is_refused(tmp_path, what):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_bytes(b"secret")
    (root / "a").mkdir(parents=True)
    match what:
        case "link in the path":
            (root / "a" / "b").symlink_to(elsewhere)
        case "link for the object":
            (root / "a" / "b").mkdir()
            (root / "a" / "b" / "secret").symlink_to(elsewhere / "secret")
        case "file in the path":
            (root / "a" / "b").write_bytes(b"")
        case "folder for the object":
            (root / "a" / "b" / "secret").mkdir(parents=True)
        case "pipe":
            (root / "a" / "b").mkdir()
            os.mkfifo(root / "a" / "b" / "secret")
    store = FolderObjects(root)
    with pytest.raises(StoreError) as caught:
        await store.create("a/b/secret", b"x", {})
    assert (caught.value.failure.kind, caught.value.failure.code) == (Kind.FATAL_CONFIG, "sink.disk")
    if what != "file in the path":
        for call in (store.get("a/b/secret", 99), store.stat("a/b/secret")):
            with pytest.raises(StoreError):
                await call
    assert [each.name for each in elsewhere.iterdir()] == ["secret"]
    assert (elsewhere / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a//b", ".drafts/x", "a/.x", "a\0b", ""])
async def test_keys_that_lead_out_are_refused(tmp_path, key):
    store = FolderObjects(tmp_path)
    for call in (store.create(key, b"", {}), store.get(key, 1), store.stat(key)):
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.failure.kind is Kind.FATAL_CONFIG
    assert not list(tmp_path.iterdir())


async def test_a_listing_does_not_leave_the_folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"")
    (root / "link").symlink_to(tmp_path)
    store = FolderObjects(root)
    assert await store.names("", 9) == []
    assert await store.names("../", 9) == []
    assert await store.names(".drafts/", 9) == []


async def test_where_case_is_folded_two_paths_are_not_taken_for_one(tmp_path, monkeypatch):
    """As on the disk of a Mac: `CPU` and `cpu` are one name, which has the case it was made with."""

    class Folding:
        def __getattr__(self, name):
            return getattr(os, name)

        @staticmethod
        def _real(name, at):
            with os.scandir(at) as entries:
                names = [each.name for each in entries] if at is not None else []
            return next((each for each in names if each.lower() == str(name).lower()), name)

        def open(self, name, flags, mode=0o777, *, dir_fd=None):
            return os.open(self._real(name, dir_fd), flags, mode, dir_fd=dir_fd)

        def mkdir(self, name, mode=0o777, *, dir_fd=None):
            os.mkdir(self._real(name, dir_fd), mode, dir_fd=dir_fd)

        def stat(self, name, *, dir_fd=None, follow_symlinks=True):
            return os.stat(self._real(name, dir_fd), dir_fd=dir_fd, follow_symlinks=follow_symlinks)

        def link(self, source, name, *, src_dir_fd, dst_dir_fd, follow_symlinks):
            name = self._real(name, dst_dir_fd)
            os.link(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    for module in (_linking, objects_folder):
        monkeypatch.setattr(module, "os", Folding())
    store = FolderObjects(tmp_path)
    assert await store.create("CPU/t-0-1-0.gz", b"rows", {}) is True
    assert await store.create("CPU/t-0-1-0.gz", b"rows", {}) is False
    assert await store.create("CPU/t-0-2-0.gz", b"rows", {}) is True
    for key in ("cpu/t-0-1-0.gz", "CPU/T-0-1-0.gz"):
        for call in (store.create(key, b"other rows", {}), store.get(key, 99), store.stat(key)):
            with pytest.raises(StoreError, match="upper case from lower"):
                await call
    assert await store.get("CPU/t-0-1-0.gz", 99) == b"rows"


def test_many_threads_and_stores_make_each_object_once(tmp_path):
    stores, won = [FolderObjects(tmp_path) for _ in range(4)], []

    def work(number):
        data, store = b"%d" % number * 5000, stores[number % 4]
        won.extend((n, number) for n in range(30) if store._create(f"a/{n}/k", data))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(n for n, _ in won) == list(range(30))
    for n, number in won:
        assert (tmp_path / "a" / str(n) / "k").read_bytes() == b"%d" % number * 5000
    assert not list((tmp_path / ".drafts").iterdir())


async def test_closing_waits_for_what_is_being_written(tmp_path):
    store = FolderObjects(tmp_path)
    task = asyncio.create_task(store.create(KEY, DATA, {}))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
    assert await store.get(KEY, len(DATA)) == DATA
