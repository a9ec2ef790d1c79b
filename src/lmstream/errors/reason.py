"""One reason: a stable code, what it means, how to fix it."""

from typing import NamedTuple


class Reason(NamedTuple):
    """Why something was refused. `meaning` and `fix` are phrases without a full stop, for use inside a sentence."""

    code: str
    """LMS-nnnn, for people: runbooks and searches. It never changes its meaning."""
    meaning: str
    fix: str
    """What to do, in the imperative. It never points back at the message that it follows."""
