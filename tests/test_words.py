"""Plain English where users and operators read: no word that readers stumbled over, and the words that they search for.

Each entry has what to say instead. Names that stay for compatibility (JSON keys, the label of an older version) are listed.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from lmstream.errors import REASONS

ROOT = Path(__file__).parents[1]
WORDS = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(that|which) (is|are) none\b": "invalid; not a ...",
    r"\bis none of Kafka\b": "does not contain; is not one of",
    r"\bof ours\b": "our, or lmstream's",
    r"\bnobody knows\b": "unknown",
    r"\bfrom nowhere\b": "unexpected",
    r"\bc[ao]mes? round\b": "runs; last ran",
    r"\bbrings? (it|them) again\b": "redelivers",
    r"\bgo(es)? on\b|\bgoing on\b|\bwent on\b": "continues",
    r"\btried again\b": "retried",
    r"\b(burial|graves|knock)\b": "dead-letter writer, queues, connection probe",
    r"\bmade anew\b": "recreated",
    r"\bpass(es|ed)? over\b": "skip",
    r"\bfor good\b": "permanently",
    r"\bnot ours\b": "not assigned; not visible",
}
"""Not for users, and not in docstrings and comments of the source."""
FOR_USERS = WORDS | {
    r"\bgets? on\b(?! the)": "is ready; makes progress",
    r"\b(what|it|as|is|are|was|were|be|been) told\b(?! apart)|\btold (of|otherwise|so)\b|\btells? (of|nothing)\b": "reported",
    r"\boutlives? us\b": "survives a restart",
    r"\blets? go\b": "releases",
    r"\btries\b(?! to)": "attempts, retries",
    r"\btime-outs?\b": "timeout",
    r"\bis no (bundle|record|row|number|duration|setting|option|dead letter|JSON object)\b": "is not a ...",
    r"\bby itself\b(?! (a|at|with))": "automatically; without a restart",
    r"\bgiven up\b(?! to)": "revoked; retries used up",
    r"\bhold back\b|\bholds? our\b": "throttle",
}
"""Not for users. In a docstring these mean something else: each by itself, a caller that is told."""
PATTERNS = {re.compile(pattern, re.IGNORECASE): instead for pattern, instead in FOR_USERS.items()}
IN_CODE = [re.compile(pattern, re.IGNORECASE) for pattern in WORDS]
ALLOWED = (
    # Names that stay: reasons, alarms and rules; the key of `--json`, and what it was called in Python one version ago.
    "given-up",
    "given_up",
    "LmstreamError.mend is now fix",
)
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs").glob("*.toml"),
    *(ROOT / "deploy/cdk").glob("*.toml"),
    *(ROOT / "adapters").rglob("*.md"),
    *(ROOT / "src/lmstream").rglob("*.toml"),
    *(ROOT / "src/lmstream").rglob("*.yaml"),
    *(ROOT / "src/lmstream").rglob("*.txt"),
    *(ROOT / "src/lmstream").rglob("*.json"),
]
SOURCES = sorted((ROOT / "src/lmstream").rglob("*.py"))


def said(text):
    """What is wrong with a text, and what to say instead."""
    if text == "mend":
        return []
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    return [f"{found[0]!r}: say {instead}" for pattern, instead in PATTERNS.items() for found in pattern.finditer(text)]


def literals(tree, *, helps):
    """Texts of a module that a person may get to read. Docstrings are among them where they are the help of a verb."""
    if helps:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
                "_"
            ):
                yield node.lineno, ast.get_docstring(node) or ""
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented | bare:
            yield node.lineno, node.value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_in_plain_english(page):
    text = page.read_text("utf-8")
    faults = [f"{number}: {fault}" for number, line in enumerate(text.splitlines(), 1) for fault in said(line)]
    assert faults == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_messages_are_in_plain_english(source):
    tree = ast.parse(source.read_text("utf-8"))
    faults = [
        f"{number}: {fault}"
        for number, text in literals(tree, helps=source.parent.name == "cli")
        for fault in said(text)
    ]
    assert faults == []


def prose(text):
    """Line number and text of each comment and docstring line."""
    wanted = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            wanted |= {number: lines[number - 1] for number in range(node.lineno, node.value.end_lineno + 1)}
    return sorted(wanted.items())


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_docstrings_and_comments_use_the_words_of_the_field(source):
    faults = [
        f"{number}: {pattern.pattern}: say {WORDS[pattern.pattern]}"
        for number, line in prose(source.read_text("utf-8"))
        for pattern in IN_CODE
        if pattern.search(line) and 'name="mend"' not in line
    ]
    assert faults == []


def test_a_fix_says_what_to_do_and_does_not_point_back_at_the_message():
    for reason, why in REASONS.items():
        assert not re.search(r"\b(the message|named above|says? (it|which))\b", why.fix), reason
        assert re.match(r"(if [^,]+, )?[a-z]+\b", why.fix), reason
        assert not why.fix.endswith("."), reason


def test_the_check_finds_what_it_looks_for():
    assert said("a command line that is none") == ["'that is none': say invalid; not a ..."]
    assert len(said("the loop came round, and goes on")) == 2
    assert said("retry the request, then continue") == []
