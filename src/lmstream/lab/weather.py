"""Weather of the lab: faults of Firehose, S3, network and broker that never end, the same ones for the same seed."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from lmstream.lab.faults import Fault
from lmstream.lab.kafka import KafkaLab

T = TypeVar("T")
CALM: Final = 0.4
"""Part of a storm's faults that weather has which a person looks at: some 18 of 100 calls."""
_FIREHOSE: Final = (("some", 0.30), ("busy", 0.40), ("taken", 0.42), ("odd", 0.44), ("slow", 0.46))
_S3: Final = (("SlowDown", 0.04), ("InternalError", 0.06), ("lost", 0.07), ("cut", 0.08))
_PAUSE: Final = (10.0, 40.0)
"""Seconds between two events of the network, drawn."""
_LONG: Final = 2.0
"""Seconds that one of them lasts: below the session of a member, so that most cost no rebalance."""


class Endless(deque[T]):
    """A plan of faults that is drawn for each call."""

    def __init__(self, well: T, draw: Callable[[], T]) -> None:
        super().__init__([well])  # never empty, so that each call asks
        self._draw = draw

    def popleft(self) -> T:
        return self._draw()


def fault(draw: random.Random, storm: float = 1.0) -> Fault:
    """What happens to one call of PutRecordBatch; `storm` is how much of it: with 1, nearly half of them are hit."""
    what = draw.random() / storm
    kind = next((kind for kind, below in _FIREHOSE if what < below), "")
    match kind:
        case "some":
            return Fault.some(0.3, draw.randrange(10**9))
        case "odd":
            return draw.choice([Fault.html(), Fault.short_answer(), Fault.reset(), Fault.server_error()])
    return {"busy": Fault.unavailable(), "taken": Fault.accept_then_reset(), "slow": Fault.slow(0.3)}.get(kind, Fault())


def of_firehose(seed: int) -> Endless[Fault]:
    """For `FirehoseLab.faults`."""
    draw = random.Random(seed)  # noqa: S311 - weather is no secret
    return Endless(Fault(), lambda: fault(draw, CALM))


def of_s3(seed: int) -> Endless[str]:
    """For `S3Lab.faults`."""
    draw = random.Random(seed)  # noqa: S311 - weather is no secret

    def drawn() -> str:
        what = draw.random()
        return next((code for code, below in _S3 if what < below), "")

    return Endless("", drawn)


async def of_network(kafka: KafkaLab, seed: int, say: Callable[[str], None]) -> None:
    """Cut connections, lose answers, delay them and kill the broker, now and then, for ever; others start it again."""
    draw, net = random.Random(seed), kafka.proxy  # noqa: S311 - as above
    assert net is not None  # noqa: S101 - the caller has one with mTLS
    while True:
        await asyncio.sleep(draw.uniform(*_PAUSE))
        match draw.choice(("reset", "silence", "delay", "death")):
            case "reset":
                say(f"weather: {await net.reset_all()} connections to the broker were reset")
            case "silence":
                say(f"weather: answers of the broker are lost for {_LONG:g} s")
                net.down.blackhole = True
                await asyncio.sleep(_LONG)
            case "delay":
                say(f"weather: answers of the broker take 0.2 s longer, for {_LONG:g} s")
                net.down.delay = 0.2
                await asyncio.sleep(_LONG)
            case "death":
                say("weather: the broker is killed")
                await kafka.broker.kill()
        net.heal()
