"""From records to verdicts: batching, requests, retries, dead letters, within a budget of memory."""

from lmstream.delivery.circuit_breaker import BreakerPolicy
from lmstream.delivery.counts import Counts
from lmstream.delivery.in_flight import Settled
from lmstream.delivery.pipeline import Pipeline
from lmstream.delivery.process_batch import process
from lmstream.delivery.retry import DeliveryPolicy
from lmstream.delivery.rolling import RollPolicy
from lmstream.delivery.snapshot import Snapshot
from lmstream.delivery.sums import Sums

__all__ = [
    "BreakerPolicy",
    "Counts",
    "DeliveryPolicy",
    "Pipeline",
    "RollPolicy",
    "Settled",
    "Snapshot",
    "Sums",
    "process",
]
