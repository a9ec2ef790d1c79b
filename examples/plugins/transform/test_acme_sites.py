"""The transform keeps what transforms promise; `pytest -q` says which promise it does not."""

import json

from lmstream.settings import Settings
from lmstream.testing import TransformConformance

import acme_sites


def bundle(host: str, unit: str, value: float) -> bytes:
    point = {"timeUnixNano": "1715263558360000000", "asDouble": value}
    metric = {"name": "temperature", "unit": unit, "gauge": {"dataPoints": [point]}}
    resource = {"attributes": [{"key": "host.name", "value": {"stringValue": host}}]}
    return json.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}).encode()


class TestTransform(TransformConformance):
    def make(self, settings: Settings) -> acme_sites.Transform:
        return acme_sites.Transform(settings)

    def samples(self) -> list[bytes]:
        """Bundles as they are in the topic: the more of what it is for is in them, the more is tried."""
        return [bundle("ams-1", "[degF]", 86.0), bundle("test-1", "Cel", 30.0), bundle("web-1", "By", 1.0)]
