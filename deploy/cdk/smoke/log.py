"""What is published: LMDP bundles with a verifiable log, and one device whose properties differ in case only."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from lmstream import Engine
from lmstream.cli.flags import BrokerFlags
from lmstream.cli.kafka import client_overrides, settings_of
from lmstream.config import load
from lmstream.lab.generator import Bundle, Generator
from lmstream.lab.publisher import Publisher
from lmstream.model import Record
from lmstream.settings import Settings
from smoke.plan import ORGANIZATION

SPELLED = {"Location": "upper", "location": "lower", "dataCenter": "camel"}
METRIC = "smoke_spelling"


def bundles(count: int, poison: float) -> Iterator[Bundle]:
    """`count` of them, then the device."""
    made = Generator(devices=10, datasources=3, instances=2, poison=poison, start_ms=int(time.time() * 1000))
    return chain(islice(made.bundles(), count), [_spelled()])


def _spelled() -> Bundle:
    properties = [{"key": key, "value": {"stringValue": value}} for key, value in SPELLED.items()]
    point = {"timeUnixNano": str(time.time_ns()), "asDouble": 1.5}
    scope = {"scope": {"name": "smoke"}, "metrics": [{"name": METRIC, "gauge": {"dataPoints": [point]}}]}
    body = {"resourceMetrics": [{"resource": {"attributes": properties}, "scopeMetrics": [scope]}]}
    return Bundle(json.dumps(body).encode(), 1)


def publish(broker: BrokerFlags, topic: str, log: Path, count: int, poison: float = 0.02) -> Counter[str]:
    """Publish, append what the broker acknowledged to the log, and answer rows by metricKey."""
    made = list(bundles(count, poison))
    settings = settings_of(load(None, env={}, overrides=client_overrides(broker, topic)))
    with log.open("ab") as out:
        sender = Publisher(settings, out)
        asyncio.run(sender.send(made))
    if sender.failed:
        raise SystemExit(f"the brokers did not acknowledge everything: {sender.failed}")
    return rows_of(made)


def rows_of(made: list[Bundle]) -> Counter[str]:
    """Rows by metricKey."""
    engine, found = Engine(Settings(org_id=ORGANIZATION)), Counter[str]()
    for number, bundle in enumerate(made):
        if not bundle.poison:
            record = Record(topic="smoke", partition=0, offset=number, value=bundle.payload)
            lines = engine.fan_out(record).ndjson().splitlines()
            found.update(json.loads(line)["metricKey"] for line in lines)
    return found
