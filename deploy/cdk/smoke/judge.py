"""What an observation says of a question: yes, no, or that it could not be asked. No client of AWS in here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Verdict = Literal["holds", "fails", "not asked"]


@dataclass(frozen=True)
class Answer:
    """The answer to one open question."""

    question: str
    verdict: Verdict
    said: str


QUESTIONS: Final = {
    "landed": "Is every row of the published bundles in the bucket, once at least, and every poison record a letter?",
    "partial": "Does a mapping keep what its partial answer does not name, and bring again what it names?",
    "report": "What does AWS say to ReportBatchItemFailures, with and without provisioned pollers?",
    "starts": "Does the source run with the network it has?",
    "errors": "Does somebody hear of an object below the error prefix?",
    "keys": "Does Athena give keys of maps as they were written, two spellings of one key included?",
    "rows": "Does the view have each row once?",
    "prefix": "Does Firehose append nothing to the prefix of its keys?",
}
_SEGMENTS: Final = {
    "orgKey": "[^/]+",
    "metricKey": "[^/]+",
    "yyyy": r"\d{4}",
    "MM": r"\d{2}",
    "dd": r"\d{2}",
    "HH": r"\d{2}",
}


def unasked(question: str, why: str) -> Answer:
    """It needs what is not there."""
    return Answer(question, "not asked", why)


def prefix(template: str, keys: Iterable[str]) -> Answer:
    """Each object must lie directly below its path: one level deeper, no query finds it."""
    path = re.sub(r"\\\{(\w+)\\\}", lambda found: _SEGMENTS[found[1]], re.escape(template))
    keys = list(keys)
    wrong = [key for key in keys if not re.fullmatch(f"{path}[^/]+", key)]
    if not keys:
        return Answer("prefix", "fails", "no object landed")
    if wrong:
        return Answer(
            "prefix", "fails", f"{len(wrong)} of {len(keys)} objects are not where the table looks: {wrong[0]}"
        )
    return Answer("prefix", "holds", f"{len(keys)} objects, each directly below {template}")


def landed(report: Mapping[str, Any], code: int) -> Answer:
    """The report of `lmstream verify --json` and its exit code."""
    total = report["total"]
    said = ", ".join(
        f"{name} {total[name]}" for name in ("expected", "landed", "lost", "duplicate", "phantom", "letters")
    )
    return Answer("landed", "fails" if code else "holds", said)


def partial(healthy: Mapping[str, int], lost: int, letters: int, poison: int) -> Answer:
    """`healthy`: how often each row of healthy records landed, while letters could not be written for a time. Whether
    AWS brought again what was not named shows in copies; either is right here, a lost row is not."""
    copies = sum(times - 1 for times in healthy.values())
    reading = (
        "only what the answer named came again" if not copies else f"{copies} copies: more came again than was named"
    )
    wrong = lost or letters != poison
    return Answer("partial", "fails" if wrong else "holds", f"{reading}; lost {lost}, letters {letters} of {poison}")


def report(source: str, types: Sequence[str], refused: str) -> Answer:
    """`types` are those of the deployed mapping; `refused` what AWS said when a mapping on demand asked for it."""
    reports = "ReportBatchItemFailures" in types
    if source == "pollers":
        return Answer("report", "holds" if reports else "fails", f"provisioned: {', '.join(types) or 'not set'}")
    said = f"refused: {refused}" if refused else "accepted, which is no promise that it is honoured"
    return Answer("report", "fails" if reports else "holds", f"on demand it is not set here; asked for, AWS {said}")


def keys(row: Sequence[str | None], spelled: Mapping[str, str], state: str, why: str) -> Answer:
    """`row` is what the query answered for each key of `spelled`."""
    if state != "SUCCEEDED":
        return Answer("keys", "fails", f"the query ended with {state}: {why}")
    wrong = [
        f"{key} is {value!r}" for (key, wanted), value in zip(spelled.items(), row, strict=True) if value != wanted
    ]
    return Answer(
        "keys", "fails" if wrong else "holds", "; ".join(wrong) or f"{', '.join(spelled)} each have their value"
    )


def rows(expected: Mapping[str, int], counted: Mapping[str, tuple[int, int]]) -> Answer:
    """By metric: rows that were published; (rows, distinct ids) of the view."""
    wrong = [
        f"{name}: {counted.get(name)} of {number}"
        for name, number in expected.items()
        if counted.get(name) != (number, number)
    ]
    said = "; ".join(wrong[:3]) or f"{sum(expected.values())} rows of {len(expected)} metrics, each once"
    return Answer("rows", "fails" if wrong else "holds", said)


def table(answers: Sequence[Answer]) -> str:
    """All answers, with their questions."""
    lines = [f"{each.verdict:9}  {QUESTIONS[each.question]}\n{'':11}{each.said}" for each in answers]
    return "\n".join(lines)


def failed(answers: Sequence[Answer]) -> bool:
    """Whether any question has the wrong answer, or one was forgotten."""
    return any(each.verdict == "fails" for each in answers) or {each.question for each in answers} != set(QUESTIONS)
