"""All that decides which rows a record becomes and which object each goes into: what a claim names by its hash."""

import importlib.util
from hashlib import blake2b
from importlib.metadata import packages_distributions, version
from typing import Final, Literal

import msgspec
from msgspec import Struct, structs

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
    distribution: str = ""
    """What installed it; empty when it lies in a folder, and in claims of versions that did not say."""
    version: str = ""
    """Of the distribution."""

    @property
    def code(self) -> tuple[str, ...]:
        """What tells it from other code: its source, or without one what installed it."""
        return (self.name, self.source) if self.source else (self.name, self.distribution, self.version)

    def __str__(self) -> str:
        """For who has to find it again."""
        of = f"{self.distribution} {self.version}, " if self.distribution else ""
        return f"{self.name} ({of}source {self.source or 'unknown'})"


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
        names = [] if settings.format in ("auto", *FORMATS) else [settings.format]
        names += [settings.transform] if settings.transform else []
        return cls(settings=settings, format=form, modules=tuple(map(_module, names)))

    @property
    def is_made_here(self) -> bool:
        """Whether this code may make rows by it. Another version of lmstream, or of what installed a module of the same
        source, may still make the same: digests tell, before anything of them is put."""
        here = Layout.of(self.settings, self.format)
        codes = [[each.code for each in layout.modules] for layout in (self, here)]
        return codes[0] == codes[1] and structs.replace(self, version=here.version, modules=here.modules) == here

    @property
    def code(self) -> str:
        """Which code it is made by, for people."""
        return ", ".join([f"{self.distribution} {self.version}", *map(str, self.modules)])

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
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # without the package that it is in, or made by hand
        return Module(name=name, source="")
    loader = None if spec is None else spec.loader
    source = loader.get_source(name) if loader is not None and hasattr(loader, "get_source") else None
    digest = blake2b(source.encode(), digest_size=16).hexdigest() if source else ""
    for distribution in sorted(packages_distributions().get(name.partition(".")[0], ())):
        return Module(name=name, source=digest, distribution=distribution, version=version(distribution))
    return Module(name=name, source=digest)
