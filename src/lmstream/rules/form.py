"""The form of a rule, as `[[engine.rules]]` has it. Docstrings are what the configuration's reference says."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

RULES_MAX: Final = 100
"""Rules of a configuration."""
TEXTS_MAX: Final = 100_000
"""Texts of one list: a list of devices may be long, and is looked up by hash."""
PATTERNS_MAX: Final = 100
"""Globs of one list: each is tried after the other."""

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\Z")]
Text = Annotated[str, Meta(max_length=1024)]
Pattern = Annotated[str, Meta(max_length=256)]


class Regex(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A regular expression of RE2, which takes linear time. Needs the extra [rules]."""

    regex: Pattern
    """Must match the whole text; in `mask.find`, any part of it."""


Texts = Text | Annotated[tuple[Text, ...], Meta(max_length=TEXTS_MAX)] | Regex
"""A text, several of which one has to match, or a regular expression. In texts `*` stands for any characters, `?` for
one, and a backslash takes the meaning of the character behind it away."""


class Conditions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a row has to be, as it would be without any rule. All that are given must hold."""

    org: Texts | None = None
    datasource: Texts | None = None
    metric: Texts | None = None
    type: Texts | None = None
    """gauge, sum, histogram, exponentialHistogram or summary."""
    unit: Texts | None = None
    """Empty where a metric has none."""
    resource: dict[str, Texts] = {}
    """By name of the attribute. An attribute that is absent matches nothing."""
    scope: dict[str, Texts] = {}
    attributes: dict[str, Texts] = {}
    """Of the data point."""

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return self != _NO_CONDITIONS


_NO_CONDITIONS: Final = Conditions()


class Names(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of attributes by where they are. `*` and `?` are as in conditions."""

    resource: tuple[Pattern, ...] = ()
    scope: tuple[Pattern, ...] = ()
    attributes: tuple[Pattern, ...] = ()


class Maps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts by name of an attribute, by where the attribute is."""

    resource: dict[str, Text] = {}
    scope: dict[str, Text] = {}
    attributes: dict[str, Text] = {}


class Mask(Names, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which values to make unreadable, and how."""

    fields: tuple[Literal["deviceId", "deviceName", "instance"], ...] = ()
    """Fields of the row that were made of attributes: they hold them once more."""
    find: Literal["value", "email"] | Regex = "value"
    """What of a value: all of it, e-mail addresses in it, or what a regular expression finds."""
    replace: Text | None = None
    """What to put there; without it, the first 32 hex digits of the BLAKE2b of what was there."""


class Scale(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another unit. Only powers of two: a float64 divided by 1,000 is rounded."""

    multiply: int = 1
    divide: int = 1
    unit: Annotated[str, Meta(min_length=1, max_length=256)]
    """The unit that the rows then have. A value that cannot be scaled exactly keeps its own."""


Field = Literal["resource", "scope", "attributes", "deviceName", "instance", "unit"]
"""Fields that a row can be without."""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. It applies to rows for which `when` holds and `unless` does not."""

    name: Name
    """In metrics, sums and messages: lower case, digits, `_`, `.` and `-`."""
    when: Conditions = Conditions()
    unless: Conditions = Conditions()
    drop: bool = False
    """Make no row. Of `drop` and `keep` the first rule that applies decides."""
    keep: bool = False
    """Make a row, whatever later rules would drop."""
    only: Names = Names()
    """The attributes to keep, of the maps that are named here."""
    remove: Names = Names()
    mask: Mask = Mask()
    rename: Maps = Maps()
    """From the old name to the new one."""
    set: Maps = Maps()
    leave_out: tuple[Field, ...] = ()
    scale: Scale | None = None
    org: Annotated[str, Meta(max_length=256)] = ""
    """orgId of the row, and with it orgKey and the path."""
    metric_key: Annotated[str, Meta(max_length=256)] = field(default="")
    """metricKey of the row as a path-safe token, and with it the path."""

    @property
    def decides(self) -> bool:
        """Whether it drops or keeps rows."""
        return self.drop or self.keep


MAPS: Final = ("resource", "scope", "attributes")
"""What has attributes."""
