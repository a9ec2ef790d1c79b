"""The delivery stream of the template, run as the strict local Firehose and fed with real packs."""

import gzip
import json
from pathlib import Path

import pytest

from lmstream import Engine, Record
from lmstream.delivery.packing import pack, requests
from lmstream.errors import ConfigError
from lmstream.lab import FirehoseLab
from lmstream.sinks.firehose import LIMITS, Firehose, Settings
from smoke.stream import stream_of

CORPUS = Path(__file__).resolve().parents[3] / "tests/corpus/golden"
KIND = "AWS::KinesisFirehose::DeliveryStream"


def records():
    """Bundles of every metric kind, with hostile names and at the edges of hours."""
    names = ("lmdp", "all_kinds", "attribute_values", "hostile_names", "hour_edges", "json_oddities")
    return [
        Record(
            topic="lm.metrics.otlp",
            partition=0,
            offset=n,
            timestamp=1_715_263_558_360,
            value=(CORPUS / name / "bundle.json").read_bytes(),
        )
        for n, name in enumerate(names)
    ]


async def test_rows_land_under_their_paths_and_none_in_the_error_prefix(each, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")
    config = stream_of(each.one(KIND), speed_up=1000.0)
    engine = Engine(each.deployment.engine)
    outs = [engine.fan_out(record) for record in records()]
    chunks = [
        (n, data, rows) for n, out in enumerate(outs) for data, rows in out.cut(LIMITS.pack_rows, LIMITS.pack_bytes)
    ]
    async with FirehoseLab(config, tmp_path) as hose:
        sink = Firehose(Settings(stream=config.name, region="us-west-2", endpoint_url=hose.endpoint_url))
        for request in requests(pack(chunks, LIMITS), LIMITS):
            assert not any(await sink.write(request))
        await sink.close()
    wanted = {}
    for out in outs:
        for group in out.groups:
            wanted.setdefault(group.path, set()).update(group.data.splitlines())
    landed = {}
    for path in (each for each in tmp_path.rglob("*") if each.is_file()):
        assert path.name.endswith(".json.gz")
        folder = f"{path.parent.relative_to(tmp_path).as_posix()}/"
        lines = gzip.decompress(path.read_bytes())
        assert lines.endswith(b"\n")
        landed.setdefault(folder, set()).update(lines.splitlines())
    assert landed == wanted
    assert sum(map(len, wanted.values())) > 40
    assert not any(folder.startswith("errors") for folder in landed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Prefix": "!{partitionKeyFromQuery:orgKey}/"}, "query may not have keys that the prefix does not use"),
        ({"BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300}}, "buffer_bytes must be 67108864"),
        ({"ErrorOutputPrefix": "errors/"}, "error_prefix must be set"),
        ({"DynamicPartitioningConfiguration": {"Enabled": False}}, "need each other"),
    ],
)
def test_a_stream_that_the_service_would_refuse_is_refused_here(default, change, message):
    properties = json.loads(json.dumps(default.one(KIND)))
    properties["ExtendedS3DestinationConfiguration"] |= change
    with pytest.raises(ConfigError, match=message):
        stream_of(properties)
