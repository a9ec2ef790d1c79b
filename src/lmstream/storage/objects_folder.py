"""Objects in a folder that are made once: a hidden file, fsync, a hard link to its name, fsync of the folder.

The link is the moment at which an object is made: it fails when there is one of that name, whoever made it, and it
gives the name to a file that is whole. A rename would replace, and opening with O_EXCL would show half a file.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from lmstream.bounded import BoundError
from lmstream.errors import ConfigError
from lmstream.interfaces import StoreError, Tagged
from lmstream.model import Failure, Kind
from lmstream.storage import durable_files
from lmstream.storage._folder_names import FOLDER, entries, is_used, walked
from lmstream.storage._linking import CREATE, found_at, linked
from lmstream.storage.object_keys import refuse_improper, refuse_meta

T = TypeVar("T")
# Not blocking: of a named pipe that somebody planted, opening would wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES: Final = 3  # of an object whose draft was taken for a leftover
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What link(2) answers where a file system has no hard links: https://man7.org/linux/man-pages/man2/link.2.html."""
_LINKS: Final = "use a folder on a file system with hard links (ext4, XFS, Btrfs, ZFS, APFS, NFS), not FAT or exFAT"
_CASE: Final = "use a file system that tells upper case from lower, or an engine.path without the metric"
_CHECK: Final = ".lmstream-check-"  # durable_files.sweep knows it
_KNOWN: Final = 100_000
"""Folders of which we remember that they are durable in the folder above; then all are forgotten."""


