"""`lmstream health`: ask a running host, as a container's health check does."""

import urllib.error
import urllib.request
from typing import Annotated, Final

from cyclopts import Parameter

from lmstream.cli import terminal

_BYTES: Final = 4_000  # of an answer: the reason, and what is not settled
_PATIENCE: Final = 4.0  # seconds: below the 5 of usual health checks


def health(
    *,
    address: Annotated[str, Parameter(env_var="LMSTREAM_ENDPOINTS__ADDRESS")] = "",
    ready: bool = False,
) -> int:
    """Exit with 0 if the host is alive (or ready), with 1 if it is not or does not answer.

    Parameters
    ----------
    address
        Address of its endpoints, as host:port. Default: 127.0.0.1:9464.
    ready
        Ask /readyz instead of /healthz: in the consumer group and making progress.
    """
    from lmstream.observability.endpoints import USUAL, parsed

    host, port = parsed(address or USUAL)
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it listens on all: it is asked on one
        host = "127.0.0.1"
    url = f"http://{host}:{port}/{'readyz' if ready else 'healthz'}"
    # No proxy: a health check must not leave the machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PATIENCE) as answer:
            _print(answer.read(_BYTES))
            return 0
    except urllib.error.HTTPError as e:
        _print(e.read(_BYTES))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
        terminal.say(f"{url} does not answer: {terminal.clean(str(getattr(e, 'reason', e)))}")
    return 1


def _print(answer: bytes) -> None:
    for line in answer.decode(errors="replace").strip().splitlines():
        print(terminal.clean(line))
