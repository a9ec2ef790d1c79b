"""Attribute values taken out of a bundle, so that a record of production can be kept as a test."""

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from lmstream.cli import terminal
from lmstream.codecs.inflating import COMPRESSED, inflate
from lmstream.errors import ConfigError, DecodeError
from lmstream.settings import Limits

_KEPT: Final = 3  # characters of a value from which on it is looked for elsewhere in the bundle


class Masks:
    """Replaces the values of attributes whose keys fit a pattern; the same value becomes the same mask."""

    def __init__(self, patterns: Sequence[str], limits: Limits) -> None:
        self._patterns, self._limits = patterns, limits
        self._names: dict[str, str] = {}

    def masked(self, value: bytes) -> bytes:
        """The bundle without the values. Raises ConfigError for what is not a bundle of OTLP."""
        if not self._patterns:
            return value
        try:
            if value.startswith(COMPRESSED):
                value = inflate(value, self._limits)
            made = self._json(value) if value.lstrip()[:1] == b"{" else self._protobuf(value)
        except (ValueError, RecursionError, DecodeError) as e:
            what = f"--mask: the record is not a bundle of OTLP that can be taken apart ({type(e).__name__})"
            raise ConfigError("config.invalid", what, "record it without --mask, and edit the input by hand") from e
        self._look_elsewhere(made)
        return made

    def _fits(self, key: str) -> bool:
        return any(fnmatchcase(key, each) for each in self._patterns)

    def _mask(self, value: str) -> str:
        return self._names.setdefault(value, f"masked-{len(self._names) + 1}")

    def _json(self, value: bytes) -> bytes:
        tree = json.loads(value)
        self._walk(tree)
        return json.dumps(tree, indent=1, ensure_ascii=False).encode()

    def _walk(self, node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("key"), str) and "value" in node and self._fits(node["key"]):
                node["value"] = {"stringValue": self._mask(_text(node["value"]))}
            for each in node.values():
                self._walk(each)
        elif isinstance(node, list):
            for each in node:
                self._walk(each)

    def _protobuf(self, value: bytes) -> bytes:
        try:
            from google.protobuf.message import DecodeError as ProtobufError
            from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
        except ImportError as e:
            raise ConfigError.missing("a bundle in protobuf", "proto") from e
        try:
            message = MetricsData.FromString(value)
        except ProtobufError as e:
            raise ValueError(str(e)) from e
        _each_key_value(message, self._mask_one)
        made: bytes = message.SerializeToString()
        return made

    def _mask_one(self, pair: Any) -> None:
        if self._fits(pair.key):
            text = pair.value.string_value or str(pair.value)
            pair.value.Clear()
            pair.value.string_value = self._mask(text)

    def _look_elsewhere(self, made: bytes) -> None:
        left = [text for text in self._names if len(text) > _KEPT and text.encode() in made]
        if left:
            what = f"{len(left):,} of the masked values stand elsewhere in the bundle too, under other keys"
            terminal.say(f"{what}: look at the input before you share it")


def _text(value: Any) -> str:
    """What is inside an AnyValue of OTLP/JSON; equal values give equal texts."""
    inner = next(iter(value.values()), "") if isinstance(value, dict) else value
    return inner if isinstance(inner, str) else json.dumps(inner)


def _each_key_value(message: Any, visit: Callable[[Any], None]) -> None:
    if message.DESCRIPTOR.name == "KeyValue":
        visit(message)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                _each_key_value(each, visit)
