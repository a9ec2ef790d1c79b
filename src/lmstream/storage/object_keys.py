"""Keys that every store of objects takes, and takes as they are: what a bucket, a folder and a query agree on."""

import re
from collections.abc import Mapping
from typing import Final

from lmstream.interfaces import StoreError
from lmstream.model import Failure, Kind

LONGEST: Final = 1024
"""Bytes of a key: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html."""
META: Final = 2048
"""Bytes of names and values of user-defined metadata: the same service's UsingMetadata.html, "2 KB in size"."""
_BAD: Final = r"\x00-\x1f\x7f-\x9f\\\ud800-\udfff"
_PROPER: Final = re.compile(rf"(?!\.)[^/{_BAD}]+(?:/(?!\.)[^/{_BAD}]+)*")
"""All of it at once, for every object; what is wrong with a key is looked for afterwards."""
_SHORT: Final = LONGEST // 4  # characters, of four bytes at most
_CONTROL: Final = re.compile(rf"[{_BAD}]")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_VALUE: Final = re.compile(r"(?! )[\x20-\x7e]*(?<! )")


def refuse_improper(key: str) -> None:
    """Raise StoreError, fatal-config, for a key that some store would change or refuse: empty parts, `.` and `..`,
    control characters and backslashes, more than LONGEST bytes. No parts that begin with a dot either: files of such
    names are hidden, and queries skip them."""
    if _PROPER.fullmatch(key) and (len(key) <= _SHORT or len(key.encode()) <= LONGEST):
        return
    if _CONTROL.search(key):
        why = "it has a control character or a backslash"
    elif len(key.encode()) > LONGEST:
        why = f"it has more than {LONGEST:,} bytes"
    else:
        why = "a part of it is empty or begins with a dot"
    fix = "correct engine.path, sink.prefix, sink.claims_prefix or engine.source_id"
    raise StoreError(Failure(Kind.FATAL_CONFIG, "config.invalid", f"key {key[:200]!r}: {why}. Fix: {fix}"))


def refuse_meta(meta: Mapping[str, str]) -> None:
    """Raise ValueError for metadata that does not come back as it was given: names of a-z, 0-9 and dashes, values of
    printable ASCII without a space at their ends, META bytes in all."""
    for name, value in meta.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"metadata {name!r}: {value!r}: not every store would give it back unchanged")
    if sum(len(name) + len(value) for name, value in meta.items()) > META:
        raise ValueError(f"metadata of more than {META:,} bytes")
