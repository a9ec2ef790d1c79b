"""The parser: every verb of verbs.txt with its help. A verb's module is imported when the verb is called."""

import sys
from typing import Any, Final

import cyclopts
from cyclopts.help import DefaultFormatter

from lmstream.cli import terminal
from lmstream.cli.root_help import ABOUT
from lmstream.cli.verbs import verbs

EVERY: Final = "With every verb: -q says less, -v and -vv say more, --debug shows tracebacks."


class _Flowing(DefaultFormatter):
    """Help whose lines end where the terminal does, and not where those of a docstring happen to."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        for entry in panel.entries:
            text: Any = getattr(entry.description, "primary_renderable", None)
            if hasattr(text, "plain"):
                text.plain = " ".join(text.plain.split())
        super().__call__(console, options, panel)


def parser() -> cyclopts.App:
    """The application of all verbs. It answers what a verb returns, and raises what is wrong with the arguments."""
    app = cyclopts.App(
        name="lmstream",
        help=ABOUT,
        help_format="plaintext",
        help_formatter=_Flowing(),
        version_flags=(),
        default_parameter=cyclopts.Parameter(negative=(), show_default=_shown_default),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        # NO_COLOR takes colours away without this, and leaves what is bold.
        console=terminal.console(sys.stdout) if terminal.is_terminal(sys.stdout) else None,
    )
    for name, verb in verbs().items():
        group, _, below = name.partition(" ")
        if below:
            app[group].command(f"lmstream.cli.{group}:{below}", name=below, help=verb.text, help_epilogue=EVERY)
            continue
        about: dict[str, Any] = {
            "name": name,
            "group": verb.group,
            "help": verb.text,
            "help_epilogue": f"{EVERY}\n\nExamples:\n{verb.examples}",
        }
        if any(each.startswith(f"{name} ") for each in verbs()):
            app.command(cyclopts.App(**about))
        else:
            app.command(f"lmstream.cli.{name}:{name}", **about)
    return app


def _shown_default(value: object) -> str | None:
    """Answer a default as --help shows it: "False" and "()" say nothing."""
    return str(value) if value else None
