"""Make text of somebody else visible: one line, without anything that steers a terminal or forges a line of a log."""

import unicodedata
from typing import Final

_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters (C0, ESC, C1, newlines), format characters (bidi, zero-width), lone surrogates, line and paragraph
separators: https://www.unicode.org/reports/tr44/#General_Category_Values."""


def visible(text: str) -> str:
    r"""`text` with each such character as its escape, as in \x1b, \n or \u202e. Safe to call twice."""
    if text.isprintable():  # nearly always, and quick
        return text
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _STEERING else c for c in text)
