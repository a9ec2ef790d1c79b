"""The demo with Lambda as the host: AWS's own runtime client, called by a Pipe or a mapping that reads the broker."""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal

from lmstream.abilities import InFolder
from lmstream.cli import terminal
from lmstream.cli.kafka import settings_of
from lmstream.config import Config
from lmstream.errors import ConfigError, LmstreamError

Kind = Literal["pipe", "mapping"]
_BATCH: Final = 25
_ROOT: Final = Path(__file__).resolve().parents[2]
_TIMEOUT: Final = 20.0  # seconds that the function may take
_VARIABLES: Final = {"LMSTREAM_DELIVERY__TIMEOUT": "5", "LMSTREAM_LAMBDA__PATIENCE": "8"}


def need() -> None:
    """Raises ConfigError when something is not installed that runs a function here."""
    for name, extra in (("awslambdaric", "lab"), ("aws_lambda_powertools", "lambda"), ("boto3", "consumer")):
        if importlib.util.find_spec(name) is None:
            raise ConfigError.missing("a Lambda function on this machine (Linux)", extra, package=name)


async def work(
    config: Config, kafka: Any, kind: Kind, publish: Callable[[], Awaitable[int]], patience: float
) -> tuple[str, int]:
    """Publish, and let the function take all of it; answers what happened, and how many invocations failed.

    `publish` answers how many records are in the topic; `patience` is in seconds.
    """
    from lmstream.lab import Function, Mapping, Pipe, Policy

    settings = settings_of(config)
    (topic,) = settings.topics
    kinds = {"pipe": Pipe, "mapping": Mapping}
    policy = Policy(batch_size=_BATCH, report_batch_item_failures=True, bisect_batch_on_function_error=True)
    client = {
        "bootstrap_servers": settings.bootstrap,
        "group_id": settings.group,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": settings.heartbeat_interval_ms,
        "security_protocol": "SSL",
        "ssl_context": kafka.client_context(),
    }
    async with (
        Function("lmstream.hosts.awslambda.handlers.handler", [_ROOT], variables(config), timeout=_TIMEOUT) as function,
        kinds[kind](function.invoke, topic, policy, **client) as invoker,
    ):
        published = await publish()
        try:
            await invoker.until(published, patience)
        except TimeoutError as e:
            terminal.say(str(e))  # the verdict says what is missing
        counts = invoker.counts
        if counts.errors:
            terminal.say(f"the function failed: {terminal.clean(invoker.last_error)}")
    told = f"{counts.records:,} bundles in {counts.invocations:,} invocations by a {kind}, {function.cold_starts} cold"
    return told, counts.errors + counts.partial


def variables(config: Config) -> dict[str, str]:
    """The function's environment: the sink and the dead letters of `config`, in LMSTREAM_* variables."""
    sink: Any = config.need("sink").settings
    letters: Any = config.dead_letters.settings if config.dead_letters is not None else None
    if not isinstance(letters, InFolder):
        raise LmstreamError("config.invalid", "the demo keeps dead letters in a folder")
    return {
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "lab"),
        "NO_PROXY": "127.0.0.1",
        "LMSTREAM_ENGINE__ORG_ID": config.engine.org_id,
        "LMSTREAM_SINK__STREAM": sink.stream,
        "LMSTREAM_SINK__REGION": sink.region,
        "LMSTREAM_SINK__ENDPOINT_URL": sink.endpoint_url,
        "LMSTREAM_DEAD_LETTERS__TYPE": "letters",
        "LMSTREAM_DEAD_LETTERS__ROOT": str(Path(letters.folder).resolve()),
        "LMSTREAM_LAMBDA__PARTIAL_FAILURES": "true",
        **_VARIABLES,
    }
