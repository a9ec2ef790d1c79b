"""Path-safe tokens, the path template, and the Firehose prefix and jq query that must agree with it."""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from lmstream.errors import ConfigError
from lmstream.settings import Settings

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]")
_TOKEN_MAX: Final = 128
_DIGEST: Final = 8  # bytes, 16 hex digits
_CUT: Final = _TOKEN_MAX - 1 - 2 * _DIGEST

OTHER: Final = "_other"
"""metricKey of a metric that the allow list does not name."""

_SEGMENT_MAX: Final = 255
_KEY: Final = re.compile(r"!\{partitionKeyFromQuery:([^{}]*)\}")
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
# Firehose takes prefixes of up to 1,024 characters; S3 calls these characters safe in keys.
_LITERAL: Final = re.compile(r"[A-Za-z0-9!_.*'()=/-]*")
# Each part of the path from the row's own text: slices of `ts` cannot fail on numbers as arithmetic on tsUnixMs would.
_JQ: Final = {
    "orgKey": ".orgKey",
    "metricKey": ".metricKey",
    "yyyy": ".ts[0:4]",
    "MM": ".ts[5:7]",
    "dd": ".ts[8:10]",
    "HH": ".ts[11:13]",
}


def token(text: str) -> str:
    """`text` as one path segment of at most 128 characters: itself when it is safe, else made safe and told apart by a
    hash of the original. No token is `.` or `..`, begins with a dot or a dash, or holds a slash.
    """
    if _SAFE.fullmatch(text):
        return text
    if not text:
        return "_empty"
    safe = _UNSAFE.sub("_", text[:_CUT])
    if not safe[0].isalnum():
        safe = "_" + safe[1:]
    return f"{safe}-{blake2b(text.encode(), digest_size=_DIGEST).hexdigest()}"


def metric_keys(settings: Settings) -> Callable[[str], str]:
    """How a metric's name becomes its metricKey: it depends on the name and the settings only."""
    if settings.metric_key == "metric":
        return token
    if settings.metric_key == "allow":
        allowed = frozenset(settings.metric_allow)
        return lambda name: token(name) if name in allowed else OTHER
    buckets = settings.metric_buckets
    width = len(str(buckets - 1))

    def bucket(name: str) -> str:
        return f"b{int.from_bytes(blake2b(name.encode(), digest_size=_DIGEST).digest()) % buckets:0{width}d}"

    return bucket


def _longest(segment: str) -> int:
    """Characters that a segment of a template can come to."""
    tokens = segment.count("{orgKey}") + segment.count("{metricKey}")
    return len(_FIELD.sub("", segment)) + _TOKEN_MAX * tokens + 4 * (len(_FIELD.findall(segment)) - tokens)


def _fields(template: str) -> list[str]:
    """The template's fields in order. Raises ConfigError for a template that could leave the landing root, that
    S3 or Firehose would refuse, or that names unknown fields.
    """
    names = _FIELD.findall(template)
    unknown = [name for name in names if name not in _JQ]
    literal = _FIELD.sub("x", template)
    problem = ""
    if unknown:
        problem = f"unknown field {{{unknown[0]}}}; known are {', '.join(f'{{{name}}}' for name in _JQ)}"
    elif len(set(names)) != len(names):
        problem = "a field twice"
    elif not _LITERAL.fullmatch(literal):
        problem = "a character that is not safe in S3 keys"
    elif not template.endswith("/") or template.startswith("/") or "//" in template:
        problem = "it must not begin with a slash, must end with one, and may not hold two in a row"
    elif any(segment.startswith(".") for segment in literal.split("/")):
        problem = "a segment that begins with a dot: readers take it for hidden"
    elif max(map(_longest, template.split("/"))) > _SEGMENT_MAX:
        problem = (
            f"a segment that can pass {_SEGMENT_MAX} characters, which disks do not take: put a slash between fields"
        )
    elif not {"orgKey", "yyyy", "MM", "dd"} <= set(names):
        problem = "it needs at least {orgKey}, {yyyy}, {MM} and {dd}, so that copies of a row land in one place"
    if problem:
        raise ConfigError("config.invalid", f"path template {template!r}: {problem}")
    return names


def path_renderer(settings: Settings) -> Callable[[str, str, str], str]:
    """A function (orgKey, metricKey, hour as `yyyy-MM-ddTHH`) -> path below the landing root."""
    _fields(settings.path)
    template = settings.path.format

    def render(org_key: str, metric_key: str, hour: str) -> str:
        return template(
            orgKey=org_key, metricKey=metric_key, yyyy=hour[:4], MM=hour[5:7], dd=hour[8:10], HH=hour[11:13]
        )

    return render


def firehose_prefix(settings: Settings) -> str:
    """The path template as the prefix of a delivery stream with dynamic partitioning."""
    _fields(settings.path)
    return _FIELD.sub(lambda match: f"!{{partitionKeyFromQuery:{match[1]}}}", settings.path)


def path_of(prefix: str) -> str | None:
    """The path template whose `firehose_prefix` this is; None when there is none."""
    path = _KEY.sub(r"{\1}", prefix)
    try:
        return path if firehose_prefix(Settings(path=path)) == prefix else None
    except ConfigError:
        return None


def jq_query(settings: Settings) -> str:
    """The jq query whose keys fill `firehose_prefix`: exactly those, because Firehose refuses keys without a use."""
    return "{" + ",".join(f"{name}:{_JQ[name]}" for name in _fields(settings.path)) + "}"
