"""The configuration of a run: settings from flags, environment and file, checked, and the parts they build."""

from lmstream.config.build import (
    build_letters,
    build_pipeline,
    build_runtime,
    build_sink,
    build_source,
    check_letters,
    cluster_of,
    crashes_in,
    letters_part,
)
from lmstream.config.config import Config, Function, Run, load

__all__ = [
    "Config",
    "Function",
    "Run",
    "build_letters",
    "build_pipeline",
    "build_runtime",
    "build_sink",
    "build_source",
    "check_letters",
    "cluster_of",
    "crashes_in",
    "letters_part",
    "load",
]
