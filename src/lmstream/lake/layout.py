"""All that decides which rows a record becomes and which object each goes into: what a claim names by its hash."""

import importlib.util
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from msgspec import Struct

from lmstream import __version__
from lmstream.codecs import FORMATS
from lmstream.settings import Settings

ROWS: Final = 1
"""Version of the rows and objects that the same records and settings become; raised when any of them changes."""

Format = Literal["gzip", "zstd", "parquet"]
EXTENSIONS: Final[dict[Format, str]] = {"gzip": "ndjson.gz", "zstd": "ndjson.zst", "parquet": "parquet"}
"""Of the names of objects."""


class Module(Struct, frozen=True, kw_only=True):
    """Code that is not lmstream's and makes rows."""

    name: str
    """As it is imported."""
    source: str
    """blake2b of its source, 32 hex digits; empty when it has none."""


class Layout(Struct, frozen=True, kw_only=True):
    """Settings of the engine and of the objects, and by which code."""

    settings: Settings
    """Complete: lists are here with their contents, so that nothing a row depends on lies elsewhere."""
    format: Format = "gzip"
    rows: int = ROWS
    distribution: str = "lmstream"
    version: str = __version__
    modules: tuple[Module, ...] = ()

    @classmethod
    def of(cls, settings: Settings, form: Format) -> "Layout":
        """The layout of this process."""
        modules = [] if settings.format in ("auto", *FORMATS) else [_module(settings.format)]
        return cls(settings=settings, format=form, modules=tuple(modules))

    @property
    def extension(self) -> str:
        """Of the names of objects."""
        return EXTENSIONS[self.format]

    @property
    def encoded(self) -> bytes:
        """As JSON; the same text for the same layout."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def hash(self) -> str:
        """32 hex digits."""
        return blake2b(self.encoded, digest_size=16).hexdigest()


def _module(name: str) -> Module:
    spec = importlib.util.find_spec(name)
    loader = None if spec is None else spec.loader
    source = loader.get_source(name) if loader is not None and hasattr(loader, "get_source") else None
    return Module(name=name, source=blake2b((source or "").encode(), digest_size=16).hexdigest() if source else "")
