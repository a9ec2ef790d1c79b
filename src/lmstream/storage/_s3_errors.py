"""What every error of an S3 call means for who retries: one table, for both clients that speak with a bucket.

No error of S3 is Kind.PERMANENT: a bucket that refuses an object refuses it for how it is set up, never for its rows.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from lmstream.aws.clock import CLOCK, is_clock
from lmstream.aws.credentials import UNUSABLE
from lmstream.delivery.retry import unknown_outcome
from lmstream.delivery.sender import THROTTLING
from lmstream.model import Failure, Kind

_R, _F = Kind.RETRYABLE, Kind.FATAL_CONFIG
TAKEN: Final = "PreconditionFailed"
"""The only code that says that `If-None-Match: *` found an object of that name, or `If-Match` another version (412):
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html. 409 ConditionalRequestConflict does not:
"in case of concurrent requests ... S3 returns a 409 Conflict", and nothing need be there afterwards."""
THROTTLED: Final = "throttled"
SIGNING: Final = "sign in again, or run where a role is attached; the next request then succeeds without a restart"

# Codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and botocore's exceptions. What no line
# names is judged by HTTP status, and retryable without one: repeating loses nothing, for objects are made once.
_RETRYABLE: Final = frozenset(
    {
        "BadDigest",  # bytes that changed on the way
        "ConditionalRequestConflict",
        "ExpiredToken",  # the provider renews it; healthy rows wait
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TemporaryRedirect",  # a bucket that was made a moment ago
        "XAmzContentSHA256Mismatch",
    }
)
_PLAIN: Final = "use a bucket that accepts a plain PutObject with If-None-Match"
_FIXES: Final[Mapping[str, str]] = {
    "AccessDenied": "grant s3:PutObject, s3:GetObject and s3:ListBucket on the bucket, and kms:GenerateDataKey and "
    "kms:Decrypt on its key; look for a bucket policy that denies",
    "AccountProblem": "ask AWS Support about the account",
    "AllAccessDisabled": "enable access to the bucket",
    "AuthorizationHeaderMalformed": "set sink.region to the region of the bucket",
    "EntityTooLarge": "lower sink.object_bytes",
    "IllegalLocationConstraintException": "set sink.region to the region of the bucket",
    "InvalidAccessKeyId": SIGNING,
    "InvalidBucketName": "correct sink.bucket",
    "InvalidBucketState": _PLAIN,
    "InvalidObjectState": "restore the object, and let no lifecycle rule move objects to an archive class",
    "InvalidRequest": _PLAIN,
    "InvalidArgument": _PLAIN,
    "InvalidSecurity": SIGNING,
    "InvalidToken": SIGNING,
    "KeyTooLongError": "shorten sink.prefix or engine.path: a key has 1,024 bytes",
    "MetadataTooLarge": "upgrade lmstream: the object's metadata has more than 2 KB",
    "MethodNotAllowed": "check sink.endpoint_url: this address is no bucket",
    "NoSuchBucket": "create the bucket, or correct sink.bucket, sink.region or the account",
    "NotImplemented": "use a store that honours If-None-Match (docs/lake.md)",
    "NotSignedUp": "sign the account up for S3",
    "PermanentRedirect": "set sink.region to the region of the bucket",
    "SignatureDoesNotMatch": "check the secret key, and whether a proxy changes requests",
    # of botocore
    "NoCredentialsError": SIGNING,
    "PartialCredentialsError": SIGNING,
    "ProfileNotFound": "set AWS_PROFILE to a profile that exists",
    "NoRegionError": "set sink.region",
    "InvalidRegionError": "correct sink.region",
    "ParamValidationError": "correct sink.bucket",
    "ConfigParseError": "correct the configuration file of AWS",
    "EndpointProviderError": "correct sink.region or sink.endpoint_url",
    "InvalidEndpointConfigurationError": "correct sink.endpoint_url",
    "UnknownEndpointError": "correct sink.region",
    "SSOTokenLoadError": SIGNING,
    "UnauthorizedSSOTokenError": SIGNING,
    "LoginRefreshRequired": SIGNING,
}
_KMS: Final = "enable the bucket's KMS key, and grant kms:GenerateDataKey and kms:Decrypt on it"
_OTHERS: Final = "check sink.endpoint_url, and that no proxy answers in the place of the bucket"
_STATUSES: Final = frozenset({401, 403, 404, 405, 411, 413, 414, 416, 501})
"""Without a code that is known, these say that no request fares better. 400 does not: a proxy's page, or a code of next
year, says nothing about the bucket."""
_TOO_MANY: Final = 429
# Exceptions of botocore after which it is sure that no request went out.
_NOT_SENT: Final = frozenset(
    {
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "ProxyConnectionError",
        "SSLError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "MetadataRetrievalError",
    }
)


class Answer(NamedTuple):
    """What a bucket answered beside success."""

    status: int
    """HTTP; 0 when it is not known."""
    code: str
    """S3's own; empty when the answer has none, as that to a HEAD request, or a page of a proxy."""
    message: str


def failure(answer: Answer) -> Failure:
    """Judge an answer of the service."""
    status, code, message = answer
    if is_clock(code, message):  # says nothing against credentials or rights: the next signature has a new time
        return Failure(_R, CLOCK, f"{code}: {message}")
    if code not in THROTTLING and ("Throttl" in code or status == _TOO_MANY):
        return Failure(_R, THROTTLED, f"{code or status}: {message}")
    name = code or _named(status)
    fix = _fix(status, code)
    return _fatal(name, message, fix) if fix else Failure(_R, name, message)


