"""Where a deployment keeps rows and results of queries: its buckets, storage classes and prefixes."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream.deployment.aws_names import Check
from lmstream.deployment.defaults import ROWS_PATH
from lmstream.settings import Settings

BucketName = Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")]

ERRORS: Final = "errors/"
RESULTS: Final = "athena-results/"
RESERVED: Final = (ERRORS, RESULTS)
"""Prefixes of the landing bucket that are not rows."""


class Bucket(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The landing bucket, and those of dead letters and of query results."""

    name: BucketName = ""
    """Names of buckets are unique over all accounts of AWS. Empty: deployment, account and region make one."""
    existing: bool = False
    """The landing bucket exists already, and is yours: nothing of it is changed."""
    dead_letters: BucketName = ""
    """Name of the bucket of dead letters; empty: the landing bucket's with -dead-letters."""
    results: BucketName = ""
    """Name of the bucket of query results, which expire after 14 days; empty: the landing bucket's with -results; the
    landing bucket's own: below athena-results/ in it."""
    intelligent_tiering_days: Annotated[int, Meta(ge=0)] | None = None
    """Days until rows move to S3 Intelligent-Tiering; left out: never. `lmstream validate --deployment` says whether it
    pays: in the first year it costs more than it saves for objects of less than about 220 KiB."""
    glacier_ir_days: Annotated[int, Meta(ge=1)] | None = None
    """Days until rows move to S3 Glacier Instant Retrieval, which Athena reads, for a price by GB; left out: never."""
    glacier_days: Annotated[int, Meta(ge=1)] | None = None
    """Days until rows move to S3 Glacier Flexible Retrieval; left out: never. Athena leaves such rows out of its
    answers, without an error: docs.aws.amazon.com/athena/latest/ug/creating-tables.html."""
    dead_letter_days: Annotated[int, Meta(ge=30)] = 90
    """Days until dead letters expire."""


class Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Glue table that Athena reads."""

    map_keys: Literal["as-written", "lower-case"] = "as-written"
    """Keys of attributes, resource and scope. lower-case is what tables of before `defaults = 2` have: at a row with
    two keys that differ in case only a query fails, or loses a value."""


def rows_prefix(path: str) -> str:
    """Prefix below which all rows of this path template lie, with its slash; empty: they lie beside the rest."""
    before = path.partition("{")[0]
    return before[: before.rfind("/") + 1]


def results_expire(engine: Settings) -> bool:
    """Whether results of queries in the landing bucket may expire: not where an organization's rows could lie there."""
    return bool(engine.path.partition("{")[0]) or not _may_be_reserved(engine)


def _may_be_reserved(engine: Settings) -> bool:
    """Whether an organization's key can be the name of a reserved prefix: writers choose it, or the settings do."""
    named = {engine.org_id, *engine.org_by_topic.values()}
    return bool(engine.org_attributes) or any(each.removesuffix("/") in named for each in RESERVED)


def wrong_storage(bucket: Bucket, engine: Settings, *, old: bool) -> Iterator[Check]:
    """Each (wrong or not, key, sentence)."""
    kept = {key: getattr(bucket, key) for key in ("intelligent_tiering_days", "glacier_ir_days", "glacier_days")}
    days = {key: value for key, value in kept.items() if value is not None}
    for warmer, colder in zip(days, list(days)[1:], strict=False):
        yield (
            days[colder] <= days[warmer],
            f"bucket.{colder}",
            f"{days[colder]} days is not after {warmer}: rows move to a colder storage class only",
        )
    before = engine.path.partition("{")[0]
    if before:
        meets = any(each.startswith(before) or before.startswith(each) for each in RESERVED)
    else:
        meets = _may_be_reserved(engine)
    named = f"{engine.path!r} lets an organization's key name another prefix of the bucket ({', '.join(RESERVED)})"
    what = f"{named}: begin it with a prefix of its own, as in {ROWS_PATH!r}; where rows lie there already, leave "
    yield not old and meets, "engine.path", f"{what}`defaults = 2` out and they stay (CHANGELOG.md)"
