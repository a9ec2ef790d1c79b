"""A stand-in for an MSK broker with IAM: checks the token as AWS documents it, then hands the connection to a broker.

The signature is computed here by hand from docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html,
so that it does not agree with the client by using the client's own code.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import ssl
import struct
from urllib.parse import parse_qsl, quote, urlsplit

_HANDSHAKE, _AUTHENTICATE, _VERSIONS = 17, 36, 18
_FAILED, _UNSUPPORTED = 58, 33


def problem(token, *, region, access_key, secret_key, session_token=None, now=None):  # noqa: PLR0911 - each says what is wrong
    """What is wrong with a token; None when nothing is."""
    try:
        if "=" in token:
            return "padding"
        url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError as error:
        return f"no base64url: {error}"
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, strict_parsing=True))
    agent = query.pop("User-Agent", "")
    signature = query.pop("X-Amz-Signature", "")
    date = query.get("X-Amz-Date", "")
    scope = f"{date[:8]}/{region}/kafka-cluster/aws4_request"
    expected = {
        "Action": "kafka-cluster:Connect",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": "900",
        "X-Amz-SignedHeaders": "host",
        **({"X-Amz-Security-Token": session_token} if session_token else {}),
    }
    if (parts.scheme, parts.netloc, parts.path) != ("https", f"kafka.{region}.amazonaws.com", "/"):
        return f"address {parts.scheme}://{parts.netloc}{parts.path}"
    if query != expected:
        return f"query {sorted(query.items() ^ expected.items())}"
    if not agent:
        return "no User-Agent"
    signed_at = dt.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    age = ((now or dt.datetime.now(dt.UTC)) - signed_at).total_seconds()
    if not -300 <= age <= 900:
        return f"signed {age:.0f} s ago"
    canonical = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items()))
    request = f"GET\n/\n{canonical}\nhost:{parts.netloc}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (date[:8], region, "kafka-cluster", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature):
        return "signature"
    return None


class IamBroker:
    """Listens with TLS at `port`; behind it is a plaintext listener of a real broker that says it is there."""

    def __init__(self, certificates, port, behind, **known):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates._server.configure_cert(self._context)
        self._port, self._behind, self._known = port, behind, known
        self.refused, self.taken = [], 0
        self._serving = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._context)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._serving.add(asyncio.current_task())
        host, _, port = self._behind.rpartition(":")
        there, away = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if await self._known_by_token(reader, writer, there, away):
                self.taken += 1
                await asyncio.gather(_copy(reader, away), _copy(there, writer))
        for each in (writer, away):
            each.close()
        self._serving.discard(asyncio.current_task())

    async def _known_by_token(self, reader, writer, there, away):
        while True:
            frame = await _frame(reader)
            key, version, correlation = struct.unpack_from(">hhi", frame)
            if key == _VERSIONS:
                away.write(struct.pack(">i", len(frame)) + frame)
                writer.write(_sized(await _frame(there)))
                continue
            (length,) = struct.unpack_from(">h", frame, 8)
            body = frame[10 + max(0, length) :]
            head = struct.pack(">i", correlation)
            if key == _HANDSHAKE:
                name = body[2:].decode()
                bad = name != "OAUTHBEARER"
                writer.write(_sized(head + struct.pack(">hi", _UNSUPPORTED if bad else 0, 1) + _text("OAUTHBEARER")))
                continue
            if key != _AUTHENTICATE or version > 1:
                return False  # a broker closes the connection of who asks before it is known
            said = self._judge(body[4:])
            if said:
                self.refused.append(said)
            answer = struct.pack(">h", _FAILED if said else 0)
            answer += _text(f"[{said}] Access denied") if said else struct.pack(">h", -1)
            answer += struct.pack(">i", 0) + (struct.pack(">q", 0) if version else b"")
            writer.write(_sized(head + answer))
            await writer.drain()
            return not said

    def _judge(self, message):
        # RFC 7628, 3.1: n,,^Aauth=Bearer TOKEN^A^A
        parts = message.decode().split("\x01")
        if parts[0] != "n,," or not parts[1].startswith("auth=Bearer ") or parts[-2:] != ["", ""]:
            return f"message {message!r}"
        return problem(parts[1].removeprefix("auth=Bearer "), **self._known)


async def _frame(reader):
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _sized(data):
    return struct.pack(">i", len(data)) + data


def _text(text):
    return struct.pack(">h", len(text)) + text.encode()


async def _copy(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
