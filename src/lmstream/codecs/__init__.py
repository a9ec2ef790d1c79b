"""Formats of bundles: one file each. A short name in the settings is a module here; a dotted one is anybody's."""
