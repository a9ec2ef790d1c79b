"""Refusals of AWS that are about this machine's clock, whichever service answers them."""

import re
from typing import Final

CLOCK: Final = "sink.clock"
"""A key of errors.REASONS."""
_CODES: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
"""Of S3 (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html: more than 15 minutes off) and of services with
the query protocol (docs.aws.amazon.com/firehose/latest/APIReference/CommonErrors.html)."""
_SIGNATURES: Final = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignature"})
_WORDS: Final = re.compile(
    r"signature (has )?expired|signature not yet current|is (now earlier|still later) than", re.IGNORECASE
)
"""What those codes say when the signature's time is off, "Signature expired: 20260101T000000Z is now earlier than ..."
(docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html); else the secret key is wrong."""


def is_clock(code: str, message: str) -> bool:
    """Whether a refusal says that the time of the request is off: the next request is signed anew, with a new time."""
    return code in _CODES or (code in _SIGNATURES and bool(_WORDS.search(message)))
