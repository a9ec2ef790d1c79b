"""Somebody else's codec, held to what codecs promise: what it raises and returns is checked, and blamed on it."""

from collections.abc import Iterable
from typing import Final

import msgspec

from lmstream.codecs.checking import misfit
from lmstream.engine.own_pieces import PiecesOfOwn
from lmstream.engine.own_reasons import OwnReasons
from lmstream.errors import REASONS, ConfigError, DecodeError, LmstreamError, PluginError
from lmstream.interfaces import Bundle, Codec, LostPart, Place, Shaper

_NEEDED: Final = ("decode", "largest", "clear")


class OwnCodec:
    """What an engine calls in the place of a codec from `engine.format` that names a module of somebody else's."""

    def __init__(self, module: str, codec: Codec, shaper: Shaper | None = None) -> None:
        """Raises ConfigError for an object that is no Codec. `shaper` has what the engine's rules make of pieces."""
        missing = [name for name in _NEEDED if not hasattr(codec, name)]
        if missing:
            raise ConfigError("config.plugin", f"codec {module!r}: its Codec has no {' and no '.join(missing)}")
        self._module, self._codec = module, codec
        self._reasons = OwnReasons()
        self._shape = PiecesOfOwn(shaper) if shaper is not None else None

    @property
    def largest(self) -> int:
        """See interfaces.Codec."""
        return self._codec.largest

    def decode(self, payload: bytes, /) -> Bundle:
        """A bundle in columns that fit together. Raises DecodeError as the codec does, PluginError for what it may not
        raise or return."""
        try:
            bundle = self._codec.decode(payload)
        except DecodeError as error:
            raise self._reasons.refused(error) from error.__cause__
        except (LmstreamError, RecursionError, MemoryError):
            raise
        except Exception as error:
            raise PluginError.raised(self._module, error) from error
        if wrong := misfit(bundle):
            raise PluginError(self._module, wrong)
        bundle.moments = ()  # it may have asked a codec of lmstream, and given points other times
        if bundle.odd and any(type(why) is str and why not in REASONS for why in bundle.odd.values()):
            bundle.odd = {at: self._reasons.of(why) if type(why) is str else why for at, why in bundle.odd.items()}
        if bundle.lost:
            bundle.lost = tuple(LostPart(path, self._reasons.of(why), said) for path, why, said in bundle.lost)
        if self._shape is not None:
            try:
                bundle = self._shape.shaped(bundle)
            except msgspec.MsgspecError as error:
                raise PluginError(self._module, f"returned a piece that is no part of a row: {error}") from error
        return bundle

    def places(self, payload: bytes, /) -> Iterable[Place]:
        """See interfaces.Codec; nothing from a codec that cannot say."""
        found: Iterable[Place] = getattr(self._codec, "places", lambda _: ())(payload)
        return found

    def clear(self) -> None:
        """See interfaces.Codec."""
        self._codec.clear()

    def caches(self) -> dict[str, tuple[int, int, int]]:
        """As of CachingCodec; empty for a codec that does not say."""
        found: dict[str, tuple[int, int, int]] = getattr(self._codec, "caches", dict)()
        return found
