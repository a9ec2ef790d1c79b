"""The configuration of a whole run, from flags, environment and a TOML file: checked settings, and no parts yet."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

from msgspec import Meta, Struct, structs

from lmstream.abilities import InFolder, Walking
from lmstream.config.convert import convert, unknown
from lmstream.config.layers import layers_of, merge
from lmstream.config.plugins import PARTS, Part, known, part_of, wrong_names
from lmstream.delivery import BreakerPolicy, DeliveryPolicy, RollPolicy
from lmstream.delivery.memory_budget import BUDGET
from lmstream.errors import ConfigError, LmstreamError, refuse
from lmstream.observability.settings import EndpointSettings, LogSettings, TelemetrySettings
from lmstream.runtime import RuntimePolicy
from lmstream.settings import MIB, Settings


class Look(Protocol):
    """A check of `validation`."""

    @property
    def of(self) -> tuple[str, ...]: ...

    def failed(self, config: "Config", /) -> Sequence[ConfigError]: ...


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `lmstream run` itself."""

    budget_bytes: Annotated[int, Meta(ge=MIB)] = BUDGET
    """Bytes of payloads, lines and bodies of requests in flight; past it reading pauses. Resident memory stays within
    two and a half times the default.
    Costs: memory: twice as much as this, beside what the process has anyway. Less makes requests smaller.
    Limit: the largest record that Kafka takes by default, 1 MiB, must fit."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes, each its own member of the consumer group. More than partitions are idle.
    Costs: memory, money: each is a process with a budget of its own. A change moves partitions once.
    Limit: lmstream's own, against mistyped values."""
    discard: bool = False
    """Commit offsets although the sink keeps no rows (null, stdout): they are lost on purpose.
    Costs: loss."""
    strict: bool = False
    """Exit 4 when some records were dead-lettered.
    Costs: nothing: the exit code alone."""
    report_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds between two status lines.
    Costs: nothing."""
    state_dir: str = ""
    """Folder that remembers over which record a process died, so that after three deaths it is dead-lettered without
    its bytes. Must outlive the process, and be this user's own: it is made with mode 0700. Empty: `.state` in the
    folder of dead letters; off when there is none.
    Costs: restarts: another folder forgets earlier deaths, and a record that kills the process does so again."""


class Function(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the Lambda host."""

    partial_failures: bool = False
    """Whether the event source mapping has ReportBatchItemFailures. Only then is a partial answer safe: without it
    every answer acknowledges the whole batch. Pipes have none.
    Costs: loss, duplicates: true where the mapping has it not acknowledges what was refused; false where it has it
    sends whole batches again."""
    margin: Annotated[float, Meta(ge=0, le=60)] = 1.0
    """Seconds kept back at the end of an invocation, for its answer.
    Costs: duplicates: an invocation that is cut off before its answer is sent again as a whole.
    Limit: lmstream's own, against mistyped values."""
    patience: Annotated[float, Meta(gt=0, le=900)] = 60.0
    """Seconds that an invocation spends on delivery at most, whatever the function's timeout: waiting is billed, and
    the source retries.
    Costs: money, duplicates.
    Limit: a function runs 900 s at most (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""


class Config(Struct, frozen=True, kw_only=True):
    """A whole run, checked. A part that nobody chose is None."""

    engine: Settings = Settings()
    source: Part | None = None
    sink: Part | None = None
    dead_letters: Part | None = None
    """Without one, runs of files use the folder ./dead-letters; other sources need it chosen, because a container's own
    disk goes away with it."""
    breaker: BreakerPolicy = BreakerPolicy()
    delivery: DeliveryPolicy = DeliveryPolicy()
    rolling: RollPolicy = RollPolicy()
    runtime: RuntimePolicy = RuntimePolicy()
    run: Run = Run()
    endpoints: EndpointSettings = EndpointSettings()
    logs: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    function: Function = Function()
    """The table `lambda`, a word that Python keeps for itself."""

    @property
    def finite(self) -> bool:
        """Whether the source ends by itself, so that a person looks at the end of the run. ConfigError without one."""
        return self.need("source").traits.finite

    def need(self, what: str) -> Part:
        """Answer the `source` or `sink`; ConfigError when none was chosen."""
        part: Part | None = getattr(self, what)
        if part is None:
            raise ConfigError(
                "config.invalid",
                f"{what}.type is not set; expected one of {', '.join(known(what))}, or your own module",
                f"set {what}.type",
            )
        return part


TABLES: Final[dict[str, type[Struct]]] = {
    "engine": Settings,
    "breaker": BreakerPolicy,
    "delivery": DeliveryPolicy,
    "rolling": RollPolicy,
    "runtime": RuntimePolicy,
    "run": Run,
    "endpoints": EndpointSettings,
    "logs": LogSettings,
    "telemetry": TelemetrySettings,
    "lambda": Function,
}
LETTERS: Final = "./dead-letters"
"""Folder of dead letters of a run of files, when no place is chosen."""
ROLLED: Final = {"age": "window_seconds", "bytes": "object_bytes"}
"""By setting of `rolling`, the one of the local sink that has its meaning."""
FIELDS: Final = {"lambda": "function"}
"""Fields of Config that are not called like their table."""


def load(
    path: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    looks: Sequence[Look] = (),
) -> Config:
    """Read the settings of the TOML file at `path`, of LMSTREAM_* in `env`, and of `overrides`; later ones win. Raises
    ConfigError, with all that is wrong at once.

    `env` is that of the process by default; `overrides` are by key path, as in "sink.stream". `looks` are checks of
    `validation` that the configuration has to pass too.
    """
    layers = layers_of(path, env, overrides)
    merged = merge(layers)
    names = [*TABLES, *PARTS]
    found: dict[str, Any] = {}
    bad: set[str] = set()
    wrong: list[LmstreamError] = []
    for name in names:
        try:
            if name in TABLES:
                found[FIELDS.get(name, name)] = convert((name,), merged.get(name, {}), TABLES[name], layers)
            elif merged.get(name):
                found[name] = part_of(name, merged[name], layers)
        except ConfigError as e:
            wrong += e.errors
            bad.add(name)
    others = [*_paths(found)]
    lost = [unknown((name,), names, layers, others) for name in sorted(merged.keys() - set(names))]
    wrong = [*lost, *wrong, *wrong_names(merged.get("engine"), layers)]
    config = _rolled(_apart(Config(**found)), merged)
    good = {name for name in names if name not in bad}
    wrong += [error for each in looks if good.issuperset(each.of) for error in each.failed(config)]
    refuse(wrong)
    return config


def _paths(found: Mapping[str, Any]) -> Iterator[str]:
    """The key paths of all settings there are with these parts, for who wrote one outside its table."""
    of_parts = {name: type(found[name].settings) for name in PARTS if name in found}
    for table, struct in (TABLES | of_parts).items():
        yield from (f"{table}.{field.encode_name}" for field in structs.fields(struct))


def _rolled(config: Config, merged: Mapping[str, Any]) -> Config:
    """The configuration with what is set of `rolling` as settings of a lake in a folder, where they are not set
    themselves: for one version, because the local sink was set up so."""
    part = config.sink
    if part is None or part.name != "local":
        return config
    rolling = config.rolling
    values = {"window_seconds": max(0.001, rolling.age), "object_bytes": min(max(MIB, rolling.bytes), 1024 * MIB)}
    taken = {
        to: values[to] for key, to in ROLLED.items() if key in merged.get("rolling", {}) and to not in merged["sink"]
    }
    replaced: Any = structs.replace(part.settings, **taken)
    return structs.replace(config, sink=part._replace(settings=replaced))


def _apart(config: Config) -> Config:
    """The configuration with a source that does not read what the run itself writes."""
    source = config.source
    settings: Any = None if source is None else source.settings
    if source is None or not isinstance(settings, Walking):
        return config
    parts = [part.settings for part in (config.sink, config.dead_letters) if part is not None]
    own = [each.folder for each in parts if isinstance(each, InFolder)]
    if config.dead_letters is None:
        own.append(LETTERS)
    own += [config.run.state_dir] if config.run.state_dir else []
    without = (*settings.without, *(each for each in own if each not in settings.without))
    replaced: Any = structs.replace(settings, without=without)  # type: ignore[type-var]  # settings are structs
    return structs.replace(config, source=source._replace(settings=replaced))
