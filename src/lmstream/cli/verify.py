"""`lmstream verify`: what was published, or what the topic holds, against what landed."""

import time
from collections.abc import Mapping, Sequence
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
    Json,
    RowFlags,
    S3Flags,
    Seconds,
)
from lmstream.cli.settling import interval, wait
from lmstream.cli.tables import Wide
from lmstream.cli.verdict import show
from lmstream.cli.verify_asked import asked
from lmstream.cli.verify_flags import ranges, unfit, unservable, unwatchable
from lmstream.cli.verify_lake import lake_report, no_rows
from lmstream.cli.verify_repair import refuse_unfit, tell
from lmstream.cli.verify_repair import repair as repair_rows
from lmstream.cli.verify_repair_lake import refuse_unfit as refuse_lake
from lmstream.cli.verify_repair_lake import repair as repair_lake
from lmstream.cli.verify_watch import watch as prove
from lmstream.config import Config
from lmstream.dead_letters.filters import moment
from lmstream.errors import ConfigError
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
    landed: str | None = None,
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
        Folder of landed rows, or s3://BUCKET/PREFIX. Default: where the sink of the configuration puts them; a stream
        of Firehose is asked.
    expected
        Log of `publish --verifiable`; may be repeated.
    topic
        Topic to read again instead of a log; needs --bootstrap and the settings of the run. May be repeated: name all
        topics whose rows land there. Default: source.topics, except for a lake.
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
        Folder of dead letters, or s3://BUCKET/PREFIX. Default: those of the configuration; without any, missing
        letters are not checked.
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
    wrong = unfit(expected, topic, ranged, settle, html)
    if repair and no_wait:
        wrong.append(
            ConfigError("config.invalid", "--repair waits until it is known what is lost: leave out --no-wait")
        )
    if watch is None:
        alone = [flag for flag, value in {"--state": state, "--address": address}.items() if value is not None]
        wrong += [ConfigError("config.invalid", f"{' and '.join(alone)}: for --watch alone")] if alone else []
    else:
        wrong += unwatchable(expected, config, to, since, no_wait=no_wait, repair=repair)
        wrong += unservable(watch, address)
    about = asked(
        wrong,
        config,
        engine,
        broker,
        s3.access,
        {"--landed": landed, "--claims": claims, "--dead-letters": dead_letters, "--errors": errors},
        expected=expected,
        topic=topic,
        group=group,
        ranged=bool(from_ or to or group) or watch is not None,
    )
    loaded, others, topic, rows, lake = about.config, about.others, about.topics, about.rows, about.lake
    letters = about.letters
    if repair:
        (refuse_lake if lake is not None else refuse_unfit)(loaded, rows)
    start, stop = ranges({"--from": from_, "--to": to}, topic)
    if watch is not None:
        seconds = settle if settle is not None else interval(loaded, rows.name)
        return prove(
            loaded,
            rows,
            letters,
            lake,
            no_rows(rows, letters, about.errors),
            every=watch,
            settle=seconds,
            start=start,
            state_file=state,
            address=address,
        )
    older = others if lake is None else ()  # each claim of a lake names its settings
    topics = _topics(loaded, older, start, stop, since, committed=lake is None) if topic else None
    buffered = lake is None and (topic or repair)
    seconds = settle if settle is not None else interval(loaded, rows.name) if buffered else 0.0

    def look_at_lake() -> Report:
        earliest = None if topic else moment("--since", since)
        parts = rows, lake, loaded, topics, letters, about.errors
        return lake_report(*parts, since=earliest, settle=seconds, no_wait=no_wait, region=about.access.region)

    def look(checker: RepairingChecker | None = None, /, *, step: float | None = None) -> Report:
        logged = chain.from_iterable(log_entries(path, terminal.say) for path in expected)
        return library.verify(
            logged if topics is None else topics,
            rows,
            letters,
            about.errors,
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
        done = repair_rows(look, loaded, others, rows, about.access, settle=seconds, yes=yes)
        report = tell(*done, compared, html, wide=wide, as_json=as_json)
    else:
        report = look() if lake is None else look_at_lake()
        _tell(report, compared, html, wide=wide, as_json=as_json)
    return NOT_VERIFIED if not report.ok else 0 if report.settled else NOT_SETTLED


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


def _topics(
    loaded: Config,
    others: Sequence[Judged],
    start: Mapping[tuple[str, int], int],
    stop: Mapping[tuple[str, int], int],
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
        start=start,
        stop=stop,
        since=None if earliest is None else int(earliest.timestamp() * 1000),
        counted=partial(terminal.counted, "records read"),
        committed=committed,
    )
