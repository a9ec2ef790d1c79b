"""Whether there are AWS credentials at all, asked before anything is read."""

import os
from typing import Final

from lmstream.errors import ConfigError

UNUSABLE: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "LoginRefreshRequired",
    }
)
"""Codes of AWS (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
docs.aws.amazon.com/firehose/latest/APIReference/CommonErrors.html), and botocore's exceptions, that say that a request
has no credentials that count: whatever it asked for, the next one fails too."""
REASON: Final = "place.credentials"


def missing() -> str:
    """Why there are no credentials; empty when there are some.

    Looks where the SDK looks: environment, profile, token file, container, and last the metadata service of the
    machine, which may take two seconds where there is none.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        return ""  # as in Lambda, where loading the SDK would take longer than all the rest
    try:
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - 100 ms, and an extra
        from botocore.session import Session  # noqa: PLC0415 - as above
    except ImportError:
        return ""  # the missing extra is told by who needs it
    try:
        found = Session().get_credentials()
    except BotoCoreError as e:
        return f"{type(e).__name__}: {e}"
    return "" if found else "neither the environment nor a profile nor a role has any"


def need(place: str) -> None:
    """Raise ConfigError where there are none to reach `place` with: before anything is asked of it."""
    if why := missing():
        raise ConfigError(REASON, f"{place}: {why}")
