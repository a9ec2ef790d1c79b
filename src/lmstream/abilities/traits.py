"""What a module says of its part, and what was looked at before a start."""

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct, field

from lmstream.errors import LmstreamError
from lmstream.interfaces import DeadLetterSink

Verdict = Literal["ok", "warning", "failed"]


class Traits(Struct, frozen=True, kw_only=True):
    """What a module says of its part, as `TRAITS`, before any is made."""

    takes: tuple[Literal["limits", "source"], ...] = ()
    """What `make` takes beside the settings, by name: `limits` of the engine; `source`, the source's settings."""
    service: str = ""
    """The AWS service that a sink or place of dead letters calls, as boto3 names it (`firehose`, `s3`). Credentials are
    then looked for before a start. Its `make` takes `client`: in Lambda the runtime's own boto3, with each call to be
    awaited. Its settings are OnAws."""
    finite: bool = False
    """A source that ends by itself: files. A person looks at its end. So log lines are
    plain, endpoints off unless set, dead letters in ./dead-letters unless set, and a run without a row ends with 4."""
    letters: Callable[[DeadLetterSink, Any], DeadLetterSink] | None = None
    """A source whose letters have to be completed: wraps the place of dead letters; gets the source's settings too."""
    store: Callable[[Any, Callable[[str], None]], Any] | None = None
    """Opens a place of dead letters for reading (a dead_letters.store.DeadLetterStore), from its settings and what gets
    a line about each thing left out: for `lmstream dlq`."""
    unbounded_bytes: int = 0
    """Bytes that a source's client takes for one partition whose batches inflate 20,000-fold; 0 when it has a bound."""
    commits: bool = True
    """A source that remembers what is committed, and does not hand it out again; files do not."""
    claims: bool = False
    """A sink whose rows land by claims: its source has to be one that can be told where to read on (Placed)."""
    placed: bool = False
    """A source that can be."""
    lanes: bool = False
    """A source that can be (see Laned)."""
    reads: Callable[[Any], Any] | None = None
    """A source whose ranges of offsets can be read beside its group: gets its settings, answers a lake.again.Read."""
    discards: bool = False
    """A sink that keeps nothing: what it took is nowhere afterwards. Sources that commit are refused with it."""
    dimensions: bool = False
    """A sink that lands dimension rows before the rows that need them; others are refused with `engine.dimensions`."""
    partitions: bool = False
    """A sink whose service places rows itself, by orgKey, metricKey and ts of their lines."""
    prints: bool = False
    """A sink whose rows go to standard output: one process at a time, and no counts beside them. It keeps nothing
    either: whoever reads may have read nothing yet."""


class Check(Struct, frozen=True):
    """One thing that was looked at before a start, and what came of it."""

    name: str
    verdict: Verdict
    said: str
    fix: str = field(default="", name="mend")  # the key of `validate --json` stays
    code: str = ""
    """What `lmstream explain` takes, of what failed."""

    @classmethod
    def refused(cls, name: str, error: LmstreamError) -> "Check":
        """What failed with this error."""
        return cls(name, "failed", f"{error.code} {error.detail}", error.fix, error.code)
