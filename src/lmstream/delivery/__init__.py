"""From records to verdicts: batching, requests, retries, dead letters, within a budget of memory."""

from lmstream.delivery.circuit_breaker import BreakerPolicy
from lmstream.delivery.in_flight import Counts
from lmstream.delivery.pipeline import Pipeline, Settled
from lmstream.delivery.process_batch import process
from lmstream.delivery.retry import DeliveryPolicy
from lmstream.delivery.rolling import RollPolicy

__all__ = ["BreakerPolicy", "Counts", "DeliveryPolicy", "Pipeline", "RollPolicy", "Settled", "process"]
