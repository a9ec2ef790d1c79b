"""A strict Amazon S3 on 127.0.0.1: the calls that lmstream makes, conditional writes, listings, and faults on demand.

Objects live in memory, or as files below a folder when one is given, where the next start finds them. What the API
reference does not allow is refused: docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html, API_ListObjectsV2.html,
API_GetObject.html. One event loop handles all calls, so that of two conditional writes of one key one is first; that is
what S3 promises (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
"""

import asyncio
import base64
import re
from collections import Counter, deque
from hashlib import md5
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

from lmstream.errors import SinkError
from lmstream.lab.part import HOST, Part, reset
from lmstream.lab.s3_objects import TYPE, Files, S3Object
from lmstream.settings import MIB

BODY_BYTES: Final = 256 * MIB
PAGE: Final = 1000
"""Keys of one listing, at most."""
_META: Final = "x-amz-meta-"
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_TIME: Final = "2026-01-01T00:00:00.000Z"
_TEXTS: Final = {
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "BadDigest": (400, "The Content-MD5 or checksum value that you specified did not match what the server received."),
    "SlowDown": (503, "Please reduce your request rate."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "ConditionalRequestConflict": (409, "The conditional request cannot succeed due to a conflicting operation."),
    "AccessDenied": (403, "Access Denied"),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented."),
    "ServerSideEncryptionConfigurationNotFoundError": (404, "The server side encryption configuration was not found"),
    "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
    "KeyTooLongError": (400, "Your key is too long"),
}
KEY_BYTES: Final = 1024


class S3Lab(Part):
    """`async with S3Lab("lake") as s3`: use `s3.endpoint_url`."""

    def __init__(self, *buckets: str, folder: Path | None = None) -> None:
        """With a `folder` objects are files there, below the name of their bucket; what lies there is there."""
        self.buckets: dict[str, dict[str, S3Object]] = {name: {} for name in buckets}
        self.faults: deque[str] = deque()
        """The plan: each call uses up the first entry, a code of S3; `cut` drops the connection before anything is
        done, `lost` after it; empty is well."""
        self.requests: Counter[str] = Counter()
        """Calls by method, `GET list` apart."""
        self.port: int = 0
        """Where it listens; set before the start for a certain one."""
        self._files = Files(folder) if folder is not None else None
        self._runner: web.AppRunner | None = None

    @property
    def endpoint_url(self) -> str:
        """For the SDK's endpoint_url."""
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        """Listen on a free port, or on `port` where it is set: the same one when it was started before."""
        if self._files is not None:
            for name, bucket in self.buckets.items():
                bucket.update(await asyncio.to_thread(self._files.found, name))
        application = web.Application(client_max_size=BODY_BYTES)
        application.router.add_route("*", "/{bucket}", self._answer)
        application.router.add_route("*", "/{bucket}/{key:.*}", self._answer)
        # S3 keeps a body as it comes, whatever its Content-Encoding says.
        runner = self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5, auto_decompress=False)
        try:
            await runner.setup()
            await web.TCPSite(runner, HOST, self.port).start()
        except OSError as e:
            await self.close()
            raise SinkError("sink.unreachable", f"the lab's S3 cannot listen: {e}") from e
        self.port = runner.addresses[0][1]

    def put(self, bucket: str, key: str, made: S3Object) -> S3Object:
        """Make or replace an object, as a service beside it would; answer it. Raises OSError."""
        if self._files is not None:
            made = self._files.keep(bucket, key, made)
        self.buckets[bucket][key] = made
        return made

    async def close(self) -> None:
        """Stop listening; objects stay."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        bucket = self.buckets.get(request.match_info["bucket"])
        key = request.match_info.get("key", "")
        fault = self.faults.popleft() if self.faults else ""
        if fault in _TEXTS:
            return _error(fault, request)
        if fault == "cut":
            return _cut(request)
        if bucket is None:
            return _error("NoSuchBucket", request)
        self.requests[f"{request.method} list" if not key else request.method] += 1
        answer = self._object(request, bucket, key, data) if key else self._bucket(request, bucket)
        return _cut(request) if fault == "lost" else answer

    def _bucket(self, request: web.Request, bucket: dict[str, S3Object]) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            return _error("NotImplemented", request)
        if "encryption" in request.query:
            return _error("ServerSideEncryptionConfigurationNotFoundError", request)
        if "lifecycle" in request.query:
            return _error("NoSuchLifecycleConfiguration", request)
        if "location" in request.query:
            return _xml("<LocationConstraint/>")
        if request.query.get("list-type") != "2":
            return _error("NotImplemented", request)
        return _listing(request, bucket)

    def _object(self, request: web.Request, bucket: dict[str, S3Object], key: str, data: bytes) -> web.Response:
        if len(key.encode()) > KEY_BYTES:
            return _error("KeyTooLongError", request)
        there = bucket.get(key)
        if there is not None and not there.there:
            del bucket[key]
            there = None
        match request.method:
            case "PUT":
                return self._put(request, key, there, data)
            case "DELETE":
                bucket.pop(key, None)
                if self._files is not None:
                    self._files.remove(request.match_info["bucket"], key)
                return web.Response(status=204)
            case "GET" | "HEAD":
                return _error("NoSuchKey", request) if there is None else _got(request, there)
        return _error("NotImplemented", request)

    def _put(  # noqa: PLR0911 - one refusal a line, in the order of the reference
        self, request: web.Request, key: str, there: S3Object | None, data: bytes
    ) -> web.Response:
        if "x-amz-copy-source" in request.headers or request.query:
            return _error("NotImplemented", request)
        if request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            data = _unchunked(data)
        said = request.headers.get("Content-MD5")
        if said is not None and said != base64.b64encode(md5(data, usedforsecurity=False).digest()).decode():
            return _error("BadDigest", request)
        never, only = request.headers.get("If-None-Match"), request.headers.get("If-Match")
        if never not in {None, "*"}:  # S3 expects * and nothing else
            return _error("NotImplemented", request)
        if never and there is not None:
            return _error("PreconditionFailed", request)
        if only is not None and there is None:
            return _error("NoSuchKey", request)
        if only is not None and there is not None and only.strip('"') != there.etag.strip('"'):
            return _error("PreconditionFailed", request)
        meta = {
            name.lower()[len(_META) :]: text for name, text in request.headers.items() if name.lower().startswith(_META)
        }
        made = S3Object(data, meta, request.headers.get("Content-Type", TYPE))
        return web.Response(headers={"ETag": self.put(request.match_info["bucket"], key, made).etag})


def _got(request: web.Request, there: S3Object) -> web.Response:
    if_match = request.headers.get("If-Match")
    if if_match is not None and if_match.strip('"') != there.etag.strip('"'):
        return _error("PreconditionFailed", request)
    headers = {"ETag": there.etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Accept-Ranges": "bytes"}
    headers |= {_META + name: text for name, text in there.meta.items()} | {"Content-Type": there.type}
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    data = there.data
    if found is None:
        return web.Response(body=data, headers=headers)
    start = int(found[1])
    if start >= len(data):
        return _error("InvalidRange", request)
    stop = min(len(data), int(found[2]) + 1 if found[2] else len(data))
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return web.Response(status=206, body=data[start:stop], headers=headers)


def _folded(key: str, prefix: str, delimiter: str) -> str:
    """The key, or what it has up to the first delimiter behind the prefix."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return key if at < 0 else key[: at + len(delimiter)]


