"""Prove that every expected row landed: what was expected, what landed, and the report of the two."""

from lmstream.verification.checker import Checker
from lmstream.verification.expected import Expected, Judged, expectation, log_entries, topic_entries
from lmstream.verification.report import Report, Tally
from lmstream.verification.verify import verify

__all__ = ["Checker", "Expected", "Judged", "Report", "Tally", "expectation", "log_entries", "topic_entries", "verify"]
