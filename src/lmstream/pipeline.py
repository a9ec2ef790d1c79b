"""For one version: `lmstream.pipeline` as it was called before; now lmstream.delivery."""

import warnings

from lmstream.delivery import Pipeline, Settled

__all__ = ["Pipeline", "Settled"]

warnings.warn(
    "lmstream.pipeline is now lmstream.delivery; this name goes with the next version", DeprecationWarning, stacklevel=2
)
