"""The digest of rows: one sum for any set of them, in any order."""

from hashlib import blake2b

Digest = int
_SPACE = 1 << 128


def add(digest: Digest, data: bytes, rows: int) -> Digest:  # noqa: ARG001 - as of the face
    """Add rows to a digest."""
    total = digest
    for line in data.splitlines():
        total += int.from_bytes(blake2b(line, digest_size=16).digest())
    return total % _SPACE


def hexadecimal(digest: Digest) -> str:
    """As a claim has it."""
    return f"{digest:032x}"
