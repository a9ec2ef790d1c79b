"""Objects of a folder or of a prefix of a bucket by their keys: for readers that know which ones they want."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Final, Protocol, TypeVar

from lmstream import bounded
from lmstream.errors import SourceError
from lmstream.storage.bucket import NO_KEY, code_of
from lmstream.storage.objects import Asked, Folder, Place, Prefix

T = TypeVar("T")
R = TypeVar("R")
AHEAD: Final = 16
"""Things fetched at once: a request takes longer on its way than in the store."""


class Keyed(Protocol):
    """Objects by key. Keys are relative to it."""

    name: str
    asked: Asked

    def keys(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        """Keys that begin with this, in the order of their bytes, and when each was last written, in seconds since
        1970. Raises SourceError."""
        ...

    def read(self, key: str, most: int) -> bytes | None:
        """All of an object; None when there is none. Raises SourceError, BoundError for more than `most` bytes."""
        ...

    def open(self, key: str) -> BufferedReader | None:
        """An object of any size, its first piece fetched; None when there is none. Raises SourceError."""
        ...

    def meta(self, key: str) -> dict[str, str] | None:
        """What is kept beside an object, {} where there is no such thing; None when there is no object. Raises
        SourceError."""
        ...


def keyed(place: Place) -> Keyed:
    """The objects of a place by their keys."""
    if isinstance(place, Prefix):
        return _Bucket(place)
    assert isinstance(place, Folder)  # noqa: S101 - for the type checker: there are two kinds of places
    return _Folder(place.path)


def ahead(things: Iterable[T], fetch: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Pass things through in order, with what is fetched for each, AHEAD at once. Raises what `fetch` raises."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(AHEAD, "by_key")

    def taken() -> tuple[T, R]:
        thing, coming = waiting.popleft()
        return thing, coming.result()

    try:
        for thing in things:
            waiting.append((thing, pool.submit(fetch, thing)))
            if len(waiting) >= AHEAD:
                yield taken()
        while waiting:
            yield taken()
    finally:
        pool.shutdown(cancel_futures=True)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.name, self.asked = f"{root}/", Asked()

    def keys(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        self.asked.add(lists=1)
        try:
            files = (path for path in self._root.rglob("*") if path.is_file())
            found = sorted((path.relative_to(self._root).as_posix(), path.stat().st_mtime) for path in files)
        except OSError as e:
            raise SourceError("source.file", f"{self._root}: {e}") from e
        return (each for each in found if each[0].startswith(prefix))

    def read(self, key: str, most: int) -> bytes | None:
        opened = self.open(key)
        if opened is None:
            return None
        with opened:
            return bounded.read(opened, most, f"{self.name}{key}")

    def open(self, key: str) -> BufferedReader | None:
        if not _is_proper(key):
            return None
        try:
            opened = (self._root / key).open("rb")
            self.asked.add(gets=1, read=(self._root / key).stat().st_size)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as e:
            raise SourceError("source.file", f"{self.name}{key}: {e.strerror}") from e
        return opened

    def meta(self, key: str) -> dict[str, str] | None:
        self.asked.add(gets=1)
        return {} if _is_proper(key) and (self._root / key).is_file() else None


class _Bucket:
    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self.name, self.asked = prefix.name, prefix.asked

    def keys(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        before = len(self._prefix.prefix)
        for page in self._prefix.pages(prefix):
            for each in page:
                yield each["Key"][before:], each["LastModified"].timestamp()

    def read(self, key: str, most: int) -> bytes | None:
        opened = self.open(key)
        return None if opened is None else bounded.read(opened, most, f"{self.name}{key}", seconds=None)

    def open(self, key: str) -> BufferedReader | None:
        if not _is_proper(key):
            return None
        opened = self._prefix.opened(f"{self._prefix.prefix}{key}")

        def first() -> BufferedReader:
            opened.peek(1)
            return opened

        return _or_none(first)

    def meta(self, key: str) -> dict[str, str] | None:
        if not _is_proper(key):
            return None
        return _or_none(lambda: self._prefix.meta(f"{self._prefix.prefix}{key}"))


def _or_none(ask: Callable[[], R]) -> R | None:
    """What is answered; None when it is that there is no such object. The answer to HEAD has no code but its status."""
    try:
        return ask()
    except SourceError as e:
        if e.__cause__ is not None and code_of(e.__cause__) in NO_KEY:
            return None
        raise


def _is_proper(key: str) -> bool:
    """Whether a key names something below its place: claims may say anything."""
    return bool(key) and "\0" not in key and not any(part in {"", ".", ".."} for part in key.split("/"))
