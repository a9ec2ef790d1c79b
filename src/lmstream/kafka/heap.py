"""The C library's hand on freed memory: what it keeps for later can be given back to the system."""

import contextlib
import ctypes
from collections.abc import Callable


def trimmer() -> Callable[[int], int] | None:
    """Answer malloc_trim(), called with 0; None where the C library has no such thing (musl, macOS)."""
    with contextlib.suppress(OSError, AttributeError):
        malloc_trim = ctypes.CDLL(None).malloc_trim
        malloc_trim.argtypes, malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
        found: Callable[[int], int] = malloc_trim
        return found
    return None
