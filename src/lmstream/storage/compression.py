"""gzip for objects: isal where it is installed and pays, else zlib. Readers see the same content from either."""

import zlib
from collections.abc import Callable
from typing import Final

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
