"""`lmstream demo`: the whole job on embedded parts in one process, with real protocols and injected failures."""

import asyncio
import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from cyclopts import Parameter, validators

from lmstream.cli import demo_lake, demo_lambda, terminal
from lmstream.cli.flags import Json
from lmstream.cli.itself import command
from lmstream.cli.tables import table
from lmstream.cli.verify import NOT_VERIFIED
from lmstream.cli.without_broker import bundles_in
from lmstream.config import Config, build_runtime, load
from lmstream.errors import ConfigError, LmstreamError
from lmstream.runtime import Progress
from lmstream.runtime.loop import Summary
from lmstream.verification import Report, log_entries, verify
from lmstream.verification.sql import connect
from lmstream.verification.sql import run as run_sql

TOPIC: Final = "lm.metrics.otlp"
STREAM: Final = "lmstream-demo"
PARTITIONS: Final = 4
MARKER: Final = ".lmstream-demo"
# Never to be reworded: a folder of an earlier version is known by these very words.
_MARKED: Final = "This folder was made by `lmstream demo`, which empties it at its next start.\n"
_PATIENCE: Final = 60.0  # seconds without progress after which the demo gives up waiting and judges what is there
_SUMMARY: Final = """
select orgId as org, metric, count(*) as rows, count(distinct deviceId) as devices,
       count(distinct substr(ts, 1, 13)) as hours, round(avg(value), 2) as mean, round(max(value), 2) as most
from rows group by all order by rows desc, metric limit 12
"""


Host = Literal["container", "pipe", "mapping"]


class Bundles(NamedTuple):
    """What is published."""

    number: int
    seed: int


def demo(
    *,
    bundles: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 300,
    folder: Annotated[Path, Parameter(name="--dir")] = Path("lmstream-demo"),
    seed: int = 1,
    no_faults: bool = False,
    host: Host = "container",
    lake: bool = False,
    as_json: Json = False,
) -> int:
    """Run the whole pipeline on this machine: no Kafka, no AWS, no configuration. Exit 3 if the verification fails.

    Starts a Kafka broker behind mTLS and a strict local Firehose that fails now and then, publishes bundles (some are
    invalid on purpose), runs the consumer, and lands rows in a folder as they would land in S3. Then it queries the
    rows with DuckDB and verifies that none is lost.

    Parameters
    ----------
    bundles
        Bundles to publish, about 25 rows each.
    folder
        Folder to work in. It is emptied first if an earlier demo created it, and refused otherwise.
    seed
        Seed of the generated bundles.
    no_faults
        Let Firehose accept every request. Without it some requests are throttled, partly rejected, or reset.
    host
        What runs the engine: the consumer, or AWS's own Lambda client behind a Pipe or an event source mapping.
    lake
        Land in a bucket without Firehose, exactly once: two members, of which some are killed on the way.
    as_json
        Print one JSON object at the end: where everything is, and the verdict as `verify --json` has it.
    """
    if lake and host != "container":
        raise ConfigError("config.invalid", "--lake needs members that can read again: leave --host out")
    if host != "container":
        demo_lambda.need()
    if lake:
        demo_lake.need()
    began = time.monotonic()
    _prepare(folder)
    work = _lake if lake else partial(_work, host=host)
    with _alone():
        told = asyncio.run(work(folder, Bundles(bundles, seed), faults=not no_faults))
    landed = folder / (f"bucket/{demo_lake.BUCKET}" if lake else "landed")
    if not (folder / "published.jsonl").exists():
        terminal.say("without a broker there is no topic to verify against")
        _show(folder, landed, told, [], time.monotonic() - began)
        return 0
    report = verify(log_entries(folder / "published.jsonl"), landed, folder / "dead-letters")
    proof = demo_lake.proof(landed) if lake else None
    seconds = time.monotonic() - began
    if as_json:
        terminal.say(told)
        verdicts = {"report": report} | ({"proof": proof} if proof else {})
        ok = all(each.ok for each in verdicts.values())
        found = {"ok": ok, "seconds": round(seconds, 3), "folder": str(folder), "landed": str(landed)}
        terminal.print_json(found | msgspec.to_builtins(verdicts), indent=None)
    else:
        _show(folder, landed, told, [report, *([proof] if proof else [])], seconds)
    return 0 if report.ok and (proof is None or proof.ok) else NOT_VERIFIED


