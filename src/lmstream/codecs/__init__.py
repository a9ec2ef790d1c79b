"""Formats of bundles: one file each. A short name in the settings is a module here; a dotted one is anybody's."""

from typing import Final

FORMATS: Final = ("otlp_json", "otlp_proto")
"""Modules here that are a format: each has a `Codec`. The others are parts of them."""
