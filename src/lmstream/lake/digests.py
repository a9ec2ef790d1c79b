"""The digest of an object's rows while they are gathered, a record after the other."""

from lmstream.engine.row_digest import MODULUS, of_run, text

Digest = int


def add(digest: Digest, data: bytes) -> Digest:
    """Add the rows that one record has in an object."""
    return (digest + of_run(data)) % MODULUS


hexadecimal = text
