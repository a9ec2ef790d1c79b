"""Log lines: a code in every warning, hostile text harmless and cut, secrets never, no bytes of records."""

import ast
import io
import json
import logging
from pathlib import Path

import pytest

from lmstream.errors import REASONS
from lmstream.model import DeadLetter
from lmstream.observability.dead_letter_log import MINUTE, NAMED, LoggingDeadLetterSink
from lmstream.observability.logs import CUT, handler, logging_to

SRC = Path(__file__).parents[2] / "src/lmstream"
CANARY = "canary-77aa31"


def calls():
    for path in sorted(SRC.rglob("*.py")):
        if {"lab", "awslambda"} & set(path.parts):
            continue  # test servers; the function's logger is Powertools'
        text = path.read_text("utf-8")
        if "log." not in text:
            continue  # to parse it would cost each worker of a run its time
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in {"warning", "error", "exception", "critical"}
            ):
                yield pytest.param(node, id=f"{path.relative_to(SRC)}:{node.lineno}")


@pytest.mark.parametrize("call", list(calls()))
def test_every_warning_has_a_code(call):
    assert "extra" in {keyword.arg for keyword in call.keywords}


def lines_of(tell):
    stream = io.StringIO()
    with logging_to(handler(json=True, stream=stream)):
        tell(logging.getLogger("lmstream.test"))
    return stream.getvalue()


def test_hostile_text_stays_on_its_line_and_is_cut():
    hostile = "a\nb\x1b[2J\u202e\r" + "x" * 100_000
    text = lines_of(lambda log: log.warning("the sink said %s", hostile))
    assert text.count("\n") == 1
    assert text.isascii()
    assert "\x1b" not in text
    assert len(text) < 2 * CUT
    assert json.loads(text)["event"].startswith("the sink said a\\nb\\x1b[2J\\u202e\\r")


@pytest.mark.parametrize(
    "secret",
    [
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
        f"key_password={CANARY}",
        f"AWS_SECRET_ACCESS_KEY={CANARY}",
        f"AWS_SESSION_TOKEN={CANARY}",
    ],
)
def test_secrets_in_what_others_say_are_left_out(secret):
    def tell(log):
        log.warning("the sink answered: %s", secret)
        try:
            int(secret)
        except ValueError:
            log.exception("that broke it")

    text = lines_of(tell)
    assert CANARY not in text
    assert "[secret]" in text


def letter(offset, reason="decode.json"):
    return DeadLetter(
        topic="lm",
        partition=3,
        offset=offset,
        timestamp=1,
        value=CANARY.encode(),
        key=None,
        headers=(),
        reason=reason,
        code=REASONS[reason].code,
        detail="malformed",
        rejected=(),
        sha256="",
        version="1",
    )


class Kept:
    largest = 1 << 30

    async def check(self):
        pass

    async def write(self, letters, /):
        assert letters

    async def close(self):
        pass


async def test_dead_letters_are_named_up_to_a_bound_and_never_with_their_bytes():
    now = 0.0
    stream = io.StringIO()
    sink = LoggingDeadLetterSink(Kept(), lambda: now)
    with logging_to(handler(json=True, stream=stream)):
        await sink.write([letter(n) for n in range(NAMED + 1234)])
        await sink.write([letter(n, "decode.utf8") for n in range(2)])
        now = MINUTE + 1
        await sink.write([letter(99)])
        await sink.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == NAMED + 3
    assert lines[0]["event"] == "lm/3/0 is dead-lettered: decode.json malformed"
    assert (lines[0]["topic"], lines[0]["partition"], lines[0]["offset"]) == ("lm", 3, 0)
    assert (lines[0]["code"], lines[0]["reason"], lines[0]["level"]) == ("LMS-1002", "decode.json", "warning")
    more = [(each["event"], each["code"], each["reason"]) for each in lines[NAMED : NAMED + 2]]
    assert more == [
        ("1,234 more records were dead-lettered: decode.json", "LMS-1002", "decode.json"),
        ("2 more records were dead-lettered: decode.utf8", "LMS-1003", "decode.utf8"),
    ], "a line for each reason, with its own code"
    assert CANARY not in stream.getvalue()
