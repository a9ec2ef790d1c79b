"""Formats of bundles: one file each. A name in the settings that is not one of FORMATS is a module of its user."""

from typing import Final

FORMATS: Final = ("otlp_json", "otlp_proto")
"""Modules here that are a format: each has a `Codec`. The others are parts of them."""
