"""A record's value to a bundle: which codec, loaded when it is needed, and what if the first guess was wrong."""

from importlib import import_module
from typing import Any, Final

from lmstream.codecs import FORMATS, record_value
from lmstream.engine.own_codec import OwnCodec
from lmstream.errors import ConfigError, DecodeError, LmstreamError, PluginError
from lmstream.interfaces import Bundle, Codec, Shaper
from lmstream.settings import Settings

_JSON: Final = "otlp_json"
_PROTO: Final = "otlp_proto"
_USUAL: Final = b'{"'
"""How nearly all bundles in JSON begin."""
_FIRST_TAG: Final = record_value.FIRST_TAG


class CodecRegistry:
    """The codecs of one engine."""

    def __init__(self, settings: Settings, shaper: Shaper | None = None) -> None:
        """Raises ConfigError when settings.format names a codec that cannot be loaded. `shaper` is for the pieces that
        codecs make."""
        self._settings = settings
        self._shaper = shaper
        self._fixed = settings.format if settings.format != "auto" else ""
        self._record_bytes = settings.limits.record_bytes
        self._json: Any = None  # a Codec that sifts, once they are loaded, unless the settings want another
        self._proto: Any = None
        self._owned = self._fixed not in ("", *FORMATS)
        self.codecs: dict[str, Codec] = {}
        """By the name in the settings; those that were needed so far."""
        if self._fixed:
            self._load(self._fixed)

    def decode(self, value: bytes, *, sift: bool = False) -> tuple[Bundle, Codec, int]:
        """(the bundle, the codec that has its pieces, bytes of the value once inflated). With `sift`, what rules drop
        may be left out. Raises DecodeError, and RecursionError for nesting past this stack; ConfigError when the value
        is protobuf and the extra [proto] is not installed."""
        # What record_value.open_value would answer, without asking: a call that nearly every bundle would pay for.
        # Slices, for startswith() costs half as much again.
        json = self._json
        if json is not None and value[:2] == _USUAL and len(value) <= self._record_bytes:
            try:
                return json.decode(value, sift=sift), json, len(value)
            except DecodeError as error:
                raise _named(value, error) from error.__cause__
        proto = self._proto
        if proto is not None and value[:1] == _FIRST_TAG and len(value) <= self._record_bytes:
            try:
                return proto.decode(value, sift=sift), proto, len(value)
            except DecodeError:
                pass  # perhaps no protobuf after all: below
        name, payload = record_value.open_value(value, self._settings.limits)
        try:
            return self._decode(self._fixed or name, payload, sift=sift)
        except DecodeError as error:
            if self._owned:
                raise  # it knows its format, and its words are better than a guess
            raise _named(payload, error) from error.__cause__

    def _decode(self, name: str, payload: bytes, *, sift: bool) -> tuple[Bundle, Codec, int]:
        codec = self.codecs.get(name)
        refused: DecodeError | None = None
        try:
            codec = codec or self._load(name)
            bundle = codec.decode(payload) if self._owned else codec.decode(payload, sift=sift)  # type: ignore[call-arg]
            return bundle, codec, len(payload)
        except (DecodeError, ConfigError) as error:
            if self._fixed or name != "otlp_proto":
                raise
            if isinstance(error, DecodeError) and error.reason.startswith("limits."):
                raise
            if isinstance(error, DecodeError) and error.reason == "decode.not_understood":
                refused = error
            elif record_value.sniff_text(payload) != "otlp_json":
                if isinstance(error, ConfigError) and not payload.startswith(record_value.FIRST_TAG):
                    # Not even the first byte of a bundle: no extra would help, and one stray record must not stop all.
                    raise DecodeError("decode.protobuf", "neither JSON nor protobuf") from None
                raise
        # Text that begins with a line feed, which is also how protobuf begins.
        codec = self.codecs.get("otlp_json") or self._load("otlp_json")
        try:
            return codec.decode(payload), codec, len(payload)
        except DecodeError as error:
            raise refused or error from None

    def _load(self, name: str) -> Codec:
        ours = name in FORMATS
        try:
            module = import_module(f"lmstream.codecs.{name}" if ours else name)
            codec: Codec = module.Codec(self._settings, self._shaper) if ours else self._own(name, module)
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] in ("google", "opentelemetry"):
                raise ConfigError.missing("a bundle in protobuf", "proto") from error
            raise ConfigError("config.plugin", f"codec {name!r}: {error}") from error
        except AttributeError as error:
            raise ConfigError("config.plugin", f"codec {name!r}: the module has no Codec(settings)") from error
        self.codecs[name] = codec
        if name == _JSON and self._fixed in ("", _JSON):
            self._json = codec
        if name == _PROTO and self._fixed in ("", _PROTO):
            self._proto = codec
        return codec

    def _own(self, name: str, module: Any) -> Codec:
        make = module.Codec
        try:
            return OwnCodec(name, make(self._settings), self._shaper)
        except LmstreamError:
            raise
        except Exception as error:
            raise PluginError.raised(name, error) from error


def _named(data: bytes, refused: DecodeError) -> DecodeError:
    """The codec's answer, or a better one where the bytes say what they are."""
    from lmstream.codecs.diagnosis import diagnose  # noqa: PLC0415 - a cold start needs none of it

    return diagnose(data, refused)
