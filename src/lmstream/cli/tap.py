"""`lmstream tap`: rows of a running host as they are made."""

import http.client
import sys
from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import urlencode

from cyclopts import Parameter, validators

from lmstream.cli import terminal
from lmstream.cli.flags import NO_FILE, FileFlags
from lmstream.config.layers import layers_of, merge
from lmstream.errors import ConfigError, LmstreamError, SourceError
from lmstream.observability.endpoints import parsed

USUAL: Final = "127.0.0.1:9474"
_LEFT_OUT: Final = b"# left out "
_QUIET: Final = 10.0  # seconds without a line after which the host is gone: it says something each second, at most
_LINE: Final = 64 * 1024 * 1024
Rate = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1_000))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1_000_000))]


def tap(
    *,
    address: str = "",
    org: str = "",
    metric: str = "",
    device: str = "",
    row: str = "",
    rate: Rate = 10.0,
    count: Count = 100,
    mask: tuple[str, ...] = (),
    file: FileFlags = NO_FILE,
) -> int:
    """Show rows of a running host as they are made, one line of JSON each. The host needs endpoints.tap.

    It never slows the run: the host looks at rows for 2 % of its time at most. How many rows it left out is said at the
    end, on stderr.

    Parameters
    ----------
    address
        Address of the tap, as host:port. Default: endpoints.tap, else 127.0.0.1:9474.
    org
        Rows of this organization (orgId).
    metric
        Rows of metrics of this name, with * and ? for any characters.
    device
        Rows of this device, by deviceId or deviceName, with * and ?.
    row
        The row of this rowId, or all rows of a record, by the part before the colon.
    rate
        Rows a second; more are left out.
    count
        Rows after which it ends.
    mask
        Attribute or field whose values are shown as ***; may be repeated. endpoints.tap_mask hides them from everybody.
    """
    at = address or _settings(file) or USUAL
    parsed(at, "--address" if address else "endpoints.tap")
    asked = {"org": org, "metric": metric, "device": device, "row": row, "rate": rate, "count": count}
    query = urlencode(
        [(name, value) for name, value in asked.items() if value != ""] + [("mask", each) for each in mask]
    )
    shown = left_out = 0
    try:
        for line in _lines(at, query):
            if line.startswith(_LEFT_OUT):
                left_out = int(line.removeprefix(_LEFT_OUT))
                continue
            shown += 1
            sys.stdout.write(line.decode("utf-8", "replace"))
            sys.stdout.flush()
    finally:
        more = f"; {left_out:,} more were left out (--rate, --count, or no time to look)" if left_out else ""
        if shown or sys.exc_info()[0] is None:
            terminal.say(f"{shown:,} rows{more}")
    return 0


def _lines(at: str, query: str) -> Iterator[bytes]:
    """Lines of the host. Raises LmstreamError."""
    connection = http.client.HTTPConnection(at, timeout=_QUIET)
    try:
        connection.request("GET", f"/tap?{query}", headers={"Host": at})
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            said = terminal.clean(answer.read(1000).decode(errors="replace").strip())
            raise LmstreamError("usage.arguments", f"the tap at {at} answers {answer.status}: {said}")
        while line := answer.readline(_LINE):
            yield line
    except (OSError, http.client.HTTPException) as e:
        what = f"no tap answers at {at}: {getattr(e, 'strerror', None) or e or type(e).__name__}"
        fix = f'set endpoints.tap = "{USUAL}" on the host (it is off unless it is set), or name its --address'
        raise SourceError("source.unreachable", what, fix) from e
    finally:
        connection.close()


def _settings(file: FileFlags) -> str:
    """The address that file, environment and --set say."""
    found = merge(layers_of(file.config, None, file.over())).get("endpoints", {}).get("tap", "")
    if not isinstance(found, str):
        raise ConfigError("config.invalid", f"endpoints.tap is {found!r}, not host:port")
    return found
