"""A lake in a folder: the same paths, claims and objects as in a bucket, on a disk of this machine."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream.abilities import Traits
from lmstream.settings import MIB, Positive
from lmstream.storage.objects_folder import FolderObjects

TRAITS: Final = Traits(claims=True, dimensions=True)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the folder. Those of windows and objects are as of sinks.s3."""

    root: str
    """Landing folder; made when it is missing. Claims lie below `_lmstream/` in it. Its file system must have hard
    links.
    Costs: duplicates: claims lie in the folder, so the records after the last commit land in another one once more."""
    level: Annotated[int, Meta(ge=0, le=9)] = 1
    """gzip level. Level 1 costs a third of the time of level 6 for objects about half as large again. With the extra
    [gzip], levels 1 and 2 are isal's: a sixth of that time once more.
    Unit: level.
    Costs: delay: smaller objects take more time.
    Limit: zlib's levels."""
    format: Literal["gzip", "zstd", "parquet"] = "gzip"
    """What objects are: rows as lines of JSON, compressed; or Parquet, which needs the extra [parquet].
    Costs: nothing: objects that landed stay as they are."""
    window_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    """Seconds after which a window is closed: what it gathered becomes one object a path. Rows are visible by then.
    Costs: delay: half of it makes nearly twice the objects.
    Limit: a day."""
    window_rows: Positive = 5_000_000
    """Rows after which a window is closed.
    Costs: memory."""
    window_bytes: Positive = 1024 * MIB
    """Bytes of lines, before compression, after which a window is closed. What is held is smaller: see docs/lake.md.
    Costs: memory."""
    object_bytes: Annotated[int, Meta(ge=1 * MIB, le=1024 * MIB)] = 64 * MIB
    """Bytes of lines, before compression, after which a path gets a further object. gzip is read by one reader from its
    beginning, so larger objects make queries slower.
    Costs: memory.
    Limit: one object is held whole while it is written."""
    lanes: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Lanes of a topic, each with windows and objects of its own. None: one a partition. Fewer make fewer and larger
    objects.
    Unit: lanes.
    Costs: restarts: raise `division` with it. A start with another number than the lake's is refused (LMS-4027).
    Limit: lmstream's own, against mistyped values."""
    division: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Which division of the topic into lanes this is: raised by one, on all members, with another number of `lanes`.
    Unit: divisions.
    Costs: restarts: the first start with it ends the lanes before, and begins the new ones where they end; members of
    the division before stop then (LMS-4027).
    Limit: lmstream's own, against mistyped values."""
    incarnation: Annotated[str, Meta(max_length=64, pattern=r"^[a-zA-Z0-9_-]*$")] = ""
    """Part of the name of the topic's claims: to be set anew when a topic was deleted and made again under its name.
    Costs: duplicates: the topic has no claims under the new name, so what was landed and not committed lands again.
    Limit: lmstream's own: it is part of keys."""

    @property
    def folder(self) -> str:
        """The same as `root`."""
        return self.root

    @property
    def rows(self) -> str:
        """What keys of objects with rows begin with: nothing."""
        return ""

    @property
    def claims(self) -> str:
        """What keys of claims begin with."""
        return "_lmstream/"

    @property
    def window_max_seconds(self) -> float:
        """Windows are not stretched: a folder takes no money for objects."""
        return self.window_seconds

    @property
    def monthly_dollars(self) -> None:
        """As above."""


class Lake:
    """The folder of a lake."""

    def __init__(self, settings: Settings) -> None:
        """The folder is made by `check`, or when it is needed."""
        self.settings = settings
        self.store: FolderObjects = FolderObjects(settings.root)

    async def check(self) -> None:
        """Make the folder and try it, before a start. Raises ConfigError `sink.disk` when it cannot be written or has
        no hard links, SinkError `sink.full` for want of room."""
        await self.store.check()

    async def close(self) -> None:
        """Wait for objects that are being written."""
        await self.store.close()


make = Lake
