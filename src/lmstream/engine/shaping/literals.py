"""Texts without which rules leave a point's attributes as they are: they are looked for in the bytes of a piece.

A piece that has none of them need not be read: no condition about it holds, and no rule that then applies changes it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from lmstream.rules import Conditions, Regex, Rule, Texts
from lmstream.rules.patterns import longest_part

_MOST: Final = 16
"""Texts to look for: with more, to read the piece costs less."""
_INSTANCE: Final = ',"instance":'
"""Before an instance. Where it stands in a text too, the piece is read."""


def literals(rules: Sequence[Rule], changing: int) -> tuple[bytes, ...] | None:
    """None when there are no such texts, or too many. `changing` are the rules that apply to attributes of which no
    condition holds. Texts are as JSON has them without a backslash: a piece with one has to be read."""
    found = {text for rule in rules for which in (rule.when, rule.unless) for text in _of_conditions(which)}
    found.update(text for number, rule in enumerate(rules) if changing >> number & 1 for text in _of_changes(rule))
    if "" in found:
        return None
    needed = [text for text in found if not any(other in text for other in found if other != text)]
    encoded = sorted(text.encode("utf-8", "surrogatepass") for text in needed)
    return tuple(encoded) if len(encoded) <= _MOST else None


def _of_conditions(conditions: Conditions) -> Iterator[str]:
    """Of each condition about attributes the name, or what its texts have in them."""
    for name, texts in conditions.attributes.items():
        parts = _parts(texts)
        yield from parts if all(parts) and len(parts) <= _MOST else (name,)


def _parts(texts: Texts) -> list[str]:
    if isinstance(texts, Regex):
        return [""]
    return [longest_part(text) for text in ((texts,) if isinstance(texts, str) else texts)]


def _of_changes(rule: Rule) -> Iterator[str]:
    """What has to be there for a rule to change attributes; an empty text where it may change any."""
    if rule.only.attributes or rule.set.attributes or "attributes" in rule.leave_out:
        yield ""
    yield from map(longest_part, rule.remove.attributes)
    yield from rule.rename.attributes
    if rule.mask.find == "email":
        yield "@"
    else:
        yield from map(longest_part, rule.mask.attributes)
        if "instance" in rule.mask.fields:
            yield _INSTANCE
    if "instance" in rule.leave_out:
        yield _INSTANCE
