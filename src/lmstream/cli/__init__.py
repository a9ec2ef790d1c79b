"""The command line: one file a verb. Data goes to stdout, talk to stderr; exit codes are the same for every verb."""

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from textwrap import dedent, indent
from typing import Final

from lmstream.cli import terminal
from lmstream.errors import REASONS, ConfigError, LmstreamError, SinkError, more
from lmstream.observability.unblocked import unblocked

OK, FAILED, USAGE, NOT_VERIFIED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes: done; a run-time error; usage or configuration; rows lost or phantom; some records were dead-lettered
and --strict was given; stopped by the keyboard."""

# A verb, one sentence, examples of at most 78 columns: longer ones would be wrapped, and pasted as two commands.
# Verbs are imported when they are called: --help stays quick, and needs no extra of another verb.
_VERBS: Final[dict[str, tuple[str, str]]] = {
    "demo": (
        "The whole job on embedded parts: broker with mTLS, bundles, consumer, Firehose, SQL, verdict.",
        """
        lmstream demo
        lmstream demo --bundles 2000 --dir ./lmstream-demo
        """,
    ),
    "run": (
        "Any source to any sink: records in, rows out; offsets are committed only for what is durable.",
        """
        lmstream run --config lmstream.toml
        lmstream run --files ./bundles --org acme --landed ./landed
        cat bundle.json | lmstream run --files - --org acme --sink stdout
        lmstream run --bootstrap b-1.example:9094 --topic lm.metrics.otlp \\
            --ca ca.pem --cert client.pem --key client.key --org acme \\
            --stream lm-metrics --dead-letters ./dead-letters
        """,
    ),
    "publish": (
        "Generate LMDP bundles and publish them to a topic.",
        """
        lmstream publish --bootstrap 127.0.0.1:9092 --topic lm.metrics.otlp \\
            --count 1000 --verifiable log.jsonl
        lmstream publish --bootstrap 127.0.0.1:9092 --topic lm.metrics.otlp \\
            --duration 60 --rate 50 --format protobuf
        """,
    ),
    "lag": (
        "How far the consumer group is behind: records, time, and the time until rows are lost.",
        """
        lmstream lag --config lmstream.toml
        lmstream lag --bootstrap b-1.example:9094 --topic lm.metrics.otlp \\
            --group lmstream --watch 5
        """,
    ),
    "skip": (
        "Let a stopped consumer group pass over what it cannot read in one partition.",
        """
        lmstream skip lm.metrics.otlp/3 --to 1205 --config lmstream.toml --dry-run
        lmstream skip lm.metrics.otlp/3 --to 1205 --config lmstream.toml
        """,
    ),
    "health": (
        "Ask a running host for its health: exit 0 when it is well, 1 when not. For health checks of containers.",
        """
        lmstream health
        lmstream health --ready --address 127.0.0.1:9464
        """,
    ),
    "inspect": (
        "Show a bundle, a row file, a dead letter or one Kafka record as table, tree or JSON.",
        """
        lmstream inspect bundle.json --rows --org acme
        cat bundle.pb | lmstream inspect - --format tree
        lmstream inspect lm.metrics.otlp/0/7 --bootstrap 127.0.0.1:9092
        """,
    ),
    "verify": (
        "Prove that every expected row landed: lost, duplicate, phantom, dead-lettered.",
        """
        lmstream verify --expected log.jsonl --landed ./landed \\
            --dead-letters ./dead-letters
        lmstream verify --topic lm.metrics.otlp --bootstrap 127.0.0.1:9092 \\
            --from 0=100 --to 0=200 --org acme --landed ./landed
        """,
    ),
    "query": (
        "SQL over landed rows with DuckDB: views `landed` (every row) and `rows` (one row an id).",
        """
        lmstream query --landed ./landed
        lmstream query "select metric, avg(value) from rows group by all" \\
            --landed ./landed --csv
        """,
    ),
    "explain": (
        "What a code or an alarm means, what to look at and how to fix it; the runbook, offline.",
        """
        lmstream explain LMS-3005
        lmstream explain time-to-data-loss
        lmstream explain
        """,
    ),
    "config": (
        "The settings a run would have, and where each comes from.",
        """
        lmstream config show --config lmstream.toml --origin
        """,
    ),
    "dlq": (
        "Dead letters: list, show, count, replay, remove.",
        """
        lmstream dlq ls ./dead-letters --reason 'decode.*' --since 2h
        lmstream dlq replay ./dead-letters --org acme --landed ./landed
        lmstream dlq purge s3://bucket/dead-letters --until 14d --yes
        """,
    ),
    "validate": (
        "Check before it costs a night or money: a configuration, what it names, or a deployment's quotas and cost.",
        """
        lmstream validate --config lmstream.toml
        lmstream validate --config lmstream.toml --connect
        lmstream validate --deployment deploy/cdk/settings.toml
        lmstream validate --deployment deploy/cdk/settings.toml --json
        """,
    ),
    "topic": (
        "Make the topic of the bundles on a cluster, with its retention and message size.",
        """
        lmstream topic --topic lm.metrics.otlp --partitions 6 --retention 72h \\
            --bootstrap b-1.example:9094 --ca ca.pem --cert admin.pem \\
            --key admin.key --yes
        """,
    ),
    "acls": (
        "Grant what brokers, administrator, lmstream and collectors need, in an order that is safe.",
        """
        lmstream acls --topic lm.metrics.otlp --bootstrap b-1.example:9094 \\
            --ca ca.pem --cert admin.pem --key admin.key \\
            --brokers 'User:CN=*.example' --administrator User:CN=admin \\
            --reader User:CN=lmstream --collector User:CN=collector --yes
        """,
    ),
    "telemetry": (
        "The catalogue of metrics, and what is made of it: alarms for Prometheus, a dashboard for Grafana.",
        """
        lmstream telemetry ls
        lmstream telemetry prometheus > rules.yaml
        lmstream telemetry grafana > dashboard.json
        """,
    ),
    "schema": (
        "Print the row contract as JSON Schema, Glue columns, Athena DDL or a Markdown table.",
        """
        lmstream schema json
        lmstream schema sql
        """,
    ),
}

_BELOW: Final[dict[str, dict[str, str]]] = {
    "dlq": {
        "ls": "List dead letters, a line each.",
        "show": "Show dead letters in full: why, which points, how the bytes begin.",
        "stats": "Count dead letters by partition and reason.",
        "replay": "Send dead letters through the engine again; without --yes only say what would come of it.",
        "purge": "Remove dead letters for good; without --yes only say which.",
    },
    "telemetry": {
        "ls": "List all metrics with their names in Prometheus and CloudWatch.",
        "prometheus": "Print the alarms as a rule file for Prometheus.",
        "grafana": "Print a dashboard for Grafana.",
    },
    "config": {"show": "Print every setting, secrets masked; --origin says where each comes from."},
}
"""Verbs of verbs."""

_ACTS: Final = ("run", "publish", "skip", "topic", "acls", "dlq replay", "dlq purge")
"""Verbs that change something. Who reads what they print has no say in whether it was done."""


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one verb; answer its exit code. Expected errors are one message; others one line unless --debug is given."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    debug = "--debug" in arguments or _debugging()
    arguments = [a for a in arguments if a != "--debug"]
    terminal.streams_in_place()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show is escaped, as on stderr
    # A service outlives whoever reads its log.
    with unblocked() if arguments[:1] == ["run"] else contextlib.nullcontext():
        return guarded(
            lambda: _run(arguments, debug=debug), debug=debug, acts=" ".join(arguments[:2]).startswith(_ACTS)
        )


def guarded(work: Callable[[], int], *, debug: bool | None = None, acts: bool = True) -> int:
    """Do the work; answer its exit code, or that of its error, which is said in one line. `acts` is whether it does
    more than print: then a reader that went away in the middle is no success."""
    debug = _debugging() if debug is None else debug
    try:
        return _flushed(work())
    except LmstreamError as e:
        if debug:
            _trace(e)
        _complain(str(e))
        return e.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError as e:
        if not terminal.reader_has_gone():
            return _unexpected(e, debug=debug)
        terminal.deaf()  # keep the interpreter from saying so at exit
        if acts:
            _complain(str(SinkError("sink.pipe")))
        return FAILED if acts else OK  # `lmstream query | head`: not our error
    except Exception as e:  # noqa: BLE001 - the last line of defence: a bug is one line, its traceback is asked for
        return _unexpected(e, debug=debug)


def _unexpected(error: Exception, *, debug: bool) -> int:
    if debug:
        _trace(error)
    if missing := _missing(error):
        _complain(str(missing))
        return missing.exit_code
    if _starved(error):
        why = REASONS["machine.files"]
        _complain(f"{why.code} {why.meaning}: {error} [machine.files]. Fix: {why.fix}. {more(why.code)}")
        return FAILED
    why = REASONS["bug.unexpected"]
    _complain(
        f"{why.code} unexpected {type(error).__name__}: {error} [bug.unexpected]. Fix: {why.fix}. {more(why.code)}"
    )
    return FAILED


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()  # here, where a reader that went away is no error; at exit it would be
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as e:  # closed, or a full disk behind a redirection
        terminal.deaf()
        _complain(f"standard output cannot be written: {e}")
        return code or FAILED
    return code


def _missing(error: Exception) -> ConfigError | None:
    from lmstream.config.plugins import extra_missing

    return extra_missing(error, "this command")


def _starved(error: Exception) -> bool:
    """Whether a file could not be opened because too many are; a library that cannot be loaded says it in words."""
    if isinstance(error, OSError):
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error)


def _debugging() -> bool:
    return os.environ.get("LMSTREAM_DEBUG", "") not in {"", "0"}


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        import cyclopts
    except ImportError as e:
        raise ConfigError("config.extra", "the command line needs: pip install 'lmstream[cli]'") from e

    from lmstream import __version__

    app = cyclopts.App(
        name="lmstream",
        help="LogicMonitor metrics bundles in, flat rows out, and proof that none was lost.",
        help_format="plaintext",
        help_epilogue="First time here: lmstream demo\nEvery verb has --help with examples; --debug shows tracebacks.",
        version=__version__,
        default_parameter=cyclopts.Parameter(negative=(), show_default=_shown_default),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, (text, examples) in _VERBS.items():
        epilogue = "Examples:\n" + indent(dedent(examples).strip(), "  ")
        if below := _BELOW.get(name):
            verb = cyclopts.App(name=name, help=text, help_epilogue=epilogue)
            for each, what in below.items():
                verb.command(f"lmstream.cli.{name}:{each}", name=each, help=what)
            app.command(verb)
        else:
            app.command(f"lmstream.cli.{name}:{name}", name=name, help=text, help_epilogue=epilogue)
    try:
        with terminal.logging_to_stderr(debug=debug):
            result = app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as e:
        why = REASONS["usage.arguments"]
        text = f"{why.code} {e} [usage.arguments]. See: lmstream {_verb(arguments)}--help. {more(why.code)}"
        _complain(text.replace("\n", " "))
        return USAGE
    return result if isinstance(result, int) else OK


def _shown_default(value: object) -> str | None:
    """Answer a default as --help shows it: "False" and "()" say nothing."""
    return str(value) if value else None


def _verb(arguments: list[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in _VERBS else ""


def _trace(error: BaseException) -> None:
    from lmstream.cli.terminal import say

    for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
        say(line)


def _complain(text: str) -> None:
    terminal.say(f"lmstream: {terminal.clean(text, limit=4000)}")
