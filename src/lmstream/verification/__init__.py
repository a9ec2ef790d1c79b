"""Prove that every expected row landed: what was expected, what landed, and the report of the two."""

from lmstream.verification.checker import Checker
from lmstream.verification.expected import Expected, expectation, log_entries
from lmstream.verification.lake import verify_lake
from lmstream.verification.report import Report, Tally
from lmstream.verification.topics import Judged, Topics
from lmstream.verification.verify import verify

__all__ = [
    "Checker",
    "Expected",
    "Judged",
    "Report",
    "Tally",
    "Topics",
    "expectation",
    "log_entries",
    "verify",
    "verify_lake",
]
