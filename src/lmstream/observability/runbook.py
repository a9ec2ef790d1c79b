"""The runbook: a section for every alarm and every code, from lmstream.errors and runbook.toml."""

import difflib
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from lmstream.errors import REASONS, ConfigError

GROUPS: Final = {
    "LMS-10": "The whole record is refused and dead-lettered",
    "LMS-11": "One data point is refused and named in the record's dead letter",
    "LMS-12": "One data point is skipped on purpose and counted",
    "LMS-2": "Configuration",
    "LMS-3": "Source",
    "LMS-4": "Sink and dead letters",
    "LMS-5": "Verification, and reading what landed",
    "LMS-9": "lmstream itself",
}
"""What codes that begin so are about."""
RETIRED: Final = {
    "LMS-1204": (
        "time.missing",
        "since row contract 1.1 a point without a timestamp is refused and dead-lettered, not skipped",
    ),
}
"""Codes that are used no more: the reason, whose code is another one now, and why."""
_OURS: Final = re.compile(r"^lmstream[-_ ]?", re.IGNORECASE)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Section(Struct, frozen=True, kw_only=True):
    """What to do about one alarm or code."""

    name: str
    """LMS-nnnn, or the alarm's name."""
    also: str
    """The reason that goes with the code, or who raises the alarm."""
    means: str
    look: tuple[str, ...] = ()
    fix: tuple[str, ...] = field(default=(), name="mend")  # the key of `explain --json` stays

    @property
    def anchor(self) -> str:
        """Its place in docs/runbook.md."""
        return self.name.lower()


def alarms() -> list[Section]:
    """Sections of alarms, the gravest first."""
    written: dict[str, dict[str, Any]] = _written()["alarms"]
    return [Section(name=name, also=f"alarm of {at['by']}", **_texts(at)) for name, at in written.items()]


def codes() -> list[Section]:
    """Sections of codes, in their order."""
    return sorted((_of(reason) for reason in REASONS), key=lambda each: each.name)


def find(text: str) -> Section:
    """The section of a code, a reason or an alarm, however it is written. Raises ConfigError with what comes near."""
    every = [*codes(), *alarms(), *retired()]
    names = {each.name.lower(): each for each in every} | {each.also: each for each in codes()}
    plain = text.strip().strip(".,:;[]()").rpartition("#")[2]
    for candidate in _spellings(plain):
        if candidate in names:
            return names[candidate]
    # CloudWatch puts the deployment's name before an alarm's.
    ends = [each for each in alarms() if plain.lower().endswith(f"-{each.name}")]
    if ends:
        return max(ends, key=lambda each: len(each.name))
    close = difflib.get_close_matches(plain.lower(), names, 1)
    hint = f"did you mean {names[close[0]].name}?" if close else "`lmstream explain` lists all"
    raise ConfigError("usage.arguments", f"{text!r} is not a code, reason or alarm; {hint}")


def retired() -> list[Section]:
    """Sections of codes that older versions wrote: what to do is what the code of today says."""
    found = []
    for code, (reason, why) in RETIRED.items():
        today = _of(reason)
        if today.name == code:
            continue
        means = f"Now {today.name}: {why}. {today.means}"
        found.append(msgspec.structs.replace(today, name=code, also=f"{reason}, now {today.name}", means=means))
    return found


def group(code: str) -> str:
    """What a code is about."""
    if code in RETIRED:
        code = REASONS[RETIRED[code][0]].code
    return next(title for prefix, title in GROUPS.items() if code.startswith(prefix))


def _spellings(text: str) -> Iterator[str]:
    lower = text.lower()
    yield lower
    if digits := re.fullmatch(r"(?:lms[-_ ]?)?(\d{4})", lower):
        yield f"lms-{digits[1]}"
    # As Prometheus spells alerts: LmstreamTimeToDataLoss.
    yield _HUMP.sub("-", _OURS.sub("", text)).replace("_", "-").replace(" ", "-").lower()


def _of(reason: str) -> Section:
    why = REASONS[reason]
    own = _texts(_written()["codes"].get(reason, {}))
    shared = [_texts(texts) for prefix, texts in _written()["common"].items() if why.code.startswith(prefix)]
    return Section(
        name=why.code,
        also=reason,
        means=". ".join(filter(None, (_upper(why.meaning), own["means"]))).removesuffix(".") + ".",
        look=(*own["look"], *(each for texts in shared for each in texts["look"])),
        fix=(why.fix, *own["fix"], *(each for texts in shared for each in texts["fix"])),
    )


def _texts(at: dict[str, Any]) -> dict[str, Any]:
    return {"means": at.get("means", ""), "look": tuple(at.get("look", ())), "fix": tuple(at.get("fix", ()))}


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def _written() -> dict[str, Any]:
    return tomllib.loads(resources.files("lmstream.observability").joinpath("runbook.toml").read_text(encoding="utf-8"))
