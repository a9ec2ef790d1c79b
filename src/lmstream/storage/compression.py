"""gzip and zstd for objects. What they make may lie one behind another, and is then read as one.

gzip is isal's where that is installed and pays, else zlib's: readers see the same content, though not the same bytes.
"""

import zlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, Literal

from lmstream.codecs.inflating import zstandard

Compression = Literal["gzip", "zstd"]

Compress = Callable[[bytes, int, int], bytes]

try:
    from isal import isal_zlib
except ImportError:  # the extra [gzip] is not installed, or has no wheel for this platform
    _isal: Compress | None = None
else:
    _isal = isal_zlib.compress

_ISAL_LEVELS: Final = (1, 2)
"""Where isal takes a sixth of zlib's time for objects of about the same size. Its level 0 is not "stored" as zlib's is,
its level 3 is slower than zlib's 1, and it has none above."""
_GZIP: Final = 31  # wbits: the gzip container, whose header has no time and no name: the same rows give the same bytes


def gzip(data: bytes, level: int) -> bytes:
    """One gzip member of the data. `level` is zlib's, 0 to 9."""
    made = _isal if _isal is not None and level in _ISAL_LEVELS else zlib.compress
    return made(data, level, _GZIP)


def zstd(data: bytes, level: int) -> bytes:
    """One zstd frame of the data, with its size and a checksum. `level` is zstd's, 1 to 22. Raises ConfigError without
    the extra [lake]."""
    made: bytes = _zstd(level).compress(data)
    return made


@cache
def _zstd(level: int) -> Any:
    # One for all: a compressor holds the tables of its level, megabytes above the lowest ones.
    return zstandard().ZstdCompressor(level=level, write_checksum=True, write_content_size=True)


def compressor(kind: Compression, level: int = 1) -> Callable[[bytes], bytes]:
    """What compresses rows that lie together."""
    return partial(gzip if kind == "gzip" else zstd, level=level)
