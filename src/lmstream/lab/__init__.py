"""Local stand-ins for tests and the demo, extra [lab]: a Kafka broker, mTLS, a strict Firehose, Lambda with what
calls it, LMDP bundles.

Everything binds 127.0.0.1 on a free port, is an async context manager, and starts in well under a second:

    async with KafkaLab(folder, mtls=True) as kafka, FirehoseLab(StreamConfig.for_settings("rows", s), folder) as hose:
        await kafka.create_topic("lm.metrics.otlp", partitions=4)

Names are loaded on first use, so that a missing extra is one ConfigError and not an import failure of everything.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lmstream.errors import ConfigError

if TYPE_CHECKING:
    from lmstream.lab.broker import Broker as Broker
    from lmstream.lab.faults import Fault as Fault
    from lmstream.lab.firehose import FirehoseLab as FirehoseLab
    from lmstream.lab.firehose_config import StreamConfig as StreamConfig
    from lmstream.lab.generator import Bundle as Bundle
    from lmstream.lab.generator import Generator as Generator
    from lmstream.lab.invokers import Mapping as Mapping
    from lmstream.lab.invokers import Pipe as Pipe
    from lmstream.lab.invokers import Policy as Policy
    from lmstream.lab.kafka import KafkaLab as KafkaLab
    from lmstream.lab.mtls import Certificates as Certificates
    from lmstream.lab.mtls import MtlsProxy as MtlsProxy
    from lmstream.lab.quota import Quota as Quota
    from lmstream.lab.runtime_api import Function as Function
    from lmstream.lab.s3 import S3Lab as S3Lab
    from lmstream.lab.stores import FolderStore as FolderStore
    from lmstream.lab.stores import ObjectStore as ObjectStore
    from lmstream.lab.stores import S3Store as S3Store
    from lmstream.lab.tcp import TcpFaults as TcpFaults

_HOMES = {
    "Broker": "broker",
    "Bundle": "generator",
    "Certificates": "mtls",
    "Fault": "faults",
    "FirehoseLab": "firehose",
    "FolderStore": "stores",
    "Function": "runtime_api",
    "Generator": "generator",
    "KafkaLab": "kafka",
    "Mapping": "invokers",
    "MtlsProxy": "mtls",
    "ObjectStore": "stores",
    "Pipe": "invokers",
    "Policy": "invokers",
    "Quota": "quota",
    "S3Lab": "s3",
    "S3Store": "stores",
    "StreamConfig": "firehose_config",
    "TcpFaults": "tcp",
}
__all__ = tuple(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("lmstream"):
            raise  # a bug in the lab, not a missing extra
        from lmstream.config.plugins import extra_missing  # no part of a quick start

        absent = ConfigError.missing(name, "lab", package=e.name)
        raise extra_missing(e, name) or absent from e
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
