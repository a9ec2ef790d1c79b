"""What a first configuration needs to know: each question with its flag, its setting and what it depends on."""

import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from lmstream.cli import terminal
from lmstream.errors import ConfigError

Answers = dict[str, Any]
"""Settings by key path, as far as they are known."""
_SECURITY: Final = {"9094": "ssl", "9096": "sasl_ssl", "9098": "sasl_ssl"}
"""How clients connect to these ports of MSK: docs.aws.amazon.com/msk/latest/developerguide/port-info.html."""
_MECHANISMS: Final = {"9096": "SCRAM-SHA-512", "9098": "AWS_MSK_IAM"}
_SINKS: Final = ("firehose", "s3", "local")
_SINK_FLAGS: Final = "--stream (or --bucket, or --landed)"
_TIMES: Final = 5  # that one question is asked


class Question(NamedTuple):
    """One thing to know."""

    key: str
    """The setting that it fills."""
    flag: str
    text: str
    usual: Callable[[Answers], str] = lambda _: ""
    """What is taken when nothing is said; empty: nothing."""
    when: Callable[[Answers], bool] = lambda _: True
    """Whether it is asked, by what is known already."""
    needed: bool = False
    one_of: tuple[str, ...] = ()
    seldom: bool = False
    """Whether it is asked on a terminal only: without an answer there is a good default."""


def _port(known: Answers) -> str:
    return str(known.get("source.bootstrap", "")).split(",")[0].rpartition(":")[2]


def _tls(known: Answers) -> bool:
    return str(known.get("source.security", "")).endswith("ssl")


def _mtls(known: Answers) -> bool:
    return known.get("source.security") == "ssl"


def _with_password(known: Answers) -> bool:
    return str(known.get("source.sasl_mechanism", "")).startswith(("SCRAM", "PLAIN"))


def _sink(kind: str) -> Callable[[Answers], bool]:
    return lambda known: known.get("sink.type") == kind


