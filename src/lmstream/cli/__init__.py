"""The command line: one file a verb. Data goes to stdout, talk to stderr; exit codes are the same for every verb."""

import sys
from collections.abc import Sequence

from lmstream.cli.streams import streams_in_place
from lmstream.cli.verbs import verbs

__all__ = ["main", "verbs"]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one verb; answer its exit code. What is asked most often, and by every completion, is answered without the
    parser and without the engine: importing them takes longer than the answer."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if arguments[:1] == ["help"]:
        arguments = [*(each for each in arguments[1:] if each != "--help"), "--help"]
    if not arguments or arguments in (["--help"], ["-h"]):
        from lmstream.cli.root_help import text

        return _print(text())
    if arguments in (["--version"], ["version"]):
        from lmstream.cli.installation import text as about

        return _print(about())
    if arguments[:1] == ["__values"]:  # what completion scripts ask, at each press of the tabulator
        from lmstream.cli.values import values

        return _print("\n".join(each for kind in arguments[1:] for each in values(kind)))
    from lmstream.cli.invocation import invoked

    return invoked(arguments)


def _print(text: str) -> int:
    streams_in_place()
    print(text)
    return 0
