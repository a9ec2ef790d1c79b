"""`lmstream run --offsets`: chosen offsets are read again and delivered, without a group; or a lake is repaired."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from lmstream.abilities import InFolder
from lmstream.cli import terminal
from lmstream.cli.ending import conclude, counted
from lmstream.cli.kafka import settings_of
from lmstream.cli.lake import show_repaired
from lmstream.cli.log_lines import logged
from lmstream.cli.run import execute
from lmstream.config import Config
from lmstream.config.lake_tools import LakeTools, lake_tools
from lmstream.config.plugins import Part
from lmstream.config.validation import REPLAY, refuse
from lmstream.delivery import Settled
from lmstream.errors import ConfigError, LmstreamError
from lmstream.errors import refuse as refuse_all
from lmstream.hosts.container.workers import PARTIAL
from lmstream.kafka import chosen_offsets
from lmstream.kafka.chosen_offsets import ChosenOffsets, Missing, Span, merged
from lmstream.kafka.claimed_offsets import ClaimedOffsets
from lmstream.kafka.topics import Wanted
from lmstream.lake.claims import Claim
from lmstream.lake.repair import Repaired
from lmstream.model import TopicPartition
from lmstream.observability.settings import EndpointSettings
from lmstream.runtime import Progress

_FORM: Final = re.compile(r"(?:([A-Za-z0-9._-]{1,249})/)?(\d{1,9})=(\d{1,18})\.\.(\d{1,18})")
_CLIENTS: Final = ("kafka", "confluent")
_AS_IN: Final = "expected TOPIC/PARTITION=FROM..TO, as in lm.metrics.otlp/0=1200..1300; TO itself is not read"


def topics_in(texts: Sequence[str]) -> tuple[str, ...]:
    """The topics that these ranges name."""
    return tuple(dict.fromkeys(found[1] for text in texts if (found := _FORM.fullmatch(text)) and found[1]))


def spans_of(texts: Sequence[str], topics: Sequence[str]) -> list[Span]:
    """The ranges that were typed, in order, each offset once. Raises ConfigError with all that is wrong with them."""
    wanted, wrong, spans = Wanted(topics), list[LmstreamError](), []
    alone = topics[0] if len(topics) == 1 and topics[0] in wanted.named else ""
    for text in texts:
        found = _FORM.fullmatch(text)
        topic = alone if found is None else found[1] or alone
        if found is None:
            wrong.append(ConfigError("config.invalid", f"--offsets {text}: {_AS_IN}"))
        elif not topic:
            what = f"--offsets {text}: say of which topic ({', '.join(topics)})"
            wrong.append(ConfigError("config.invalid", what, _AS_IN))
        elif topic not in wanted.of([topic]):
            what = f"--offsets {text}: the configuration reads {', '.join(topics)}, and not {topic}"
            wrong.append(ConfigError("config.invalid", what, "correct the topic, or name it with --topic"))
        elif int(found[4]) <= int(found[3]):
            wrong.append(ConfigError("config.invalid", f"--offsets {text}: no offset is in this range; {_AS_IN}"))
        else:
            spans.append(Span(TopicPartition(topic, int(found[2])), int(found[3]), int(found[4])))
    refuse_all(wrong)
    return merged(spans)


def reading(config: Config, spans: Sequence[Span]) -> Config:
    """The configuration of a run of these offsets alone: it ends, commits nothing, and serves no endpoints. The port
    is that of the run beside it."""
    part = config.need("source")
    settings = chosen_offsets.settings_of(settings_of(config), spans, client=part.name == "kafka")
    return structs.replace(
        config,
        source=Part(part.name, chosen_offsets, settings),
        endpoints=EndpointSettings(address="off"),
        run=structs.replace(config.run, workers=1),
    )


def read_again(config: Config, texts: Sequence[str], *, as_json: bool) -> int:
    """Read these offsets again and deliver what they hold; answer the exit code."""
    spans = spans_of(texts, settings_of(config).topics)
    if config.need("sink").traits.claims:
        refuse(config, REPLAY)
        if not isinstance(config.need("sink").settings, InFolder) or asyncio.run(_knows(config, spans)):
            return _repaired(config, spans, as_json=as_json)
        terminal.say("no claim in this folder is of these topics: the offsets land there at least once")
    config = reading(config, spans)
    with logged(config, 0):
        summary, missing = delivered(config)
    code = conclude(summary, config)
    for line in missing.lines:
        terminal.say(line)
    if as_json:
        with terminal.read_or_not():
            terminal.print_json(counted(summary) | {"missing": msgspec.to_builtins(missing)}, indent=None)
    return code or (PARTIAL if missing.lost else 0)


def delivered(
    config: Config, source: ChosenOffsets | None = None, on_settled: Settled | None = None
) -> tuple[Progress, Missing]:
    """Run a configuration of `reading` to its end; answer its counts, and the offsets that gave nothing."""
    source = source or ChosenOffsets(config.need("source").settings)
    return asyncio.run(execute(config, source, on_settled)), source.missing


# --- a lake ------------------------------------------------------------------------------------------------------


def _repaired(config: Config, spans: Sequence[Span], *, as_json: bool) -> int:
    """Repair the claims that cover these offsets: what landed by claims is never claimed again."""
    found = asyncio.run(_repair(config, spans))
    terminal.say(f"these offsets landed by {len(found):,} claims of the lake, which are repaired from their manifests")
    show_repaired(found, wide=True, as_json=as_json)
    return PARTIAL if any(each.lost for each in found) else 0


async def _knows(config: Config, spans: Sequence[Span]) -> bool:
    """Whether a lake has claims of any of these topics. Without any no member lands there what would be landed now."""
    async with lake_tools(config) as lake:
        return bool({topic for topic, _ in await lake.chains.lanes()} & {span.tp.topic for span in spans})


async def _repair(config: Config, spans: Sequence[Span]) -> list[Repaired]:
    async with lake_tools(config) as lake:
        claims = await covering(lake, spans)
        repair = lake.repair(ClaimedOffsets(settings_of(config)))
        return [await repair.claim(each) for each in claims]


async def covering(lake: LakeTools, spans: Sequence[Span]) -> list[Claim]:
    """The claims whose windows have these offsets, each once. Raises ConfigError when some offset is in none: whoever
    delivered it here would land it a second time as soon as a member claims it."""
    lanes = await lake.chains.lanes()
    found: dict[tuple[str, str, int], Claim] = {}
    wrong: list[LmstreamError] = []
    for span in spans:
        (topic, partition), at = span.tp, span.start
        while at < span.stop:
            claim = None
            for lane in (each for named, each in lanes if named == topic):
                if (claim := await lake.chains.covering(topic, lane, partition, at)) is not None:
                    break
            if claim is None:
                wrong.append(_unclaimed(span, at))
                break
            if claim.kind == "window":
                found[topic, claim.lane, claim.sequence] = claim
            else:
                end = min(claim.spans[partition].end, span.stop)
                what = (
                    f"{Span(span.tp, at, end)} was passed without rows by claim {claim.sequence} of lane {claim.lane}"
                )
                terminal.say(f"{what}: {claim.why or claim.kind}")
            at = claim.spans[partition].end
    refuse_all(wrong)
    return list(found.values())


def _unclaimed(span: Span, at: int) -> ConfigError:
    what = f"--offsets {span}: no claim of this lake has offset {at}"
    fix = (
        "leave offsets that are not claimed yet to the run. Those from before the lake's first claim, or whose claims "
        "have expired, can be landed by another sink"
    )
    return ConfigError("config.invalid", what, fix)


def overrides_of(texts: Sequence[str], topics: Sequence[str], kind: str | None) -> dict[str, Any]:
    """Settings that the ranges stand for: Kafka by the client of the configuration, and the topics that they name where
    it has none. `kind` is what --source says."""

    def client(there: object) -> str:
        name = str(kind or there or "kafka")
        if name not in _CLIENTS:
            what = f"--offsets reads Kafka; source.type is {name!r}"
            raise ConfigError("config.invalid", what, "use source.type kafka or confluent")
        return name

    named = topics_in(texts)
    found: dict[str, Any] = {"source.type": client}
    return found if topics or not named else found | {"source.topics": lambda there: there or named}
