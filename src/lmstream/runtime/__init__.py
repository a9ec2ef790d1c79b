"""The loop of a host that polls: poll, submit, commit what is settled, drain, stop."""

from lmstream.runtime.loop import Runtime, sink_error
from lmstream.runtime.offset_ledger import OffsetLedger
from lmstream.runtime.policy import RuntimePolicy
from lmstream.runtime.progress import Progress

__all__ = ["OffsetLedger", "Progress", "Runtime", "RuntimePolicy", "sink_error"]
