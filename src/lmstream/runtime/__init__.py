"""The loop of a host that polls: poll, submit, commit what is settled, drain, stop."""

from lmstream.runtime.loop import Runtime
from lmstream.runtime.offset_ledger import OffsetLedger
from lmstream.runtime.policy import RuntimePolicy
from lmstream.runtime.progress import Progress
from lmstream.runtime.snapshot import RunSnapshot, RunState
from lmstream.runtime.watcher import sink_error

__all__ = ["OffsetLedger", "Progress", "RunSnapshot", "RunState", "Runtime", "RuntimePolicy", "sink_error"]
