"""A slow walk through an OTLP/JSON bundle in which some type is wrong: what stands where, and what cannot be read.

The quick way decodes a bundle at once, and msgspec refuses it at the first wrong type. This one goes down level by
level, so that a bad part is refused alone and named by its path.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from msgspec import Raw, ValidationError

from lmstream.codecs import fragments
from lmstream.codecs.json_unknown import NOTHING, READ, decode_list, title
from lmstream.errors import DecodeError
from lmstream.interfaces import LostPart

_NULL: Final = b"null"
_AT: Final = re.compile(r"^(.*?)(?: - at `(?:key in )?\$(.*)`)?$", re.DOTALL)
_SHOWN: Final = 60
"""Characters of a token that a message shows."""


class Entry(NamedTuple):
    """One metric where it stands; without a metric, the resource or scope that begins here."""

    resource: tuple[str, Raw]
    """Path of the resource, and its bytes; the same object for all its metrics."""
    scope: tuple[str, Raw] | None
    path: str
    metric: Any
    """Its members by name, unread, as `READ` has them; so is the data of a kind."""
    kinds: list[tuple[str, Any, list[Raw]]]
    """(kind, its data, its points) of each kind that the metric has: one, in a right bundle."""


def walk(payload: bytes) -> Iterator[Entry | LostPart]:
    """What a bundle holds, in document order. Raises ValidationError when it is no object, DecodeError decode.type when
    it has no array of resources, msgspec's DecodeError for malformed JSON."""
    top = READ["Request"](payload).resourceMetrics
    if not sent(top):
        return
    try:
        resources = decode_list(top) or ()
    except ValidationError as error:
        raise DecodeError("decode.type", lost("$.resourceMetrics", top, error).detail) from error
    for at, raw in enumerate(resources):
        here = f"$.resourceMetrics[{at}]"
        found = yield from _object(raw, here, READ["ResourceMetrics"])
        if found is None:
            continue
        resource = (f"{here}.resource", found.resource)
        yield Entry(resource, None, here, None, [])
        scopes = yield from _array(found.scopeMetrics, f"{here}.scopeMetrics")
        for number, scope_raw in enumerate(scopes):
            yield from _scope(resource, f"{here}.scopeMetrics[{number}]", scope_raw)


def _scope(resource: tuple[str, Raw], here: str, raw: Raw) -> Iterator[Entry | LostPart]:
    found = yield from _object(raw, here, READ["ScopeMetrics"])
    if found is None:
        return
    scope = (f"{here}.scope", found.scope)
    yield Entry(resource, scope, here, None, [])
    metrics = yield from _array(found.metrics, f"{here}.metrics")
    for at, metric_raw in enumerate(metrics):
        path = f"{here}.metrics[{at}]"
        metric = yield from _object(metric_raw, path, READ["Metric"])
        if metric is None:
            continue
        kinds = []
        for kind in fragments.KINDS:
            held = getattr(metric, kind)
            if sent(held):
                data = yield from _object(held, f"{path}.{kind}", READ[title(kind)])
                if data is not None:
                    points = yield from _array(data.dataPoints, f"{path}.{kind}.dataPoints")
                    kinds.append((kind, data, points))
        yield Entry(resource, scope, path, metric, kinds)


def _object(raw: Raw, path: str, decode: Callable[[Raw], Any]) -> Any:
    """(generator) The object at a path; None when it is none, which is then lost."""
    try:
        return decode(raw)
    except ValidationError as error:
        yield lost(path, raw, error)
        return None


def _array(raw: Raw, path: str) -> Any:
    """(generator) The items of an array at a path, unread; none when it is no array, which is then lost."""
    try:
        return (decode_list(raw) if sent(raw) else None) or []
    except ValidationError as error:
        yield lost(path, raw, error)
        return []


def lost(path: str, raw: Raw, error: ValidationError) -> LostPart:
    """What is said of a part that cannot be read."""
    return LostPart(path, "decode.type", f"{path}: {said(error)}, saw {token(raw)}")


def sent(raw: Raw) -> bool:
    """Whether a member is there and not null."""
    return raw is not NOTHING and bytes(raw) != _NULL


def token(raw: bytes | Raw) -> str:
    """The beginning of a JSON text, as messages show it."""
    text = bytes(memoryview(raw)[: 4 * _SHOWN]).decode(errors="replace")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def said(error: Exception) -> str:
    """A message of msgspec's, without its path."""
    found = _AT.match(str(error))
    return (found[1] if found else str(error)).replace("`", "")


def below(error: Exception) -> str:
    """The path in a message of msgspec's."""
    found = _AT.match(str(error))
    return (found[2] or "") if found else ""


def place(path: str, error: Exception) -> str:
    """A message of msgspec's, with the whole path."""
    return f"{path}{below(error)}: {said(error)}"
