"""Names of what lies in a folder, in the order in which a bucket lists the same keys; nothing hidden, and no links."""

import contextlib
import heapq
import os
from collections.abc import Iterator
from typing import Final

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK: Final = 1_000
"""Entries of a folder that are in memory at once while it is listed."""


def is_used(at: int, name: str) -> bool:
    """Whether any object lies below a folder: else it is no part of a key."""
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        below = os.open(name, FOLDER, dir_fd=at)
        try:
            return next(walked(below, ""), None) is not None
        finally:
            os.close(below)
    return False


def walked(at: int, above: str, begins: str = "") -> Iterator[str]:
    """Keys below a folder in the order of their bytes: a folder `a` stands where `a/` does, behind `a-b` and `a.b`."""
    last = b""
    while chunk := heapq.nsmallest(_CHUNK, entries(at, begins, last)):
        for sign, name in chunk:
            if not sign.endswith(b"/"):
                yield f"{above}{name}"
                continue
            try:
                below = os.open(name, FOLDER, dir_fd=at)
            except FileNotFoundError:
                continue  # folders are nobody's to keep: one may be removed meanwhile
            try:
                yield from walked(below, f"{above}{name}/")
            finally:
                os.close(below)
        last = chunk[-1][0]


def entries(at: int, begins: str = "", last: bytes = b"") -> Iterator[tuple[bytes, str]]:
    """Objects and folders behind `last`, each by the bytes that its keys have; nothing hidden, and no links."""
    with os.scandir(at) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or not name.startswith(begins):
                continue
            if entry.is_dir(follow_symlinks=False):
                sign = os.fsencode(name) + b"/"
            elif entry.is_file(follow_symlinks=False):
                sign = os.fsencode(name)
            else:
                continue
            if sign > last:
                yield sign, name
