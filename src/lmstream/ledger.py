"""For one version: `lmstream.ledger` as it was called before; now lmstream.runtime."""

import warnings

from lmstream.runtime import OffsetLedger as Ledger

__all__ = ["Ledger"]

warnings.warn(
    "lmstream.ledger is now lmstream.runtime; this name goes with the next version", DeprecationWarning, stacklevel=2
)
