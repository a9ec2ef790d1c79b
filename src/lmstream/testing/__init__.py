"""For tests of your own parts: doubles and virtual time. Nothing here takes a run: see docs/extending.md."""

from lmstream.testing.memory import Memory
from lmstream.testing.scripted import DOWN, LIMITS, ScriptedLetters, ScriptedSink, ScriptedSource
from lmstream.testing.virtual_time import DeadlockError, SeededLoop, VirtualLoop, now, run, told_to_run

__all__ = [
    "DOWN",
    "LIMITS",
    "DeadlockError",
    "Memory",
    "ScriptedLetters",
    "ScriptedSink",
    "ScriptedSource",
    "SeededLoop",
    "VirtualLoop",
    "now",
    "run",
    "told_to_run",
]
