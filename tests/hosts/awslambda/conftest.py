"""The function beside a strict Firehose and a bucket, each on threads of its own, as the services are."""

import asyncio
import base64
import gzip
import json
import threading

import pytest

from lmstream.hosts.awslambda.host import from_environment
from lmstream.lab.firehose import FirehoseLab
from lmstream.lab.firehose_config import StreamConfig
from lmstream.settings import Settings
from support.buckets import S3

STREAM = "rows"


def entry(record, **changes):
    """A record as both kinds of event have it; changes with value ... leave a member out."""
    made = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestampType": "CREATE_TIME",
        "value": None if record.value is None else base64.b64encode(record.value).decode(),
        "headers": [],
    } | changes
    return {name: value for name, value in made.items() if value is not ...}


def pipe_event(entries):
    arn = "arn:aws:kafka:us-west-2:000000000000:cluster/lab/0"
    return [
        {"eventSource": "aws:kafka", "eventSourceArn": arn, **each, "partition": str(each.get("partition", ""))}
        if isinstance(each.get("partition"), int)
        else {"eventSource": "aws:kafka", "eventSourceArn": arn, **each}
        for each in entries
    ]


def mapping_event(entries):
    records = {}
    for each in entries:
        records.setdefault(f"{each.get('topic', 'lost')}-{each.get('partition', 0)}", []).append(each)
    return {"eventSource": "aws:kafka", "bootstrapServers": "b-1:9094", "records": records}


EVENTS = {"pipe": pipe_event, "mapping": mapping_event}


class Context:
    aws_request_id = "11111111-2222"

    def __init__(self, seconds=60.0):
        self.seconds = seconds

    def get_remaining_time_in_millis(self):
        return int(1000 * self.seconds)


class World:
    """The services that the function meets."""

    def __init__(self, folder):
        self.folder = folder / "landed"
        self.folder.mkdir()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.firehose = FirehoseLab(StreamConfig.for_settings(STREAM, Settings(org_id="acme")), self.folder)
        self.wait(self.firehose.start())
        self.s3 = S3()
        self.hosts = []

    def wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def env(self, **more):
        """The function's variables."""
        return {
            "AWS_ACCESS_KEY_ID": "lab",
            "AWS_SECRET_ACCESS_KEY": "lab",
            "LMSTREAM_ENGINE__ORG_ID": "acme",
            "LMSTREAM_SINK__STREAM": STREAM,
            "LMSTREAM_SINK__REGION": "us-west-2",
            "LMSTREAM_SINK__ENDPOINT_URL": self.firehose.endpoint_url,
            "LMSTREAM_DEAD_LETTERS__TYPE": "letters_s3",
            "LMSTREAM_DEAD_LETTERS__BUCKET": self.s3.bucket,
            "LMSTREAM_DEAD_LETTERS__REGION": "us-east-1",
            "LMSTREAM_DEAD_LETTERS__ENDPOINT_URL": self.s3.url,
            "LMSTREAM_DELIVERY__TIMEOUT": "5",
        } | {f"LMSTREAM_{name.upper()}": str(value) for name, value in more.items()}

    def host(self, **more):
        """A new environment of the function."""
        made = from_environment(self.env(**more))
        self.hosts.append(made)
        return made

    def lines(self):
        """All that landed, copies too; the error prefix must stay empty."""
        self.wait(self.firehose.flush())
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert not [path for path in files if "errors" in path.relative_to(self.folder).parts[0]]
        return b"".join(gzip.decompress(path.read_bytes()) for path in files).splitlines(keepends=True)

    def rows(self):
        """All that landed, by row id."""
        return {json.loads(line)["rowId"]: line for line in self.lines()}

    def letters(self):
        """Dead letters by (topic, partition, offset)."""
        return {(each.topic, each.partition, each.offset): each for each in self.s3.letters().values()}

    def close(self):
        for host in self.hosts:
            host.close()
        self.wait(self.firehose.close())
        self.wait(self._no_more())
        self.s3.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _no_more(self):
        """End answers that a fault holds back for longer than the test."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
def world(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    made = World(tmp_path)
    yield made
    made.close()
