"""For tests of your own parts: conformance suites, doubles and virtual time. Nothing here takes a run.

    from lmstream.testing import SinkConformance

    class TestMySink(SinkConformance):
        def make(self): ...      # a sink of yours
        def landed(self): ...    # the rows that are in its place now

docs/extending.md has a suite for each kind of part.
"""

from lmstream.testing.cases import Case, Difference, cases
from lmstream.testing.codecs import CodecConformance
from lmstream.testing.memory import Memory
from lmstream.testing.places import PlaceConformance
from lmstream.testing.schedules import BrokenError
from lmstream.testing.scripted import DOWN, LIMITS, ScriptedLetters, ScriptedSink, ScriptedSource
from lmstream.testing.sinks import SinkConformance
from lmstream.testing.sources import SourceConformance
from lmstream.testing.suite import failures
from lmstream.testing.transforms import TransformConformance
from lmstream.testing.virtual_time import DeadlockError, SeededLoop, VirtualLoop, now, run, told_to_run

__all__ = [
    "DOWN",
    "LIMITS",
    "BrokenError",
    "Case",
    "CodecConformance",
    "DeadlockError",
    "Difference",
    "Memory",
    "PlaceConformance",
    "ScriptedLetters",
    "ScriptedSink",
    "ScriptedSource",
    "SeededLoop",
    "SinkConformance",
    "SourceConformance",
    "TransformConformance",
    "VirtualLoop",
    "cases",
    "failures",
    "now",
    "run",
    "told_to_run",
]
