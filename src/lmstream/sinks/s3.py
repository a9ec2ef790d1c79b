"""A lake in S3 without Firehose: settings, and the bucket that objects are made in, each once."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from lmstream.abilities import Check, Traits
from lmstream.behind import Retention
from lmstream.delivery.window_length import WINDOW_BYTES, WINDOW_ROWS
from lmstream.errors import coded
from lmstream.settings import MIB, Positive
from lmstream.storage import bucket_questions
from lmstream.storage.bucket import Access
from lmstream.storage.objects_s3 import S3Objects
from lmstream.storage.store_probe import probe, refuse_failed

log: Final = logging.getLogger("lmstream.lake")
TRAITS: Final = Traits(service="s3", claims=True, dimensions=True)

_Folder = Annotated[str, Meta(max_length=256, pattern=r"^(?!/)(?!.*//)(?!(.*/)?\.)[^\x00-\x1f\x7f\\]*$")]
"""Parts of a key: none empty, none that begins with a dot."""


class Settings(Access, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the lake. Credentials come from the usual AWS chain, never from here; encryption is the bucket's."""

    bucket: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._-]+$")]
    """Bucket; it must exist, and honour `If-None-Match: *`.
    Costs: duplicates: claims lie in the bucket, so the records after the last commit land in another one once more.
    Limit: names of buckets and of access points (docs.aws.amazon.com/AmazonS3/latest/userguide/
    bucketnamingrules.html), with room for other stores."""
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 32
    """Requests at a time: connections that are kept open.
    Costs: memory.
    Limit: lmstream's own, against mistyped values."""
    prefix: _Folder = ""
    """Where in the bucket rows land: `<prefix>/<path>/<object>`, the path by engine.path. Empty: at its root.
    Costs: rows: where they lie; tables must follow it.
    Limit: lmstream's own: of the 1,024 bytes of a key the path and the object's name need the rest."""
    claims_prefix: Annotated[_Folder, Meta(min_length=1)] = "_lmstream/"
    """Where in the bucket claims lie. It must be outside of every table's location, or begin with an underscore, which
    queries skip. All deployments that land in one bucket have the same.
    Costs: duplicates: under another one no earlier claim is found, and what was not committed lands once more.
    Limit: as `prefix`."""
    format: Literal["gzip", "zstd", "parquet"] = "gzip"
    """What objects are: rows as lines of JSON, compressed; or Parquet, which needs the extra [parquet].
    Costs: money: the size of objects, and what queries read of them. Objects that landed stay as they are."""
    window_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    """Seconds after which a window is closed: what it gathered becomes one object a path. Rows are visible by then.
    Costs: delay, money: half of it makes nearly twice the objects and requests.
    Limit: a day."""
    window_max_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 900.0
    """Seconds to which `monthly_dollars` may stretch a window while its objects are small.
    Costs: delay, money.
    Limit: a day."""
    window_rows: Positive = WINDOW_ROWS
    """Rows after which a window is closed.
    Costs: memory, money."""
    window_bytes: Positive = WINDOW_BYTES
    """Bytes of lines, before compression, after which a window is closed. What is held is smaller: see docs/lake.md.
    Costs: memory, money."""
    object_bytes: Annotated[int, Meta(ge=1 * MIB, le=1024 * MIB)] = 64 * MIB
    """Bytes of lines, before compression, after which a path gets a further object. gzip is read by one reader from its
    beginning, so larger objects make queries slower.
    Costs: memory, money.
    Limit: one object is one request of S3, and is held whole while it is sent."""
    monthly_dollars: Annotated[float, Meta(gt=0)] | None = None
    """US dollars a month that requests may cost, of all members together; windows are stretched to stay below. None:
    no bound.
    Costs: money, delay."""
    lanes: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Lanes of a topic, each with windows and objects of its own. None: one a partition. Fewer make fewer and larger
    objects.
    Unit: lanes.
    Costs: restarts, money: raise `division` with it. A start with another number than the lake's is refused (LMS-4027).
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

    def __post_init__(self) -> None:
        """Raises ValueError for what does not go together."""
        if self.window_max_seconds < self.window_seconds:
            raise ValueError(f"window_max_seconds must not be below window_seconds, which is {self.window_seconds:g}")
        if self.rows.startswith(self.claims):
            raise ValueError(f"prefix {self.prefix!r} lies below claims_prefix {self.claims_prefix!r}: choose another")
        if self.claims.startswith(self.rows) and not self.claims.removeprefix(self.rows).startswith("_"):
            what = "queries over the rows would read claims: let it begin with an underscore, or lie outside of prefix"
            raise ValueError(f"claims_prefix {self.claims_prefix!r}: {what}")

    @property
    def rows(self) -> str:
        """What keys of objects with rows begin with: empty, or with a slash at the end."""
        return _with_slash(self.prefix)

    @property
    def claims(self) -> str:
        """What keys of claims begin with, with a slash at the end."""
        return _with_slash(self.claims_prefix)


def _with_slash(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix else ""


class Lake:
    """The bucket of a lake."""

    def __init__(self, settings: Settings, *, client: Any = None) -> None:
        """`client` is an aws.threaded.Client, and stays the caller's to close; without one, an own is made. Nothing
        connects yet."""
        self.settings = settings
        self.store: S3Objects = S3Objects(settings, client=client)
        self.retention: Retention | None = None
        """Of the topic that keeps records longest: see abilities.Outliving."""

    async def questions(self, workers: int = 1, /) -> Sequence[Check]:  # noqa: ARG002 - each worker asks the same
        """What the bucket answers, all at once: whether it lists, makes objects once, keeps claims, has a bucket key.
        Raises nothing."""
        claims = self.settings.claims
        probed, asked = await asyncio.gather(
            probe(self.store, claims), bucket_questions.questions(self.store, claims, self.retention)
        )
        # A place that does not answer as a bucket is told once.
        return probed if len(probed) == 1 else [*probed, *asked]

    async def check(self) -> None:
        """Ask the same before a start. Raises ConfigError for all that failed; what is not known is logged."""
        checks = await self.questions()
        refuse_failed(checks, self.store.name)
        for each in checks:
            if each.verdict == "warning":
                said = f"{self.store.name}: {each.name}: {each.said}"
                log.warning("%s. Fix: %s", said, each.fix, extra=coded("config.invalid"))

    async def close(self) -> None:
        """Close the clients. Safe to call twice."""
        await self.store.close()


make = Lake
