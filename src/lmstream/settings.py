"""Settings of the engine: which organization, which partitions, which limits. Frozen, and all a row depends on."""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from lmstream.errors import refuse
from lmstream.rules import Rule

__all__ = [
    "DEFAULT_PATH", "HIVE_PATH", "KIB", "MIB", "TIMES", "Limits", "Positive", "Settings", "human", "seconds_of",
]  # fmt: skip

KIB = 1024
MIB = 1024 * KIB
TIMES: Final[dict[str, float]] = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
"""Units of a duration as people write it, in seconds."""
_DURATION: Final = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(TIMES)})", re.IGNORECASE)

DEFAULT_PATH = "{orgKey}/{metricKey}/{yyyy}/{MM}/{dd}/{HH}/"
HIVE_PATH = "p_org={orgKey}/p_metric={metricKey}/p_dt={yyyy}-{MM}-{dd}/p_hour={HH}/"

Positive = Annotated[int, Meta(ge=1)]


def seconds_of(text: str) -> float | None:
    """Read a duration such as 90s, 15m, 72h or 7d; None for a text that is not a duration."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * TIMES[found[2].lower()] if found else None


def human(seconds: float | None) -> str:
    """Write a duration for people: 12.3 s, 5.0 min, 2.5 h, 3.1 d; a dash if it is unknown."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what one record may cost. Past a bound the record is dead-lettered, never cut."""

    record_bytes: Positive = 8 * MIB
    """Bytes of a record's value as Kafka holds it. Kafka's own default for a record is 1 MiB.
    Costs: letters, memory: a lower bound dead-letters records that a higher one takes."""
    inflated_bytes: Positive = 64 * MIB
    """Bytes of a gzip or zstd value once inflated: the OTLP specification recommends receivers to take so much.
    Costs: letters, memory: one such value is held at a time, beside the byte budget."""
    inflate_ratio: Positive = 100
    """Inflated to compressed size, judged above 8 MiB of output. Honest bundles reach about 40.
    Unit: ratio.
    Costs: letters: a higher bound lets a hostile producer use more time for each byte that it sends."""
    points: Positive = 100_000
    """Data points in one bundle.
    Unit: points.
    Costs: letters, memory."""
    row_bytes: Annotated[int, Meta(ge=1 * KIB, le=900 * KIB)] = 900 * KIB
    """Bytes of one line, newline included.
    Costs: letters: the point of a longer line is dead-lettered.
    Limit: Firehose takes 1,000 KiB a record (docs.aws.amazon.com/firehose/latest/dev/limits.html); 900 KiB leaves room
    for what is packed around it."""
    cache_bytes: Annotated[int, Meta(ge=0)] = 32 * MIB
    """Bytes each engine may keep of encoded pieces (resources, scopes, attributes). Full caches are emptied.
    Costs: memory: less of it makes the engine slower. 0 keeps nothing."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what a bundle becomes; the same settings give the same bytes in every host."""

    org_id: str = ""
    """Organization of every row, unless the topic map names another. LMDP sends none in its payload.
    Costs: rows: their field orgId and their path. Row ids stay."""
    org_by_topic: dict[str, str] = {}
    """Organization by topic name; wins over `org_id`.
    Costs: rows: their field orgId and their path. Row ids stay."""
    org_attributes: tuple[str, ...] = ()
    """Resource attributes to read the organization from, first that is set, when neither of the others says.
    Who may write to the topic then chooses the prefix its rows land under.
    Costs: rows: their field orgId and their path. Row ids stay."""
    source_id: str = ""
    """Name of the Kafka cluster, part of the row id: set it when two clusters have topics of the same name.
    Costs: rows: all row ids. A record that is read again after a change lands a second time, under other ids."""
    path: str = DEFAULT_PATH
    """Template of the partition path, from {orgKey} {metricKey} {yyyy} {MM} {dd} {HH}. The other usual one is
    `p_org={orgKey}/p_metric={metricKey}/p_dt={yyyy}-{MM}-{dd}/p_hour={HH}/`.
    Costs: rows, money: their path. The stream's prefix and jq query, and the tables, must change with it; more paths
    make more and smaller objects.
    Limit: Firehose and S3 take what `lmstream.partitioning` checks: all names known, no leading slash."""
    metric_key: Literal["metric", "allow", "buckets"] = "metric"
    """What {metricKey} is: the metric; only those of `metric_allow` and `_other` for the rest; or one of
    `metric_buckets` groups by hash. Firehose allows 500 active partitions by default: organizations x metricKeys x
    hours.
    Costs: rows, money: their path. More keys make more active partitions and smaller objects."""
    metric_allow: tuple[str, ...] = ()
    """With `metric_key = "allow"`: the metrics that have a path of their own.
    Costs: rows, money: the path of the metrics that come or go."""
    metric_buckets: Annotated[int, Meta(ge=1, le=1000)] = 16
    """With `metric_key = "buckets"`: how many groups there are.
    Unit: groups.
    Costs: rows, money: the path of nearly all rows.
    Limit: lmstream's own: 1,000 is twice what Firehose has active by default
    (docs.aws.amazon.com/firehose/latest/dev/limits.html)."""
    exemplars: bool = True
    """Whether rows carry exemplars.
    Costs: rows, money: without them rows are shorter; their field is then absent."""
    time_fallback: Literal["none", "record"] = "none"
    """What a point without a time of its own, and without the scope attribute epoch, gets: no row and a place in the
    dead letter, or the Kafka timestamp of its record, which is the same in every replay.
    Costs: rows, letters: such points become rows, or are dead-lettered."""
    field_names: Literal["otlp", "any"] = "otlp"
    """Which names of members are read in JSON: those of OTLP/JSON (timeUnixNano), or beside them those of its .proto
    files (time_unix_nano).
    Costs: rows: the row ids of bundles that mix both, because more points are counted then."""
    format: str = "auto"
    """Codec of the values: sniffed, or fixed to `otlp_json`, `otlp_proto` or the name of your own module with a
    `Codec(settings)`. gzip and zstd are seen in every case.
    Costs: letters: with a fixed codec, records of another format are dead-lettered."""
    rules: tuple[Rule, ...] = ()
    """What lands and what is in it, in order: `[[engine.rules]]`, each with a name, conditions and actions. See
    [shaping](shaping.md).
    Costs: rows, money: which rows there are, their contents and their path. Row ids stay.
    Limit: lmstream's own: 100 rules."""
    transform: str = ""
    """Name of your own module with a `Transform(settings)`: what it makes of the rows of each record, after the rules,
    for what rules cannot. Empty: nothing. See [extending](extending.md#a-transform).
    Costs: rows, money: the contents of rows, and which there are. Row ids and paths stay. A row takes ten to forty
    times as long."""
    dimensions: bool = False
    """Whether rows carry keys in place of what they repeat (device, resource, datasource, scope, attributes), and each
    hour of an organization the dimension rows that say what the keys stand for. See [shaping](shaping.md#dimensions).
    Costs: rows, money: lines of two fifths of their size; queries join. Row ids stay."""
    varying: tuple[str, ...] = ("datasourceInstanceId",)
    """With `dimensions`: the scope attributes that stay in rows, beside `epoch`, which always does.
    Costs: rows, money: an attribute that varies and is not named here makes a dimension row of every value."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """Raises ConfigError for rules that contradict each other or cannot be."""
        if self.rules:
            from lmstream.rules.checks import wrong  # noqa: PLC0415 - a cold start without rules needs none of it

            refuse(wrong(self.rules, transform=self.transform))
