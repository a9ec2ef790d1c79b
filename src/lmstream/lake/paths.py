"""Which objects of a lake a compaction may take: those of windows that are done, path by path."""

from typing import Final

from lmstream.lake.chains import Chains
from lmstream.lake.claims import Claim, Claims, name
from lmstream.lake.compactions import Replaced

MOST = 500_000
"""Objects that are known at once: some 200 MB."""
OVER: Final = 1 << 62
"""Offset of a lane that has been read to its end, as of files: behind every record."""


class TooManyError(Exception):
    """More than MOST objects lie below a prefix."""


async def compactable(claims: Claims, chains: Chains, prefix: str) -> dict[tuple[str, str], list[Replaced]]:
    """Objects by (path, extension), of paths that begin with `prefix`. Raises SinkError, TooManyError.

    The claims of a lane say at its end which windows have all their objects; the last ones of a lane that is quiet are
    left for another time, but not those of files that were read to their end. Objects of replayed letters stay as they
    are: rows of one record do not lie in two objects of a window, so that digests add up.
    """
    found: dict[tuple[str, str], list[Replaced]] = {}
    count = 0
    for topic, lane in await chains.lanes():
        head = await claims.head(topic, lane)
        async for claim in chains.claims(topic, lane):
            if head is None or (claim.sequence >= head.done and not _is_over(head)):
                break
            for path, extension, each in await _objects(claims, claim):
                if path.startswith(prefix):
                    found.setdefault((path, extension), []).append(each)
                    count += 1
        if count > MOST:
            raise TooManyError
    return found


def _is_over(head: Claim) -> bool:
    """Whether no claim will follow that could say what is done."""
    return all(span.end >= OVER for span in head.spans.values())


async def _objects(claims: Claims, claim: Claim) -> list[tuple[str, str, Replaced]]:
    if not claim.objects:
        return []
    extension = (await claims.layout(claim.layout)).extension
    return [
        (entry.path, extension, Replaced(key=name(claim, entry, extension), rows=entry.rows, digest=entry.digest))
        for entry in claim.every
    ]
