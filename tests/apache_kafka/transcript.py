"""A night on this machine, as an operator sees it: run, lag, an outage of the sink, recovery, verify of the bucket.

    PYTHONPATH=.:tests .venv/bin/python tests/apache_kafka/transcript.py [FOLDER]

Apache Kafka with mTLS, the strict Firehose writing to a real S3 endpoint, and `lmstream` as a person calls it. Every command
and what it said goes to standard output; the exit code is that of the last verdict.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from apache_kafka.apache import ApacheKafka
from lmstream import Settings
from lmstream.lab import FirehoseLab, StreamConfig
from lmstream.lab.stores import S3Store
from support.buckets import S3

TOPIC = "lm.metrics.otlp"
CONFIG = """[engine]
org_id = "acme"
[source]
type = "kafka"
bootstrap = "{bootstrap}"
topics = ["{topic}"]
group = "lmstream"
security = "ssl"
ca = "{ca}"
cert = "{cert}"
key = "{key}"
[sink]
type = "firehose"
stream = "rows"
region = "us-east-1"
endpoint_url = "{hose}"
[dead_letters]
root = "{folder}/dead-letters"
[run]
report_seconds = 2
[endpoints]
address = "127.0.0.1:{port}"
"""
LMSTREAM = (sys.executable, "-m", "lmstream")


def say(text=""):
    print(text, flush=True)


class Shell:
    """Runs lmstream in a folder, and prints what was typed and what came."""

    def __init__(self, folder, env):
        self._folder, self._env = folder, env

    async def __call__(self, *words, show=True):
        say(f"\n$ lmstream {' '.join(words)}")
        process = await self._start(words, asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        if show:
            say("\n".join(line.rstrip() for line in out.decode().splitlines() if line.strip()))
        say(f"[exit {process.returncode}]")
        return process.returncode

    @contextlib.asynccontextmanager
    async def beside(self, *words):
        """Run it until the block ends, then as SIGTERM would end it."""
        say(f"\n$ lmstream {' '.join(words)} &")
        with (self._folder / "run.log").open("wb") as log:
            process = await self._start(words, log)
            try:
                yield
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
                say(f"\n[lmstream run ended with {process.returncode}; what it said:]")
                say((self._folder / "run.log").read_text("utf-8"))

    async def _start(self, words, out):
        return await asyncio.create_subprocess_exec(
            *LMSTREAM, *words, cwd=self._folder, env=self._env, stdout=out, stderr=asyncio.subprocess.STDOUT
        )


async def main(folder):
    """Play it; answer the exit code of the verdict."""
    cluster, s3 = ApacheKafka(folder), S3("lake")
    say(f"# {cluster.about}")
    try:
        await cluster.create_topic(TOPIC, 3)
        stream = StreamConfig.for_settings("rows", Settings(org_id="acme"), speed_up=30.0)
        store = S3Store("lake", endpoint_url=s3.url, credentials=("lab", "lab"))
        async with FirehoseLab(stream, store) as hose:
            return await _night(cluster, s3, hose, folder)
    finally:
        s3.close()
        cluster.close()


async def _night(cluster, s3, hose, folder):
    pem, port = cluster.certificates, 19464
    text = CONFIG.format(
        bootstrap=cluster.bootstrap, topic=TOPIC, ca=pem.ca, cert=pem.client_cert, key=pem.client_key,
        hose=hose.endpoint_url, folder=folder, port=port,
    )  # fmt: skip
    (folder / "lmstream.toml").write_text(text)
    env = os.environ | {"LMSTREAM_CONFIG": "lmstream.toml", "COLUMNS": "120"}
    env |= {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
    lmstream = Shell(folder, env)
    publish = (
        "publish", "--yes", "--topic", TOPIC, "--bootstrap", cluster.bootstrap,
        "--ca", str(pem.ca), "--cert", str(pem.client_cert), "--key", str(pem.client_key), "--verifiable",
    )  # fmt: skip
    await lmstream("validate", "--connect")
    await lmstream(*publish, "log1.jsonl", "--count", "200")
    async with lmstream.beside("run"):
        await _until(lambda: "rows" in (folder / "run.log").read_text("utf-8"))
        await asyncio.sleep(6)
        await lmstream("lag")
        say("\n# Firehose goes away: every call is answered with 503. Bundles go on coming.")
        hose.outage = True
        await lmstream(*publish, "log2.jsonl", "--count", "400")
        await asyncio.sleep(6)
        await lmstream("health", "--ready", "--address", f"127.0.0.1:{port}")
        await lmstream("lag")
        say("\n# Firehose comes back.")
        hose.outage = False
        await asyncio.sleep(15)
        await lmstream("lag")
    await hose.flush()
    verify = ("verify", "--topic", TOPIC, "--dead-letters", "dead-letters", "--s3-endpoint-url", s3.url)
    verify += ("--s3-region", "us-east-1", "--landed", "s3://lake")
    await lmstream(*verify, "--html", "verdict.html")
    await lmstream("query", "--landed", "s3://lake", "--s3-endpoint-url", s3.url, "--s3-region", "us-east-1",
                   "select metric, count(*) as rows from rows group by all order by rows desc limit 5")  # fmt: skip
    return await lmstream(*verify, "--from", "0=10", "--to", "0=20")


async def _until(condition):
    for _ in range(300):
        if condition():
            return
        await asyncio.sleep(0.2)
    raise SystemExit("not within a minute")


if __name__ == "__main__":
    given = Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp(prefix="lmstream-"))
    given.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(main(given.resolve())))
