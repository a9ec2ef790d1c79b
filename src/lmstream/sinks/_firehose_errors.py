"""What every error of a Firehose call means for who retries: one table."""

import re
from collections.abc import Mapping
from typing import Final

from lmstream.aws.clock import CLOCK, is_clock
from lmstream.delivery.retry import unknown_outcome
from lmstream.model import Failure, Kind

_R, _P, _F = Kind.RETRYABLE, Kind.PERMANENT, Kind.FATAL_CONFIG

# Every error there is, by the service's code or by the exception's class name (any class of its MRO).
# What no line names is judged by HTTP status, and retryable without one: repeating loses nothing.
ERRORS: Final[Mapping[str, Kind]] = {
    # of the service, for a request or for one record of it
    "ServiceUnavailableException": _R,
    "ServiceUnavailable": _R,
    "InternalFailure": _R,
    "InternalError": _R,
    "InternalServerError": _R,
    "InternalServiceException": _R,
    "LimitExceededException": _R,
    "SlowDown": _R,
    "TooManyRequestsException": _R,
    "RequestLimitExceeded": _R,
    "ProvisionedThroughputExceededException": _R,
    "RequestTimeout": _R,
    "RequestTimeoutException": _R,
    "RequestExpired": _R,
    "ExpiredToken": _R,  # the provider renews it; healthy rows wait
    "ExpiredTokenException": _R,
    "KMSThrottlingException": _R,
    "ResourceNotFoundException": _F,
    "InvalidKMSResourceException": _F,
    "KMSDisabledException": _F,
    "KMSInvalidStateException": _F,
    "KMSNotFoundException": _F,
    "KMSAccessDeniedException": _F,
    "KMSOptInRequired": _F,
    "InvalidSourceException": _F,
    "InvalidSignatureException": _F,
    "SignatureDoesNotMatch": _F,
    "IncompleteSignature": _F,
    "IncompleteSignatureException": _F,
    "InvalidClientTokenId": _F,
    "MissingAuthenticationToken": _F,
    "MissingAuthenticationTokenException": _F,
    "OptInRequired": _F,
    "UnknownOperationException": _F,  # the endpoint is some other service
    "InvalidArgumentException": _P,
    "ValidationException": _P,
    "ValidationError": _P,
    "SerializationException": _P,
    "RequestEntityTooLargeException": _P,
    # of the client
    "NoCredentialsError": _F,
    "PartialCredentialsError": _F,
    "NoRegionError": _F,
    "InvalidRegionError": _F,
    "UnknownEndpointError": _F,
    "EndpointProviderError": _F,
    "InvalidEndpointConfigurationError": _F,
    "ProfileNotFound": _F,
    "ConfigNotFound": _F,
    "ConfigParseError": _F,
    "ParamValidationError": _P,
    "CredentialRetrievalError": _R,  # the provider is away for a while
    "TokenRetrievalError": _R,
    "MetadataRetrievalError": _R,
    "HTTPClientError": _R,  # resets, closed connections, read timeouts: the outcome is unknown
    "ConnectionError": _R,
    "ResponseParserError": _R,
    "TimeoutError": _R,
    "OSError": _R,
}
PREFIXES: Final[tuple[tuple[str, Kind], ...]] = (
    ("Throttl", _R),
    ("AccessDenied", _F),
    ("UnrecognizedClient", _F),
    ("NotAuthorized", _F),
)
_STATUSES: Final[Mapping[int, Kind]] = {401: _F, 403: _F, 404: _F, 405: _F, 408: _R, 413: _P, 429: _R}
# Not 400: a proxy's page, a clock gone wrong or a code of next year says nothing about the rows.

_OF_DATA: Final = re.compile(r"\brecords?\.\w+\.member\.data\b|\brecords?'? size exceeds?\b", re.IGNORECASE)
"""Words that are about the bytes of a pack: the constraint on `records.N.member.data` (Length in API_Record.html of the
service's reference) and "Records size exceeds 4 MB limit". All else that is refused with a permanent code may be about
the stream or the request, like "This operation is not permitted on KinesisStreamAsSource delivery stream type"."""

# Exceptions, or what lies behind one, after which it is sure that no request went out.
_NOT_SENT: Final = frozenset(
    {
        "ConnectTimeoutError",
        "ProxyConnectionError",
        "SSLError",
        "ClientConnectorError",  # aiohttp's: no connection was made
        "gaierror",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "MetadataRetrievalError",
    }
)


def classify(code: str, status: int | None = None) -> Kind:
    """Kind of one error code of the service. `status` is the HTTP status, for codes that nobody listed."""
    kind = ERRORS.get(code)
    if kind is None:
        kind = next((kind for prefix, kind in PREFIXES if code.startswith(prefix)), None)
    return kind or _STATUSES.get(status or 0, _R)


def refusal(kind: Kind, code: str, message: str) -> Failure:
    """A verdict, which is unsure when it is permanent and its words are not about the data.

    A signature whose time is off says nothing against credentials or rights: the next one may do.
    """
    if is_clock(code, message):
        return Failure(_R, CLOCK, f"{code}: {message}")
    return Failure(kind, code, message, unsure=kind is _P and not _OF_DATA.search(message))


def failure_of(error: BaseException) -> Failure:
    """Translate an exception of a call into a verdict, as for a request of one pack."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and "Error" in response:  # botocore's ClientError
        code = str(response["Error"].get("Code", "Unknown"))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        # A body that was no JSON gives the status as code, or none: a proxy spoke, not the service.
        kind = _R if code.isdigit() and int(code) >= 500 else classify(code, status)  # noqa: PLR2004 - HTTP 5xx
        return refusal(kind, code, str(response["Error"].get("Message", error)))
    names = [cls.__name__ for cls in type(error).__mro__]
    kind = next((ERRORS[name] for name in names if name in ERRORS), _R)
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        kind = _F  # "Invalid endpoint: ...": a bare ValueError of botocore
    cause = type(getattr(error, "kwargs", {}).get("error"))
    if kind is not _R or _NOT_SENT.intersection(names) or _NOT_SENT.intersection(c.__name__ for c in cause.__mro__):
        return refusal(kind, names[0], str(error))
    return unknown_outcome(f"{names[0]}: {error}".removesuffix(": "))
