"""Ask a bucket, before a start, whether its own settings fit a lake: claims are kept, and KMS is not asked each time.

Versioning is not asked about: nothing of a lake is deleted or overwritten, and a condition looks at the current version
(docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). Nor is Object Lock, which only adds to it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lmstream.abilities import Check
from lmstream.behind import Retention
from lmstream.settings import human
from lmstream.storage import _s3_errors as errors
from lmstream.storage.objects_s3 import S3Objects
from lmstream.storage.store_probe import failed

KEYS: Final = "bucket key"
LIFECYCLE: Final = "lifecycle of claims"
MARGIN: Final = 7 * 86_400
"""Seconds that a claim has to outlive the records that it is about: an offset may be set back to any of them, and what
was landed is known by its claim alone."""
_DAY: Final = 86_400
_UNREADABLE: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects have to be restored before they can be read:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html."""
_NONE: Final = frozenset({"NoSuchLifecycleConfiguration", "ServerSideEncryptionConfigurationNotFoundError"})
_UNKNOWN_TO_IT: Final = frozenset({"NotImplemented", "MethodNotAllowed"})


async def questions(store: S3Objects, claims_prefix: str, retention: Retention | None) -> list[Check]:
    """Both questions. `retention` is that of the topic that keeps records longest; None while it is not known. What may
    not be asked is a warning: a role that only lands objects is a good role."""
    return list(await asyncio.gather(_keys(store), _lifecycle(store, claims_prefix, retention)))


async def _keys(store: S3Objects) -> Check:
    """See GetBucketEncryption, right s3:GetEncryptionConfiguration.

    Without a bucket key each object costs a request to KMS, $0.03 per 10,000: https://aws.amazon.com/kms/pricing/.
    """
    found = await _asked(store, KEYS, "get_bucket_encryption", "s3:GetEncryptionConfiguration")
    if isinstance(found, Check):
        return found
    for rule in found.get("ServerSideEncryptionConfiguration", {}).get("Rules", ()):
        algorithm = str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", ""))
        if algorithm == "aws:kms" and not rule.get("BucketKeyEnabled"):
            said = "the bucket encrypts with KMS and has no bucket key, so that each object costs a request to KMS too"
            return failed(KEYS, "lake.bucket_key", said)
        if algorithm == "aws:kms:dsse":
            said = "the bucket encrypts twice (DSSE-KMS), which knows no bucket key: each object costs requests to KMS"
            return Check(KEYS, "warning", said, "encrypt with SSE-KMS and a bucket key, or with SSE-S3")
    return Check(KEYS, "ok", "objects cost no requests to KMS of their own")


async def _lifecycle(store: S3Objects, claims_prefix: str, retention: Retention | None) -> Check:
    """See GetBucketLifecycleConfiguration, right s3:GetLifecycleConfiguration."""
    found = await _asked(store, LIFECYCLE, "get_bucket_lifecycle_configuration", "s3:GetLifecycleConfiguration")
    if isinstance(found, Check):
        return found
    ends = sorted(end for rule in found.get("Rules", ()) for end in _ends(rule, claims_prefix))
    if not ends:
        return Check(LIFECYCLE, "ok", "no rule deletes or archives claims")
    days, what = ends[0]
    if retention is not None and retention.seconds is None:
        said = f"{what}; the topic keeps records for ever, and claims are needed as long"
        return failed(LIFECYCLE, "lake.lifecycle", said)
    needed = MARGIN + (0.0 if retention is None else (retention.seconds or 0.0) + retention.segment)
    if days * _DAY <= needed:
        said = f"{what}; claims are needed {human(needed)}: retention.ms + segment.ms of the topic, and 7 days more"
        return failed(LIFECYCLE, "lake.lifecycle", said, _fix(claims_prefix, int(needed // _DAY) + 1))
    if retention is None:
        said = f"{what}, and how long the topic keeps records is not known"
        return Check(LIFECYCLE, "warning", said, "grant DescribeConfigs on the topic, or compare the two yourself")
    return Check(LIFECYCLE, "ok", f"{what}, and they are needed {human(needed)}")


def _fix(claims_prefix: str, days: int) -> str:
    return (
        f"let rules of the bucket's lifecycle keep {claims_prefix} for {days:,} days or more, or leave it out of them"
    )


def _ends(rule: Mapping[str, Any], claims_prefix: str) -> Iterator[tuple[float, str]]:
    """After how many days this rule takes claims away, in words too; nothing when it does not."""
    if rule.get("Status") != "Enabled" or not _covers(rule, claims_prefix):
        return
    name = f"rule {str(rule.get('ID') or 'without a name')!r}"
    expiration = rule.get("Expiration", {})
    if isinstance(days := expiration.get("Days"), int):
        yield days, f"{name} deletes claims after {days:,} days"
    if date := expiration.get("Date"):
        # "S3 ... continues to expire objects" that are made after the date: docs.aws.amazon.com/AmazonS3/latest/
        # userguide/intro-lifecycle-rules.html
        yield 0, f"{name} deletes claims from {str(date)[:10]} on"
    for each in rule.get("Transitions", ()):
        if each.get("StorageClass") in _UNREADABLE:
            days = each.get("Days")
            yield (
                days if isinstance(days, int) else 0,
                f"{name} moves claims to {each['StorageClass']} after {days or 0} days",
            )


def _covers(rule: Mapping[str, Any], claims_prefix: str) -> bool:
    """Whether a rule may be about claims or the settings that they name. One that asks for a tag is not: they have
    none. Nor is one about what starts leave below `probe/`."""
    of = rule.get("Filter") or {}
    of = of.get("And") or of
    if of.get("Tags") or of.get("Tag"):
        return False
    prefix = str(of.get("Prefix") or rule.get("Prefix") or "")
    kept = (f"{claims_prefix}{each}/" for each in ("claims", "settings"))
    return any(prefix.startswith(each) or each.startswith(prefix) for each in kept)


async def _asked(store: S3Objects, name: str, call: str, right: str) -> Mapping[str, Any] | Check:
    """The answer of the service, or what is to be said without one."""
    try:
        return await store.ask(call)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is told in words
        answer = errors.answer_of(error)
        failure = errors.of_boto(error)
    code = answer.code if answer is not None else failure.code
    if code in _NONE:
        return {}
    if code in _UNKNOWN_TO_IT or (answer is not None and answer.status in {404, 405, 501} and not code):
        return Check(name, "ok", "this store has no such setting")
    said = f"not known: {failure.code}: {failure.message.partition('. Fix: ')[0]}"
    fix = f"grant {right} on the bucket to have it checked" if code == "AccessDenied" else "look at the bucket yourself"
    return Check(name, "warning", said, fix)
