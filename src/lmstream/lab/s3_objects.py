"""Objects of the lab's S3: in memory, or as files of a folder that the next start finds again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import md5
from pathlib import Path
from typing import Final

import msgspec

from lmstream.lab.stores import FolderStore

TYPE: Final = "binary/octet-stream"
"""Of an object that nobody gave another."""
_BESIDE: Final = ".beside"
"""Folder of what files cannot hold: it begins with a dot, as no bucket may."""


class _Beside(msgspec.Struct):
    """What is kept beside a file, where its name and bytes do not say all."""

    key: str
    type: str = TYPE
    meta: Mapping[str, str] = {}


@dataclass(frozen=True)
class S3Object:
    """One object."""

    body: bytes | Path
    """Its bytes, or the file that has them."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """As in its headers: without x-amz-meta-."""
    type: str = TYPE

    @property
    def data(self) -> bytes:
        """Raises FileNotFoundError when somebody has removed the file."""
        return self.body if isinstance(self.body, bytes) else self.body.read_bytes()

    @property
    def there(self) -> bool:
        """Whether nobody has removed the file."""
        return isinstance(self.body, bytes) or self.body.is_file()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size

    @cached_property
    def etag(self) -> str:
        """With its quotes."""
        return f'"{md5(self.data, usedforsecurity=False).hexdigest()}"'


class Files:
    """Objects as files below a folder, by bucket, each whole or not there: for people to look at, and for the next
    start. A file that somebody removes is an object that is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, bucket: str, key: str, made: S3Object) -> S3Object:
        """Write an object; answer it with its file in the place of its bytes. Raises OSError."""
        store, beside = self._stores(bucket)
        path = store.path(key)
        etag = made.etag
        if made.meta or made.type != TYPE or str(path.relative_to(store.root)) != key:
            beside.write(key, msgspec.json.encode(_Beside(key, made.type, made.meta)))
        else:
            beside.path(key).unlink(missing_ok=True)
        store.write(key, made.data)
        kept = S3Object(path, made.meta, made.type)
        kept.__dict__["etag"] = etag  # known already: the file need not be read for it
        return kept

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object."""
        for store in self._stores(bucket):
            store.path(key).unlink(missing_ok=True)

    def found(self, bucket: str) -> dict[str, S3Object]:
        """What lies there, by key."""
        store, beside = self._stores(bucket)
        objects = {}
        for path in store.root.rglob("*"):
            if path.name.startswith(".") or not path.is_file():
                continue  # half written, when the process was killed
            name = str(path.relative_to(store.root))
            said = beside.root / name
            known = msgspec.json.decode(said.read_bytes(), type=_Beside) if said.is_file() else _Beside(name)
            objects[known.key] = S3Object(path, known.meta, known.type)
        return objects

    def _stores(self, bucket: str) -> tuple[FolderStore, FolderStore]:
        return FolderStore(self._folder / bucket), FolderStore(self._folder / _BESIDE / bucket)
