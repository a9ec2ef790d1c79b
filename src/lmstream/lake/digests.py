"""The digest of an object's rows while they are gathered, a record after the other."""

from collections.abc import Iterable

from lmstream.engine.row_digest import MODULUS, of_run, text

Digest = int


def add(digest: Digest, data: bytes) -> Digest:
    """Add the rows that one record has in an object. The modulus is left to `hexadecimal`: a number that is a few bits
    longer costs nothing, and a division for each record does."""
    return digest + of_run(data)


def join(digests: Iterable[Digest]) -> Digest:
    """The digest of several objects together, of which no two have rows of one record."""
    return sum(digests) % MODULUS


def of_text(digest: str) -> Digest:
    """What `hexadecimal` wrote."""
    return int(digest, 16)


hexadecimal = text
