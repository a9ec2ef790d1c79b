"""`lmstream verify` of a lake: where its claims lie, what is no row of it, and what the walk cost."""

import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from lmstream.cli import terminal
from lmstream.config import Config
from lmstream.deployment.prices import prices
from lmstream.errors import ConfigError
from lmstream.storage.by_key import keyed
from lmstream.storage.line_files import CLAIMS as BELOW
from lmstream.storage.objects import NO_S3, SCHEME, Folder, Place, Prefix, S3Access, place
from lmstream.verification import Report, Topics, verify_lake
from lmstream.verification.lake.chain import CLAIMS
from lmstream.verification.lake.of_topics import remade
from lmstream.verification.verify import letters_in


def claims_of(rows: Place, named: Place | None, config: Config) -> Place | None:
    """Where the claims of a lake lie: where it is said, else where some are; None where none are.

    Raises ConfigError when they may be at two places, SourceError.
    """
    if named is not None:
        return named
    found = {each.name: each for each in _candidates(rows, config) if _has_claims(each)}
    if len(found) > 1:
        what = f"claims lie at {' and at '.join(sorted(found))}"
        raise ConfigError("config.invalid", what, "say with --claims which of them are of these rows")
    return next(iter(found.values()), None)


def _candidates(rows: Place, config: Config) -> Iterator[Place]:
    sink = config.sink.settings if config.sink is not None else None
    prefix = getattr(sink, "claims", "")
    if isinstance(rows, Prefix):
        if prefix and getattr(sink, "bucket", "") == rows.bucket:
            yield rows.at(prefix)
            return
        yield rows.below(BELOW)
        yield rows.at(BELOW)
    else:
        yield rows.below(BELOW)


def _has_claims(there: Place) -> bool:
    if isinstance(there, Folder) and not there.exists():
        return False
    return next(iter(keyed(there).keys(CLAIMS)), None) is not None


def lake_report(
    rows: Place,
    claims: Place | None,
    config: Config,
    topics: Topics | None,
    letters: Place | None,
    errors: Place | None,
    *,
    since: datetime | None,
    settle: float,
    no_wait: bool,
    region: str | None,
) -> Report:
    """Verify a lake by its claims, and against topics if there are any."""
    if claims is None:
        raise ConfigError("config.invalid", f"no claims of a lake lie at {rows.name} (--claims)")
    report = verify_lake(
        keyed(rows),
        keyed(claims),
        None if topics is None else remade(topics, config.engine),
        None if letters is None else letters_in(letters, terminal.say),
        since=0.0 if since is None else since.timestamp(),
        settle=settle,
        wait=None if no_wait else _wait,
        without=no_rows(rows, letters, errors, letters_of(config)),
        watch=partial(terminal.counted, "objects read"),
    )
    if report.lake is not None and isinstance(rows, Prefix):
        paid = prices().at(region or "")
        gets, lists = paid["s3_1000_gets"].usd, paid["s3_1000_puts"].usd
        report.lake.dollars = (report.lake.get_requests * gets + report.lake.list_requests * lists) / 1000
    return report


def letters_of(config: Config, access: S3Access = NO_S3) -> Place | None:
    """Where the run keeps its dead letters, if that is a place of objects; `access` is for what its settings leave
    open."""
    settings = config.dead_letters.settings if config.dead_letters is not None else None
    if folder := getattr(settings, "folder", ""):
        return place(folder)
    bucket = getattr(settings, "bucket", "")
    if not bucket:
        return None
    endpoint, region = getattr(settings, "endpoint_url", ""), getattr(settings, "region", "")
    reached = S3Access(endpoint_url=endpoint or access.endpoint_url, region=region or access.region)
    return place(f"{SCHEME}{bucket}/{getattr(settings, 'prefix', '')}", reached)


def no_rows(rows: Place, *others: Place | None) -> list[str]:
    """What keys of other places begin with, those that lie below that of the rows."""
    return [inside for each in others if each is not None and (inside := _inside(rows, each))]


def _inside(rows: Place, other: Place) -> str:
    """What keys of another place begin with, below that of the rows; empty when it is not there."""
    if isinstance(rows, Prefix) and isinstance(other, Prefix):
        inside = rows.bucket == other.bucket and other.prefix.startswith(rows.prefix)
        return other.prefix.removeprefix(rows.prefix) if inside else ""
    if isinstance(rows, Folder) and isinstance(other, Folder):
        inside = other.path.resolve().is_relative_to(rows.path.resolve())
        below = other.path.resolve().relative_to(rows.path.resolve()).as_posix() if inside else "."
        return "" if below == "." else f"{below}/"
    return ""


def _wait(seconds: float) -> None:
    terminal.say(f"the newest windows are not complete: looking again in {seconds:.0f} s (--no-wait does not)")
    time.sleep(seconds)
