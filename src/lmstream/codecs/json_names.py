"""The names of OTLP's .proto files in JSON: what a sender writes that keeps them, made into the names of OTLP/JSON.

proto3's JSON mapping wants receivers to take both, OTLP/JSON only lowerCamelCase: so the settings decide.
"""

import re
from typing import Final

from lmstream.codecs.json_unknown import MESSAGES

_HUMP: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_BELOW: Final = ("offset", "bucketCounts", "quantile", "value", "filteredAttributes", "traceId", "spanId")
"""Members of what lies in points: buckets, quantiles, exemplars."""
_NAMES: Final = {
    _HUMP.sub(lambda found: f"_{found[1].lower()}", name).encode(): name.encode()
    for members in (*MESSAGES.values(), _BELOW)
    for name in members
    if _HUMP.search(name)
}
_STRING: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"([ \t\r\n]*:)?', re.DOTALL)
_CANDIDATE: Final = re.compile(rb'"(?:%b)"[ \t\r\n]*:' % b"|".join(_NAMES))


def as_otlp(payload: bytes) -> bytes:
    """The bundle with the names of OTLP/JSON. Of a member that comes by both names the last wins, as of any that comes
    twice."""
    if _CANDIDATE.search(payload) is None:
        return payload
    return _STRING.sub(_renamed, payload)


def _renamed(found: re.Match[bytes]) -> bytes:
    name = _NAMES.get(found[1]) if found[2] else None
    return found[0] if name is None else b'"%b"%b' % (name, found[2])