def _prepare(folder: Path) -> None:
    """Make an empty folder with our marker. Never touches a folder without it, nor follows a link."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError("config.invalid", f"--dir {folder} is not a plain folder")
    if folder.is_dir() and any(folder.iterdir()):
        marker = folder / MARKER
        if marker.is_symlink() or not marker.is_file() or marker.read_text(encoding="utf-8") != _MARKED:
            raise ConfigError(
                "config.invalid", f"--dir {folder} is not empty and not from an earlier demo; name another folder"
            )
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text(_MARKED, encoding="utf-8")
    except OSError as e:
        raise ConfigError("config.invalid", f"--dir {folder}: {e.strerror}") from e


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep the AWS client to the lab: made-up keys, no profile of the user's, no proxy in between."""
    around = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1")))
    before = dict(os.environ)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CA_BUNDLE"):
        os.environ.pop(name, None)
    os.environ.update(dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), "lab"))
    os.environ.update(NO_PROXY=around, no_proxy=around)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _lake(folder: Path, bundles: Bundles, *, faults: bool) -> str:
    from lmstream.lab import KafkaLab, S3Lab

    terminal.say(f"starting a Kafka broker, an mTLS proxy and a strict local S3 in {folder}")
    async with (
        KafkaLab(folder / "certificates", mtls=True) as kafka,
        S3Lab(demo_lake.BUCKET, folder=folder / "bucket") as s3,
    ):
        await kafka.create_topic(TOPIC, PARTITIONS)
        if faults:
            s3.faults.extend(["", "", "SlowDown", "", "lost", "InternalError", "", "cut", "ConditionalRequestConflict"])
        path = folder / "lmstream.toml"
        path.write_text(demo_lake.written(demo_lake.settings(folder, kafka, s3.endpoint_url)), encoding="utf-8")
        demo_lake.environment()
        config = load(env={}, path=path)
        # Slow enough that members die in the middle of it.
        publish = partial(_publish, config, folder, bundles, bundles.number / 10 if faults else 0.0)
        return await demo_lake.work(folder, config, publish, _PATIENCE, bundles.seed, faults=faults)


async def _work(folder: Path, bundles: Bundles, host: Host, *, faults: bool) -> str:
    from lmstream.lab import Fault, FirehoseLab, KafkaLab, StreamConfig

    # Rows wait a second or two instead of a minute: the service's own least would be a long demo.
    base = load(env={}, overrides={"engine.org_id": "acme"})
    stream = StreamConfig.for_settings(STREAM, base.engine, speed_up=30.0)
    terminal.say(f"starting a Kafka broker, an mTLS proxy and a strict local Firehose in {folder}")
    async with AsyncExitStack() as parts:
        hose = await parts.enter_async_context(FirehoseLab(stream, folder / "landed"))
        kafka = KafkaLab(folder / "certificates", mtls=True)
        try:
            await parts.enter_async_context(kafka)
        except LmstreamError as e:
            if host != "container":
                raise
            paths = (str(bundles_in(folder, *bundles, e)),)
            config = _configuration(folder, {"source.type": "files", "source.paths": paths}, hose.endpoint_url)
            return _sentence(await build_runtime(config).run())
        await kafka.create_topic(TOPIC, PARTITIONS)
        if faults:
            # What a real stream does on a bad day. The reset after acceptance makes duplicates: they are counted below.
            hose.faults.extend(
                [Fault.partial(0), Fault.unavailable(), Fault.some(0.3, bundles.seed), Fault.accept_then_reset()]
            )
            if host != "container":  # one refusal that the function does not wait out: what calls it sends again
                hose.faults.append(Fault(status=400, code="AccessDeniedException", message="of the demo"))
        config = _configuration(folder, _source(kafka), hose.endpoint_url)
        if host == "container":
            summary = await _consume(config, folder, bundles)
            told, again = _sentence(summary), f"{summary.retried_packs} packs were retried"
        else:
            publish = partial(_publish, config, folder, bundles)
            told, failed = await demo_lambda.work(config, kafka, host, publish, _PATIENCE)
            again = f"{failed} invocations left records undelivered and were retried"
        refused = hose.counters.failed_records + hose.counters.refused_calls
    if faults:
        terminal.say(f"Firehose failed {refused} times; {again}")
    return told


