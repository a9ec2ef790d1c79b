"""`lmstream health`: ask a running host, as a container's health check does."""

import re
import urllib.error
import urllib.request
from typing import Any, Final

from lmstream.cli import terminal
from lmstream.cli.flags import NO_FILE, FileFlags, Json
from lmstream.config.layers import layers_of, merge
from lmstream.errors import ConfigError

_BYTES: Final = 8_000  # of an answer: the reason, what is not settled, and who answers
_PATIENCE: Final = 4.0  # seconds: below the 5 of usual health checks
_WHO: Final = re.compile(r"^lmstream \S+, pid (\d+)(?:, group (.*))?$", re.MULTILINE)


def health(
    *,
    address: str = "",
    ready: bool = False,
    group: str | None = None,
    pid: int | None = None,
    as_json: Json = False,
    file: FileFlags = NO_FILE,
) -> int:
    """Exit with 0 if the host is alive (or ready), with 1 if it is not, does not answer, or another process answers.

    Parameters
    ----------
    address
        Address of its endpoints, as host:port. Default: endpoints.address, else 127.0.0.1:9464.
    ready
        Ask /readyz instead of /healthz: in the consumer group and settling what it reads.
    group
        Its consumer group; another one is another host. Default: source.group, where it is set.
    pid
        Its process id, where several hosts of one group share a machine.
    as_json
        Print one JSON object: whether it is well, where it was asked, and what it or nobody answered.
    """
    from lmstream.observability.endpoints import USUAL, parsed

    settings = _settings(file)
    configured = settings.get("endpoints", {}).get("address") or USUAL
    at, port = parsed(address, "--address") if address else parsed(configured)
    if at in ("0.0.0.0", "::"):  # noqa: S104 - it listens on all: it is asked on one
        at = "127.0.0.1"
    url = f"http://{at}:{port}/{'readyz' if ready else 'healthz'}"
    code, answered, text = _asked(url)
    if answered and (wrong := _another(text, group or settings.get("source", {}).get("group"), pid)):
        code, text, answered = 1, f"another process answers at {url}: {wrong}", False
    if as_json:
        who = _WHO.search(text) if answered else None
        found = {"ok": code == 0, "url": url, "answered": answered, "said": text.strip()}
        found |= {"pid": int(who[1]), "group": who[2]} if who else {"pid": None, "group": None}
        terminal.print_json(found, indent=None)
        return code
    if not answered:
        terminal.insist(text)
        return code
    for line in text.strip().splitlines():
        print(terminal.clean(line))
    return code


def _asked(url: str) -> tuple[int, bool, str]:
    """Ask it: the exit code, whether anybody answered, and what it said, or why nobody did."""
    # No proxy: a health check must not leave the machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PATIENCE) as answer:
            return 0, True, answer.read(_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as e:
        return 1, True, e.read(_BYTES).decode(errors="replace")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
        return 1, False, f"{url} does not answer: {terminal.clean(_why(e))}"


def _why(error: Exception) -> str:
    """Why nobody answered, without the number of the error."""
    why = getattr(error, "reason", error)
    return str(getattr(why, "strerror", None) or why)


def _another(text: str, group: str | None, pid: int | None) -> str:
    """Answer how this is another process than the one that is asked for; empty when it is that one."""
    who = _WHO.search(text)
    if who is None:
        return "it does not say that it is lmstream"
    expected = [f"pid {pid}"] if pid is not None and int(who[1]) != pid else []
    expected += [f"group {group}"] if group and who[2] is not None and who[2] != group else []
    return terminal.clean(f"{who[0]}; expected {', '.join(expected)}") if expected else ""


def _settings(file: FileFlags) -> dict[str, Any]:
    """Answer what file, environment and --set say, unchecked: the host has been started with it."""
    overrides = file.over()
    try:
        return merge(layers_of(file.config, None, overrides))
    except ConfigError as e:
        # The host runs on with the settings that it started with: a file broken since is no reason to restart it.
        terminal.insist(f"{e.detail}: which group is expected is not known")
        return {}