def _listing(request: web.Request, bucket: dict[str, S3Object]) -> web.Response:
    query = request.query
    prefix, after = query.get("prefix", ""), query.get("start-after", "")
    after = base64.urlsafe_b64decode(token).decode() if (token := query.get("continuation-token")) else after
    most = min(PAGE, int(query.get("max-keys", PAGE)))
    names = {_folded(key, prefix, query.get("delimiter", "")) for key in bucket if key.startswith(prefix)}
    keys = sorted((each for each in names if each > after), key=str.encode)
    page = keys[:most]
    more = len(keys) > len(page)
    shown = [key for key in page if key not in bucket or bucket[key].there]
    encode = (lambda text: quote(text, safe="/")) if query.get("encoding-type") == "url" else escape
    parts = [f"<Prefix>{encode(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount><MaxKeys>{most}</MaxKeys>"]
    parts.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>")
    if query.get("encoding-type"):
        parts.append("<EncodingType>url</EncodingType>")
    if more:
        parts.append(
            f"<NextContinuationToken>{base64.urlsafe_b64encode(page[-1].encode()).decode()}</NextContinuationToken>"
        )
    for key in shown:
        if (each := bucket.get(key)) is None:
            parts.append(f"<CommonPrefixes><Prefix>{encode(key)}</Prefix></CommonPrefixes>")
            continue
        parts.append(
            f"<Contents><Key>{encode(key)}</Key><LastModified>{_TIME}</LastModified><ETag>{escape(each.etag)}</ETag>"
            f"<Size>{each.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    name = escape(request.match_info["bucket"])
    return _xml(f"<ListBucketResult><Name>{name}</Name>{''.join(parts)}</ListBucketResult>")


def _xml(text: str, status: int = 200) -> web.Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'
    return web.Response(status=status, text=body, content_type="application/xml", headers={"x-amz-request-id": "LAB"})


def _error(code: str, request: web.Request) -> web.Response:
    status, text = _TEXTS[code]
    if request.method == "HEAD":
        return web.Response(status=status, headers={"x-amz-request-id": "LAB"})
    return _xml(
        f"<Error><Code>{code}</Code><Message>{escape(text)}</Message><RequestId>LAB</RequestId></Error>", status
    )


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        reset(request.transport)
    return web.Response(status=500)


def _unchunked(data: bytes) -> bytes:
    """What an SDK sent in chunks, with a checksum behind them."""
    out, at = [], 0
    while at < len(data):
        line = data.index(b"\r\n", at)
        size = int(data[at:line].split(b";")[0], 16)
        if not size:
            break
        out.append(data[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return b"".join(out)