def _fix(status: int, code: str) -> str:
    """What the operator can do about it; empty for what passes by itself."""
    if code.startswith("KMS."):
        return _KMS
    if code in _FIXES:
        return _FIXES[code]
    if code in _RETRYABLE or code in THROTTLING:
        return ""
    if code in UNUSABLE:
        return SIGNING
    return _OTHERS if status in _STATUSES else ""


def _named(status: int) -> str:
    return "ServiceUnavailable" if status == 503 else f"http_{status}"  # noqa: PLR2004 - HTTP


def _fatal(code: str, message: str, fix: str) -> Failure:
    return Failure(_F, code, f"{message.rstrip('. ') or 'no message'}. Fix: {fix}")


def named(name: str, message: str) -> Failure:
    """Judge an exception of the client by the name of its class."""
    if name in _FIXES:
        return _fatal(name, message, _FIXES[name])
    if name in _NOT_SENT:
        return Failure(_R, name, message)
    return unknown_outcome(f"{name}: {message}".removesuffix(": "))


# --- boto3 ---------------------------------------------------------------------------------------------------------


def of_boto(error: BaseException) -> Failure:
    """Judge what a call of boto3 raised."""
    if (answer := answer_of(error)) is not None:
        return failure(answer)
    names = [each.__name__ for each in type(error).__mro__]
    name = next((each for each in names if each in _FIXES or each in _NOT_SENT), names[0])
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        name = "InvalidEndpointConfigurationError"  # "Invalid endpoint: ...": a bare ValueError of botocore
    return named(name, str(error))


def answer_of(error: BaseException) -> Answer | None:
    """What the service answered, of a ClientError of botocore; None for any other exception."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping) or "Error" not in response:
        return None
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = str(response["Error"].get("Code", ""))
    # Of an answer without a body the SDK makes the status its code.
    code, status = ("", int(code)) if code.isdigit() else (code, status)
    return Answer(status if isinstance(status, int) else 0, code, str(response["Error"].get("Message", error)))


# --- obstore -------------------------------------------------------------------------------------------------------

# obstore 0.12 has no status, code or body of an answer, only a text, which begins with one of these; the key may hold
# any words, so they are matched with it. AlreadyExistsError alone says nothing: it is raised for 412, 409 and 304.
_BEGINNINGS: Final = (
    "Object at location {key} already exists: Request precondition failure for path {key}: ",
    "Object at location {key} already exists: Object at location {key} not modified: ",
    "Object at location {key} already exists: ",
    "Request precondition failure for path {key}: ",
    "Object at location {key} not found: ",
    "The operation lacked the necessary privileges to complete for path {key}: ",
    "The operation lacked valid authentication credentials for path {key}: ",
    "Generic S3 error: ",
)
_PERFORMING: Final = re.compile(r"Error performing PUT \S+ in \S+ - ")
_STATUS: Final = re.compile(r"Server returned non-2xx status code: (\d{3})[^:\n]*: ")
_REDIRECT: Final = "Received redirect without LOCATION"
_NO_KEYS: Final = re.compile(
    r"The operation lacked valid authentication credentials for path External AWS credential provider: (\w+): ([^\n]*)"
)
_KIND: Final = re.compile(r"\bHttpError \{\s+kind: (\w+),")
_CODE: Final = re.compile(
    r"\s*(?:<\?xml[^>]{0,100}\?>\s*)?<Error\b[^>]{0,200}>.{0,4096}?<Code>([\w.-]{1,100})</Code>", re.DOTALL
)
_MESSAGE: Final = re.compile(r"<Message>([^<]{0,1000})")
_READ: Final = 16_384
"""Characters of a text that are looked at: the SDK puts whole answers into it, whatever their size."""


def of_obstore(error: BaseException, key: str) -> Failure | Answer:
    """What came of a PUT of `key` with obstore: the answer of the service, or a failure without one."""
    text = str(error)[:_READ]
    if found := _NO_KEYS.match(text):
        return named(found[1], found[2])
    beginning = next((b for each in _BEGINNINGS if text.startswith(b := each.format(key=key))), "")
    if not beginning or not (began := _PERFORMING.match(text, len(beginning))):
        return unknown_outcome(f"{type(error).__name__}: {text.partition('Debug source:')[0].strip()[:500]}")
    if text.startswith(_REDIRECT, began.end()):
        return Answer(301, "PermanentRedirect", "the bucket is in another region")
    if status := _STATUS.match(text, began.end()):
        code, message = parsed(text[status.end() :].partition("\n\nDebug source:")[0])
        return Answer(int(status[1]), code, message)
    what = text[began.end() :].partition("\n")[0]
    kind = _KIND.search(text, began.end())
    if kind is not None and kind[1] == "Connect":
        return Failure(_R, "connect_failed", what)
    return unknown_outcome(f"{what} ({kind[1]})" if kind else what)


def parsed(body: str) -> tuple[str, str]:
    """Code and message of the XML of an error; no code when it is not S3's."""
    if not (code := _CODE.match(body)):
        return "", " ".join(body.split())[:200] or "an answer without a body"
    message = _MESSAGE.search(body)
    return code[1], message[1] if message else ""
