"""The native part, where it was built: it cuts plain bundles into columns, joins columns to lines, and judges nothing.

All it does is done by the code in Python too, which has the rules, and which does alone what is not plain.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

SWITCH: Final = "LMSTREAM_SCAN"
"""Set to `off`, the native part is not used."""
_INTERFACE: Final = 12
"""The one that this code calls: one that was built from other sources is not used."""


def native(name: str) -> Callable[..., Any] | None:
    """A function of the native part (folder native/); None where that is not installed, of other sources, or switched
    off."""
    if os.environ.get(SWITCH) == "off":
        return None
    try:
        part = import_module("lmstream._native")  # made for some platforms only
    except ImportError:
        return None
    if getattr(part, "INTERFACE", None) != _INTERFACE:
        return None
    found: Callable[..., Any] = getattr(part, name)
    return found


def engine() -> str:
    """Which engine runs: "native" or "plain"."""
    return "plain" if native("scan") is None else "native"


if __name__ == "__main__":
    if engine() == "plain":
        sys.stderr.write("the plain engine runs: make native builds the one that takes less than half the time\n")
