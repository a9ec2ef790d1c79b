"""`lmstream version`: what this installation is."""

from lmstream.cli import installation, terminal
from lmstream.cli.flags import Json


def version(*, as_json: Json = False) -> int:
    """Show version, commit, Python, the extras that are installed, and the engine.

    Parameters
    ----------
    as_json
        Print one JSON object.
    """
    if as_json:
        terminal.print_json(installation.about(), indent=None)
    else:
        print(installation.text())
    return 0
