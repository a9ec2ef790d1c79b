"""The Lambda runtime's own boto3 behind the seams of sinks and dead letters."""

from typing import Any

from lmstream.abilities import OnAws
from lmstream.aws import firehose_body
from lmstream.aws.threaded import Client


class FirehoseClient(Client):
    """Firehose, with bodies of requests of our own making."""

    def __init__(self, settings: OnAws) -> None:
        self._ours = True
        super().__init__("firehose", settings, parameter_validation=False)

    def _make(self) -> Any:
        client = super()._make()
        self._ours = firehose_body.register(client)
        return client

    async def put_record_batch(self, **request: Any) -> Any:
        await self.made()
        if not self._ours:
            return await self.call("put_record_batch", **request)
        with firehose_body.using(firehose_body.body(request["DeliveryStreamName"], request["Records"])):
            return await self.call("put_record_batch", **{**request, "Records": []})


def client_of(service: str, settings: OnAws) -> Client:
    """A client of the service for a part with these settings. Nothing connects yet."""
    return FirehoseClient(settings) if service == "firehose" else Client(service, settings)
