"""What stands for AWS in a rehearsal where the emulator cannot: broker, source, and a strict Firehose.

MiniStack's Firehose does not take records apart, so that packs of rows end in the error prefix, and appends the hour of
arrival. The lab's is made from the deployed template instead, and writes into the emulator's bucket.
"""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from lmstream.lab import FirehoseLab, KafkaLab, Mapping, Pipe, Policy, S3Store
from lmstream.lab.runtime_api import Answer
from smoke.stream import stream_of
from smoke.world import World, say

PATIENCE = 120.0  # seconds until the source has settled everything
SPEED = 60.0  # times as quick as the stream's buffer


class Lab:
    """A broker with the topic, and a source that calls the deployed function."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = asyncio.new_event_loop()
        self._kafka: Any = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        self._kafka = KafkaLab(self._world.folder / "kafka")
        self._loop.run_until_complete(self._kafka.start())
        self._loop.run_until_complete(self._kafka.create_topic(self._world.plan.topic, partitions=1))
        self.bootstrap = self._kafka.bootstrap
        return self

    def deliver(self, records: int) -> None:
        """Call the function as the source would, until so many records are settled."""
        self._loop.run_until_complete(self._deliver(records))

    async def _deliver(self, records: int) -> None:
        plan, world = self._world.plan, self._world
        store = S3Store(
            plan.bucket("metrics"), endpoint_url=world.url, region=plan.region, credentials=("test", "test")
        )
        async with FirehoseLab(stream_of(self._stream(), speed_up=SPEED), store) as hose:
            self._point_at(hose.endpoint_url)
            await self._settle(records)

    def _stream(self) -> dict[str, Any]:
        """The delivery stream as it was deployed."""
        template = json.loads(
            (self._world.folder / "cdk.out" / f"{self._world.plan.name}-data.template.json").read_text()
        )
        kind = "AWS::KinesisFirehose::DeliveryStream"
        (stream,) = (each["Properties"] for each in template["Resources"].values() if each["Type"] == kind)
        found: dict[str, Any] = stream
        return found

    def _point_at(self, url: str) -> None:
        """Have the deployed function put its rows there."""
        client, name = self._world.client("lambda"), self._world.plan.name
        variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        variables["LMSTREAM_SINK__ENDPOINT_URL"] = url
        client.update_function_configuration(FunctionName=name, Environment={"Variables": variables})

    async def _settle(self, records: int) -> None:
        plan = self._world.plan
        kind = Pipe if plan.source == "pipe" else Mapping
        policy = Policy(report_batch_item_failures=plan.source == "pollers")
        source = kind(self._invoke, plan.topic, policy, bootstrap_servers=self.bootstrap, group_id=plan.name)
        async with source:
            await source.until(records, PATIENCE)
        say(f"the lab's {kind.__name__} settled {source.counts.records} records in {source.counts.invocations} calls")

    async def _invoke(self, event: object) -> Answer:
        def call() -> Answer:
            client = self._world.client("lambda")
            said = client.invoke(FunctionName=self._world.plan.name, Payload=json.dumps(event).encode())
            body = json.loads(said["Payload"].read() or b"null")
            error = json.dumps(body)[:500] if said.get("FunctionError") else ""
            return Answer(None if error else body, error, cold=False, seconds=0.0)

        return await asyncio.to_thread(call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._kafka.close())
        self._loop.close()
