"""Tokens of an OAuth server, by client credentials (RFC 6749, 4.4): asked for when the last one ends soon."""

import base64
import contextlib
import ipaddress
import json
import time
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

from lmstream import bounded
from lmstream.bounded import BoundError
from lmstream.errors import ConfigError, SourceError

_SECONDS: Final = 10.0  # for the server to answer
_BYTES: Final = 256 * 1024  # of an answer; tokens have a few KiB
_USUAL: Final = 300.0  # seconds a token lives when the server does not say


def checked(url: str) -> str:
    """Refuse an address that would send the client's secret in the clear. Raises ConfigError."""
    parts = urlsplit(url)
    local = parts.hostname == "localhost"
    with contextlib.suppress(ValueError):
        local = local or ipaddress.ip_address(parts.hostname or "").is_loopback
    if not parts.hostname or parts.scheme not in {"https", "http"} or (parts.scheme == "http" and not local):
        raise ConfigError("config.invalid", f"oauth_url: {url!r} is not https://HOST/PATH")
    return url


async def asked(url: str, client: str, secret: str, scope: str) -> tuple[str, float]:
    """A token and its end in unix seconds. Raises SourceError `source.sasl` with the server's own words."""
    import aiohttp  # noqa: PLC0415 - only who uses an OAuth server needs it

    form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
    place = f"oauth_url {url}"
    known = f"{quote_plus(client)}:{quote_plus(secret)}"  # RFC 6749, 2.3.1
    headers = {"Authorization": f"Basic {base64.b64encode(known.encode()).decode()}"}
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=form, headers=headers, allow_redirects=False) as answer,
        ):
            body = await bounded.read_async(answer.content, _BYTES, place)
            status = answer.status
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        what = str(error) or f"no answer in {_SECONDS:.0f} s"
        raise SourceError("source.sasl", f"{place}: {type(error).__name__}: {what}") from error
    except BoundError as error:
        raise SourceError("source.sasl", error.detail) from error
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if status != 200 or not isinstance(found, dict):  # noqa: PLR2004 - HTTP OK
        said = found if isinstance(found, dict) else {}
        words = " ".join(str(said[name])[:200] for name in ("error", "error_description") if name in said)
        raise SourceError("source.sasl", f"{place} answers {status}: {words or 'no token, and not a JSON object'}")
    token, life = found.get("access_token"), found.get("expires_in", _USUAL)
    if not isinstance(token, str) or not token or not token.isascii() or isinstance(life, bool):
        raise SourceError("source.sasl", f"{place}: the response has no access_token")
    if not isinstance(life, int | float) or not life > 0:
        raise SourceError("source.sasl", f"{place}: expires_in is not a number of seconds: {str(life)[:50]!r}")
    return token, time.time() + life