class FolderObjects:
    """An interfaces.ObjectStore of one folder. Durable means: the file, its folder and all folders above are synced.

    What is there is synced before it is said to be there, also when another process made it and died before its fsync:
    whoever hears so commits offsets. Links below the root are not followed: one that was planted there would carry rows
    out of it.
    """

    def __init__(self, root: Path | str) -> None:
        """The folder is made when it is needed."""
        self._root = Path(root)
        self.name = str(root)
        self._writes = durable_files.Writes[bool]()
        self._durable: set[tuple[int, int]] = set()
        self._folds: bool | None = None
        self._rooted = False

    async def check(self) -> None:
        """Make the folder and try it, before a start. Raises ConfigError `sink.disk` when it cannot be written or has
        no hard links, SinkError `sink.full` for want of room."""
        await asyncio.to_thread(durable_files.check, self._root, self.name)
        await asyncio.to_thread(self._try_links)

    async def create(self, key: str, data: bytes, meta: Mapping[str, str], /) -> bool:
        refuse_improper(key)
        refuse_meta(meta)
        return await self._writes.run(self._create, key, data)

    async def get(self, key: str, most: int, /) -> bytes | None:
        refuse_improper(key)
        return await asyncio.to_thread(self._opened, key, lambda file: _read(file, most, f"{self.name}/{key}"))

    async def stat(self, key: str, /) -> Mapping[str, str] | None:
        """{} for every object: files have no metadata that all file systems keep."""
        refuse_improper(key)
        return await asyncio.to_thread(self._opened, key, lambda _: {})

    async def tagged(self, key: str, /) -> Tagged | None:
        refuse_improper(key)
        return await asyncio.to_thread(self._opened, key, lambda file: Tagged(_tag(os.fstat(file)), {}))

    async def replace(self, key: str, data: bytes, meta: Mapping[str, str], tag: str, /) -> bool:
        """As of ReplacingStore. No file system compares and replaces in one step: what another process puts there in
        between is replaced too. Compaction replaces by an object without rows, once the rows lie in a larger one, and
        repair what is damaged by what its claim says: two that do either put the same there. The name is never free."""
        refuse_improper(key)
        refuse_meta(meta)
        return await self._writes.run(self._replace, key, data, tag)

    async def names(self, prefix: str, most: int, /) -> Sequence[str]:
        return await asyncio.to_thread(self._names, prefix, most)

    async def folders(self, prefix: str, most: int, /) -> Sequence[str]:
        return await asyncio.to_thread(self._folders, prefix, most)

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._writes.close()

    # --- one object ------------------------------------------------------------------------------------------------

    def _create(self, key: str, data: bytes) -> bool:
        *folders, name = key.split("/")
        for tries in range(_TRIES):
            try:
                with (
                    durable_files.folder(self._root, ()) as root,
                    self._below(root, (durable_files.DRAFTS,)) as drafts,
                    self._below(root, folders) as at,
                ):
                    self._sync_above()
                    made = self._place(at, name, data, drafts)
                    if not made:
                        self._refuse_folded(root, [*folders, name])
                    os.fsync(at)  # also of what another one made: its maker may have died before that
                    return made
            except FileNotFoundError as error:  # another process swept our draft away
                if tries == _TRIES - 1:
                    raise StoreError(durable_files.failure(error)) from error
            except OSError as error:
                raise StoreError(_failure(error)) from error
        raise AssertionError  # pragma: no cover - the last try has answered

    def _sync_above(self) -> None:
        """Sync the folders above the root, once: the root itself may have been made a moment ago."""
        if not self._rooted:
            for each in self._root.absolute().parents:
                with contextlib.suppress(PermissionError):  # then it was not we who made the one below
                    at = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        os.fsync(at)
                    finally:
                        os.close(at)
            self._rooted = True

    def _place(self, at: int, name: str, data: bytes, drafts: int) -> bool:
        """Whether the object is ours. Raises OSError, and then it was not made, or not by us."""
        try:
            return linked(at, name, data, drafts)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return linked(at, name, data, at)  # a disk of its own below the root

    def _opened(self, key: str, ask: Callable[[int], T]) -> T | None:
        """What is asked of an object; None when it is not there."""
        *folders, name = key.split("/")
        try:
            with durable_files.folder(self._root, ()) as root, self._below(root, folders, make=False) as at:
                file = os.open(name, _READ, dir_fd=at)
                try:
                    if not stat.S_ISREG(os.fstat(file).st_mode):
                        raise OSError(errno.ELOOP, "is no regular file", name)
                    self._refuse_folded(root, [*folders, name])
                    os.fsync(at)
                    return ask(file)
                finally:
                    os.close(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(_failure(error)) from error

    def _replace(self, key: str, data: bytes, tag: str) -> bool:
        *folders, name = key.split("/")
        try:
            with (
                durable_files.folder(self._root, ()) as root,
                self._below(root, (durable_files.DRAFTS,)) as drafts,
                self._below(root, folders, make=False) as at,
            ):
                found = found_at(at, name)
                if found is None or _tag(found) != tag:
                    return False
                durable_files.replace(at, name, data, drafts)
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(_failure(error)) from error

    @contextlib.contextmanager
    def _below(self, root: int, folders: Sequence[str], *, make: bool = True) -> Iterator[int]:
        """Open a folder below the root; those that are missing are made, and all are durable. Raises OSError."""
        at = os.dup(root)
        try:
            for each in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(each, 0o755, dir_fd=at)
                try:
                    below = os.open(each, FOLDER, dir_fd=at)
                except NotADirectoryError:
                    if not make and (file := found_at(at, each)) and stat.S_ISREG(file.st_mode):
                        raise FileNotFoundError(errno.ENOENT, "there is an object of that name", each) from None
                    raise
                try:
                    found = os.fstat(below)
                    if make and (one := (found.st_dev, found.st_ino)) not in self._durable:
                        os.fsync(at)  # not only of those that we made: their maker may have died before its fsync
                        if len(self._durable) >= _KNOWN:
                            self._durable.clear()
                        self._durable.add(one)
                except BaseException:
                    os.close(below)
                    raise
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)

    def _refuse_folded(self, root: int, parts: Sequence[str]) -> None:
        """Raise StoreError where the file system takes another name for this one: `CPU` for `cpu`. Rows of two paths
        would have one object, and one of them would be lost."""
        if self._folds is None:
            self._folds = _folds(root)
        if not self._folds:
            return
        at = os.dup(root)
        try:
            for each in parts:
                with os.scandir(at) as entries:
                    if not any(entry.name == each for entry in entries):
                        said = f"{'/'.join(parts)}: the file system has another name for {each!r}. Fix: {_CASE}"
                        raise StoreError(Failure(Kind.FATAL_CONFIG, "sink.disk", said))
                if each is not parts[-1]:
                    below = os.open(each, FOLDER, dir_fd=at)
                    os.close(at)
                    at = below
        finally:
            os.close(at)

    def _try_links(self, tries: int = _TRIES) -> None:
        try:
            with durable_files.folder(self._root, ()) as root, self._below(root, (durable_files.DRAFTS,)) as drafts:
                name = f".{secrets.token_hex(6)}.tmp"
                file = os.open(name, CREATE, 0o644, dir_fd=drafts)
                try:
                    with contextlib.suppress(OSError):  # a start of another process would sweep it away
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.link(name, f"{name}.tmp", src_dir_fd=drafts, dst_dir_fd=drafts, follow_symlinks=False)
                finally:
                    os.close(file)
                    for each in (f"{name}.tmp", name):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(each, dir_fd=drafts)
                self._folds = _folds(root)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and tries > 1:  # it was swept away before it was locked
                self._try_links(tries - 1)
                return
            what = f"{self.name}: {error.strerror or error}"
            if error.errno in _NO_LINKS:
                raise ConfigError("sink.disk", f"{what}: it has no hard links", _LINKS) from error
            raise ConfigError("sink.disk", what) from error

    # --- names -----------------------------------------------------------------------------------------------------

    def _names(self, prefix: str, most: int) -> list[str]:
        *folders, begins = prefix.split("/")
        if any(not each or each.startswith(".") for each in folders):
            return []
        above = "".join(f"{each}/" for each in folders)
        try:
            with durable_files.folder(self._root, ()) as root, self._below(root, folders, make=False) as at:
                return list(islice(walked(at, above, begins), most))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(_failure(error)) from error

    def _folders(self, prefix: str, most: int) -> list[str]:
        if any(not each or each.startswith(".") for each in prefix.split("/")[:-1]):
            return []
        try:
            with (
                durable_files.folder(self._root, ()) as root,
                self._below(root, prefix.split("/")[:-1], make=False) as at,
            ):
                signs = sorted(sign for sign, _ in entries(at) if sign.endswith(b"/"))
                names = (os.fsdecode(sign[:-1]) for sign in signs)
                return list(islice((each for each in names if is_used(at, each)), most))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(_failure(error)) from error


def _tag(found: os.stat_result) -> str:
    """What tells one version of a file from another."""
    return f"{found.st_dev}-{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"


def _read(file: int, most: int, what: str) -> bytes:
    data = b""
    while len(data) <= most and (piece := os.read(file, most + 1 - len(data))):
        data += piece
    if len(data) > most:
        raise BoundError(what, f"more than {most:,} bytes")
    return data


def _folds(at: int) -> bool:
    """Whether the file system takes one name for another, as that of macOS does with upper and lower case."""
    name = f"{_CHECK}{secrets.token_hex(6)}"
    try:
        os.close(os.open(name, CREATE, 0o644, dir_fd=at))
    except OSError:  # nothing can be made there, so nothing was taken for something else
        return False
    try:
        return found_at(at, name.upper()) is not None
    finally:
        os.unlink(name, dir_fd=at)


def _failure(error: OSError) -> Failure:
    if error.errno in _NO_LINKS:
        return Failure(Kind.FATAL_CONFIG, "sink.disk", f"{error}. Fix: {_LINKS}")
    return durable_files.failure(error)