def _source(kafka: Any) -> dict[str, Any]:
    certificates = kafka.certificates
    return {
        "source.type": "kafka",
        "source.bootstrap": kafka.bootstrap,
        "source.topics": (TOPIC,),
        "source.group": "lmstream-demo",
        "source.security": "ssl",
        "source.ca": str(certificates.ca),
        "source.cert": str(certificates.client_cert),
        "source.key": str(certificates.client_key),
        # The lab's broker answers a first JoinGroup after half a session: production values would cost 20 s here.
        "source.session_timeout_ms": 3_000,
        "source.heartbeat_interval_ms": 300,
    }


def _configuration(folder: Path, source: dict[str, Any], endpoint_url: str) -> Config:
    overrides = {
        "engine.org_id": "acme",
        **source,
        "sink.type": "firehose",
        "sink.stream": STREAM,
        "sink.region": "us-east-1",
        "sink.endpoint_url": endpoint_url,
        "dead_letters.root": str(folder / "dead-letters"),
        "runtime.fatal_patience": 5.0,
    }
    return load(env={}, overrides=overrides)


async def _publish(config: Config, folder: Path, bundles: Bundles, rate: float = 0.0) -> int:
    """Publish with a log of what was acknowledged; answers how many bundles that are."""
    from lmstream.cli.kafka import settings_of
    from lmstream.lab.generator import Generator
    from lmstream.lab.publisher import Publisher

    minutes = 15  # between two polls of a device, so that some hours of event time land
    generator = Generator(
        seed=bundles.seed,
        devices=6,
        start_ms=int(time.time() * 1000) - 3 * 3_600_000,
        interval_ms=minutes * 60_000,
        chaos=0.01,
        poison=0.02,
    )
    with (
        (folder / "published.jsonl").open("wb") as log,
        terminal.Progress("bundles published", bundles.number) as progress,
    ):
        sender = Publisher(settings_of(config), log, config.engine, progress.advance)
        await sender.send(islice(generator.bundles(), bundles.number), rate=rate)
    terminal.say(f"{sender.acknowledged:,} bundles are in the topic over mTLS ({sender.bytes / 1e6:.1f} MB); consuming")
    return sender.acknowledged


async def _consume(config: Config, folder: Path, bundles: Bundles) -> Summary:
    """Publish and consume at the same time; stop when all that was published is settled."""
    published: int | None = None
    waited = asyncio.Event()

    def look(progress: Progress) -> None:
        if published is not None and progress.records >= published and not progress.unacked:
            waited.set()

    runtime = build_runtime(config, look)
    running = asyncio.create_task(runtime.run())
    publishing = asyncio.create_task(_publish(config, folder, bundles))
    await asyncio.wait({publishing, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        publishing.cancel()
        await asyncio.wait({publishing})
        return running.result()
    published = await publishing
    ready = asyncio.create_task(waited.wait())
    await asyncio.wait({ready, running}, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    runtime.stop()
    return await running


def _sentence(summary: Summary) -> str:
    reasons = {**summary.rejected, **summary.skipped, **summary.dropped}
    odd = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    return f"{summary.records:,} bundles became {summary.rows:,} rows; {summary.dead_letters:,} dead letters" + (
        f"; points without a row: {odd}" if odd else ""
    )


def _show(folder: Path, landed_in: Path, told: str, reports: Sequence[Report], seconds: float) -> None:
    try:
        headers, rows = run_sql(connect(landed_in), _SUMMARY)
        table(headers, rows, title="Landed rows in DuckDB (view `rows`, without duplicates):")
    except LmstreamError as e:
        if e.reason != "config.extra":
            raise
        terminal.say(str(e))
    print(told)
    for report in reports:
        print(report.verdict)
    print(f"done in {seconds:.1f} s. Now try:")
    me = command()
    letters = sorted((folder / "dead-letters").rglob("*.json"))
    # One with refused points, if there is any: its other points are rows to look at.
    letter = next((one for one in letters if b'"rejected"' in one.read_bytes()), letters[0] if letters else None)
    sql = "select metric, count(*) from rows group by all order by all limit 5"
    places = (folder / "published.jsonl", landed_in, folder / "dead-letters")
    published, landed, dead_letters = (shlex.quote(str(each)) for each in places)
    print(f'  {me} query "{sql}" --landed {landed}')
    if reports:
        print(f"  {me} verify --expected {published} --landed {landed} --dead-letters {dead_letters}")
    shown = letter or next((folder / "bundles").glob("*"), folder / "published.jsonl")
    print(f"  {me} inspect {shlex.quote(str(shown))} --rows --org acme")
