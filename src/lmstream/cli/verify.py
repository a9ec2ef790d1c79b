"""`lmstream verify`: what was published, or what the topic holds, against what landed."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from lmstream import verification as library
from lmstream.cli import terminal
from lmstream.cli.flags import (
    NO_BROKER,
    NO_ROWS,
    NO_S3,
    BrokerFlags,
    EngineFlags,
    Json,
    RowFlags,
    S3Flags,
    Seconds,
    given,
)
from lmstream.cli.settling import interval, wait
from lmstream.cli.tables import Wide
from lmstream.cli.verdict import show
from lmstream.cli.verify_flags import (
    NEEDS,
    configurations,
    fit,
    offsets,
    refuse_missing,
    refuse_unwatchable,
    unreachable,
)
from lmstream.cli.verify_lake import claims_of, lake_report, letters_of
from lmstream.cli.verify_repair import refuse_unfit, tell
from lmstream.cli.verify_repair import repair as repair_rows
from lmstream.cli.verify_repair_lake import refuse_unfit as refuse_lake
from lmstream.cli.verify_repair_lake import repair as repair_lake
from lmstream.cli.verify_watch import watch as prove
from lmstream.config import Config
from lmstream.config.validation import READING
from lmstream.dead_letters.filters import moment
from lmstream.errors import ConfigError, refuse
from lmstream.storage.objects import Place, place
from lmstream.verification import Judged, Report, Topics, log_entries
from lmstream.verification.report_html import page
from lmstream.verification.wanting import RepairingChecker

NOT_VERIFIED = 3
NOT_SETTLED = 5


def _whole(_: object, value: str, **_more: object) -> list[str]:
    """The variable is one path, whatever is in it."""
    return [value]


def verify(
    *,
    landed: str,
    expected: tuple[Path, ...] = (),
    topic: tuple[str, ...] = (),
    group: str | None = None,
    claims: str | None = None,
    since: str | None = None,
    from_: Annotated[tuple[str, ...], Parameter(name="--from")] = (),
    to: tuple[str, ...] = (),
    dead_letters: str | None = None,
    errors: str | None = None,
    settle: Seconds | None = None,
    no_wait: Annotated[bool, Parameter(negative="")] = False,
    repair: bool = False,
    yes: bool = False,
    watch: Seconds | None = None,
    state: Path | None = None,
    address: str | None = None,
    wide: Wide = False,
    as_json: Json = False,
    html: Path | None = None,
    config: Annotated[tuple[str, ...], Parameter(env_var="LMSTREAM_CONFIG", env_var_split=_whole)] = (),
    s3: S3Flags = NO_S3,
    broker: BrokerFlags = NO_BROKER,
    engine: RowFlags = NO_ROWS,
) -> int:
    """Prove that every expected row landed, byte for byte and under its own path. Exit 3 when rows are lost, changed,
    misplaced or unexpected, 5 when rows are missing that Firehose may still buffer, or that a lake is still landing.

    Expected rows come from the log of `publish --verifiable`, or from the topic, read again with the same engine.
    A lake (sink.type s3) is proved by its claims: alone, or with --topic against the topic too, by the settings that
    each claim names. Duplicates do not fail it, except in a lake: the view `rows` of `query` removes them.

    Parameters
    ----------
    landed
        Folder of landed rows, or s3://BUCKET/PREFIX.
    expected
        Log of `publish --verifiable`; may be repeated.
    topic
        Topic to read again instead of a log; needs --bootstrap and the settings of the run. May be repeated: name all
        topics whose rows land there.
    group
        Consumer group of the run: what it has committed must be there. Default: source.group.
    claims
        Where the claims of a lake lie: a folder, or s3://BUCKET/PREFIX. Default: sink.claims_prefix, else _lmstream
        below LANDED or at the root of its bucket.
    since
        Judge records from this time on: 2024-05-09T14:00Z, or 2h for two hours ago. Of a lake without --topic: windows
        that were claimed since then.
    from_
        First offset of a partition, as PARTITION=OFFSET or TOPIC/PARTITION=OFFSET; may be repeated. With ranges, only
        the partitions named are judged. Default: the earliest.
    to
        Offset to stop before, in the same form. Default: what the group has committed.
    dead_letters
        Folder of dead letters, or s3://BUCKET/PREFIX. Without it, missing letters are not checked.
    errors
        Error prefix of Firehose; LANDED/errors if that exists.
    settle
        Seconds after which a committed row that is missing is lost. Default: the buffer interval of the stream and a
        minute; 0 for a folder and for a lake, whose newest windows may be under way.
    no_wait
        Do not wait for that: missing rows are buffered, and the exit code is 5.
    repair
        Send what is lost or changed again, by the sink of the configuration, and verify again. Rows that landed are not
        sent. A lake is repaired by its claims. Asks, or needs --yes; the exit code is that of the last verdict.
    yes
        Repair without asking.
    watch
        Prove rows as they land, as a service: a round every so many seconds, of what was not proved before. Its
        endpoints have the metric lmstream_proved_until_timestamp_seconds. --from is where it begins.
    state
        File that keeps over a restart what is proved.
    address
        Where the endpoints of --watch are, or off. Default: 127.0.0.1:9469.
    wide
        Show all columns in full, however wide the terminal is.
    as_json
        Print the report as JSON.
    html
        Also write the report to this file, as one HTML page.
    config
        TOML file with settings; flags win over LMSTREAM_* variables, and they win over the file. After a change of
        settings, give the older file too with the records that were read with it, first match first:
        OLD.toml@TOPIC/PARTITION=FROM..TO, without TO itself; FROM, TO, or =FROM..TO and /PARTITION may be left out.
    """
    ranged = [*from_, *to, *(each for each in (group, since) if each)]
    fit(expected, topic, ranged, settle, html)
    if not topic and (from_ or to or group):
        raise ConfigError("config.invalid", "--group, --from and --to are for --topic; a lake takes --since as well")
    if repair and no_wait:
        raise ConfigError("config.invalid", "--repair waits until it is known what is lost: leave out --no-wait")
    named = {"--landed": landed, "--claims": claims, "--dead-letters": dead_letters, "--errors": errors}
    places = {flag: place(text, s3.access) for flag, text in named.items() if text is not None}
    wrong = unreachable(places)
    try:
        flags, others = configurations(config, engine)
        loaded = _loaded(flags, broker, topic, group)
    except ConfigError as e:
        refuse([*wrong, *e.errors])
        raise
    refuse(wrong)
    refuse_missing(places)
    rows, letters, failed = places["--landed"], places.get("--dead-letters"), places.get("--errors")
    lake = None if expected else claims_of(rows, places.get("--claims"), loaded)
    _refuse_unfit(expected, topic, others, rows, lake)
    if repair:
        (refuse_lake if lake is not None else refuse_unfit)(loaded, rows)
    if watch is not None:
        refuse_unwatchable(topic, expected, others, to, since, no_wait=no_wait, repair=repair)
        seconds = settle if settle is not None else interval(loaded, landed)
        return prove(
            loaded,
            rows,
            letters or letters_of(loaded),
            every=watch,
            settle=seconds,
            start=offsets("--from", from_, topic),
            state_file=state,
            address=address,
        )
    older = others if lake is None else ()  # each claim of a lake names its settings
    topics = _topics(loaded, topic, older, from_, to, since, committed=lake is None) if topic else None
    buffered = lake is None and (topic or repair)
    seconds = settle if settle is not None else interval(loaded, landed) if buffered else 0.0

    def look_at_lake() -> Report:
        earliest = None if topic else moment("--since", since)
        about = rows, lake, loaded, topics, letters, failed
        return lake_report(*about, since=earliest, settle=seconds, no_wait=no_wait, region=s3.s3_region)

    def look(checker: RepairingChecker | None = None, /, *, step: float | None = None) -> Report:
        logged = chain.from_iterable(log_entries(path, terminal.say) for path in expected)
        return library.verify(
            logged if topics is None else topics,
            rows,
            letters,
            failed,
            source_ids=sorted({loaded.engine.source_id, *(each.settings.source_id for each in others)}),
            settle=seconds,
            wait=None if no_wait else wait if step is None else time.sleep,
            step=step,
            checker=checker,
            say=terminal.say,
            watch=partial(terminal.counted, "objects read"),
        )

    spans = [*(f"--from {text}" for text in from_), *(f"--to {text}" for text in to)]
    spans += [f"--since {since}"] if since else []
    what = {
        "expected": " ".join(["topic", *topic, *spans]) if topic else ", ".join(map(str, expected)),
        "claims": lake.name if lake is not None else "",
        "landed": rows.name,
        "dead letters": letters.name if letters is not None else "",
    }
    compared = {name: text for name, text in what.items() if text}
    if repair and lake is not None:
        report = tell(*repair_lake(look_at_lake, loaded, rows, yes=yes), compared, html, wide=wide, as_json=as_json)
    elif repair:
        done = repair_rows(look, loaded, others, rows, s3.access, settle=seconds, yes=yes)
        report = tell(*done, compared, html, wide=wide, as_json=as_json)
    else:
        report = look() if lake is None else look_at_lake()
        _tell(report, compared, html, wide=wide, as_json=as_json)
    return NOT_VERIFIED if not report.ok else 0 if report.settled else NOT_SETTLED


def _refuse_unfit(
    expected: Sequence[Path], topic: Sequence[str], others: Sequence[Judged], rows: Place, lake: Place | None
) -> None:
    if not topic and others:
        raise ConfigError("config.invalid", "--config FILE@TOPIC needs --topic: a log says itself what must land")
    if lake is None and not topic and not expected:
        raise ConfigError("config.invalid", f"{NEEDS}; no claims of a lake lie at {rows.name} (--claims)")


def _tell(report: Report, what: dict[str, str], html: Path | None, *, wide: bool, as_json: bool) -> None:
    """Print the report, and write the page; `what` says what was compared."""
    with terminal.read_or_not():
        if as_json:
            terminal.print_json(msgspec.to_builtins(report), indent=None)
        else:
            show(report, wide=wide)
    if html is not None:
        try:
            html.write_text(page(report, what), encoding="utf-8")
            terminal.say(f"the report is in {html}")
        except OSError as e:
            # The verdict is said, and its exit code is worth more than the page.
            terminal.insist(f"--html {html}: {e.strerror}: the page was not written")


def _loaded(flags: EngineFlags, broker: BrokerFlags, topics: Sequence[str], group: str | None) -> Config:
    if not topics:
        return flags.load()
    from lmstream.cli.kafka import client_overrides

    return flags.load(client_overrides(broker, *topics) | given({"source.group": group}), READING)


def _topics(
    loaded: Config,
    topics: Sequence[str],
    others: Sequence[Judged],
    from_: Sequence[str],
    to: Sequence[str],
    since: str | None,
    *,
    committed: bool = True,
) -> Topics:
    from lmstream.cli.kafka import settings_of

    earliest = moment("--since", since)
    return Topics(
        settings_of(loaded),
        loaded.engine,
        others,
        start=offsets("--from", from_, topics),
        stop=offsets("--to", to, topics),
        since=None if earliest is None else int(earliest.timestamp() * 1000),
        counted=partial(terminal.counted, "records read"),
        committed=committed,
    )