CONNECTION: Final = (
    Question("source.bootstrap", "--bootstrap", "Brokers, as host:port,host:port", needed=True),
    Question(
        "source.security",
        "--set source.security=",
        "How clients connect to them",
        lambda known: _SECURITY.get(_port(known), "plaintext"),
        one_of=("plaintext", "ssl", "sasl_ssl", "sasl_plaintext"),
    ),
    Question("source.ca", "--ca", "CA certificates in PEM, empty for the system's", when=_tls, seldom=True),
    Question("source.cert", "--cert", "Client certificate in PEM, empty for none", when=_mtls, seldom=True),
    Question(
        "source.key",
        "--key",
        "Its private key in PEM",
        when=lambda known: bool(known.get("source.cert")) and not str(known["source.cert"]).startswith("awssm:"),
        seldom=True,
    ),
    Question(
        "source.key_password",
        "--key-password",
        "Where the key's password is, env:NAME or file:PATH, empty for none",
        when=lambda known: bool(known.get("source.key")),
        seldom=True,
    ),
    Question(
        "source.sasl_mechanism",
        "--sasl",
        "SASL mechanism",
        lambda known: _MECHANISMS.get(_port(known), "SCRAM-SHA-512"),
        when=lambda known: str(known.get("source.security", "")).startswith("sasl"),
        one_of=("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "AWS_MSK_IAM"),
    ),
    Question("source.sasl_username", "--sasl-username", "User", when=_with_password, seldom=True),
    Question(
        "source.sasl_password",
        "--sasl-password",
        "Where the password is: env:NAME, file:PATH or awssm:NAME",
        when=_with_password,
        needed=True,
    ),
)
"""How the brokers are reached."""
RUN: Final = (
    Question("source.topics", "--topic", "Topic of the bundles", lambda _: "lm.metrics.otlp", needed=True),
    Question("engine.org_id", "--org", "Organization of the rows", needed=True),
    Question("source.group", "--group", "Consumer group", lambda known: f"{known['engine.org_id']}-rows"),
    Question("sink.type", "--sink", "Where rows go", lambda _: "firehose", needed=True, one_of=_SINKS),
    Question("sink.stream", "--stream", "Firehose stream", when=_sink("firehose"), needed=True),
    Question("sink.bucket", "--bucket", "Bucket", when=_sink("s3"), needed=True),
    Question("sink.prefix", "--prefix", "Prefix in it, empty for its root", when=_sink("s3"), seldom=True),
    Question(
        "sink.region",
        "--region",
        "AWS region, empty for that of the environment",
        when=lambda known: known.get("sink.type") in ("firehose", "s3"),
        seldom=True,
    ),
    Question("sink.root", "--landed", "Landing folder", lambda _: "./landed", when=_sink("local"), needed=True),
    Question(
        "dead_letters.root",
        "--dead-letters",
        "Folder of dead letters, or s3://BUCKET/PREFIX; it must outlive the process",
        lambda _: "./dead-letters",
        when=lambda known: "dead_letters.type" not in known,
    ),
)
"""What is read, and where it goes."""


def asking() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(known: Answers, questions: tuple[Question, ...]) -> None:
    """Ask what is not known yet, one question after the other."""
    for question in questions:
        if question.key not in known and question.when(known) and (answer := _asked(question, known)):
            take(known, question.key, answer)


def fill(known: Answers) -> None:
    """Take what is usual for what is not known. ConfigError names all that there is no usual answer for."""
    missing = []
    for question in (*CONNECTION, *RUN):
        if question.key in known or not question.when(known):
            continue
        # A topic, or where rows go, is nothing to guess where nobody is asked.
        if question.needed:
            missing.append(question)
        elif usual := question.usual({"engine.org_id": "lmstream", **known}):
            take(known, question.key, usual)
    if missing:
        flags = ", ".join(_SINK_FLAGS if each.key == "sink.type" else each.flag for each in missing)
        fix = f"give {flags}, or run it on a terminal, where it asks"
        raise ConfigError("config.invalid", f"init needs to know: {'; '.join(each.text for each in missing)}", fix)


def take(known: Answers, key: str, answer: str) -> None:
    """Note an answer as the setting that it means."""
    if key == "source.topics":
        known[key] = [part.strip() for part in answer.split(",") if part.strip()]
    elif key == "dead_letters.root":
        known.update(letters_at(answer))
    else:
        known[key] = answer


def letters_at(place: str) -> Answers:
    """The settings of dead letters in a folder, or at s3://BUCKET/PREFIX."""
    kind, slashes, where = place.partition("://")
    if not slashes:
        return {"dead_letters.type": "letters", "dead_letters.root": place}
    if kind != "s3":
        raise ConfigError("config.invalid", f"--dead-letters {place}: expected a folder or s3://BUCKET/PREFIX")
    bucket, _, prefix = where.partition("/")
    return {
        "dead_letters.type": "letters_s3",
        "dead_letters.bucket": bucket,
        **({"dead_letters.prefix": prefix} if prefix else {}),
    }


def again(known: Mapping[str, Any]) -> str:
    """The command that gives these answers as flags."""
    words = ["lmstream", "init"]
    for question in (*CONNECTION, *RUN):
        value = known.get(question.key)
        flag, space, beginning = question.flag.partition(" ")
        for text in value if isinstance(value, list | tuple) else [value]:
            if text:
                words += [flag, f"{beginning}{text}"] if space else [flag, str(text)]
    return shlex.join(words)


def _asked(question: Question, known: Answers) -> str:
    """The answer of whoever sits there; empty when it is not needed and nothing was said."""
    usual = question.usual(known)
    choice = f" ({' | '.join(question.one_of)})" if question.one_of else ""
    for _ in range(_TIMES):
        terminal.insist(f"{question.text}{choice}{f' [{usual}]' if usual else ''}:")
        line = sys.stdin.readline()
        if not line:
            raise ConfigError("config.invalid", "the answers ended before the questions", f"again: {again(known)}")
        answer = line.strip() or usual
        if question.one_of and answer not in question.one_of:
            terminal.insist(f"  one of {', '.join(question.one_of)}")
        elif answer or not question.needed:
            return answer
    raise ConfigError("config.invalid", f"{question.text}: no answer", f"give {question.flag}")
