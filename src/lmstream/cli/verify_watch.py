"""`lmstream verify --watch`: prove rows as they land, as a service, with a metric that says up to when."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lmstream.cli import terminal
from lmstream.cli.kafka import settings_of
from lmstream.cli.verify_flags import OFF
from lmstream.cli.verify_lake import claims_of
from lmstream.config import Config
from lmstream.engine import Engine
from lmstream.errors import ConfigError, LmstreamError, more
from lmstream.hosts.container.signals import heard
from lmstream.model import DeadLetter
from lmstream.observability.proof_readings import ProofReadings
from lmstream.partitioning import token
from lmstream.storage import durable_files
from lmstream.storage.by_key import keyed
from lmstream.storage.objects import Folder, Place
from lmstream.verification.chains import Chains
from lmstream.verification.proof import Prover, State
from lmstream.verification.topic_log import TopicLog
from lmstream.verification.verify import letters_in

USUAL: Final = "127.0.0.1:9469"
"""Where its endpoints are unless told: beside those of a run, and of its workers."""
NOT_VERIFIED: Final = 3
_END: Final = 30.0  # seconds for the round under way to end: it looks after each record and object
_NAMED: Final = 5


def watch(
    config: Config,
    rows: Place,
    letters: Place | None,
    lake: Place | None,
    without: Sequence[str],
    *,
    every: float,
    settle: float,
    start: Mapping[tuple[str, int], int],
    state_file: Path | None,
    address: str | None,
) -> int:
    """Prove round after round until a signal comes; answer the exit code. Of a lake, whose claims lie at `lake` or will
    lie where they usually do, its chains too; keys that begin with one of `without` are none of its rows. Raises
    ConfigError for what cannot work."""
    settings = settings_of(config)
    state = _read(state_file, settings.group)
    if state_file is not None and (why := _write(state_file, state)):
        raise ConfigError("config.invalid", f"--state {state_file}: {why}", "name a file that can be written")
    stopping = asyncio.Event()
    prover = Prover(
        TopicLog(settings),
        Engine(config.engine),
        keyed(rows),
        None if letters is None else _letters_of(letters),
        state,
        settle=settle,
        start=start,
        stopped=stopping.is_set,
    )
    chains = _Chains(config, rows, lake, without, prover, stopping.is_set)
    readings = ProofReadings(lambda: list(prover.parts()), settings.group, lambda: chains.proved)
    terminal.say(
        f"proving what group {settings.group} has committed, every {every:g} s; a row must be there"
        f" {settle:,.0f} s after its record was committed"
    )
    if letters is None:
        terminal.say(
            "dead letters are not looked at: give --dead-letters, or records that were refused count as proved"
        )
    asyncio.run(_serve(prover, chains, readings, stopping, every=every, state_file=state_file, address=address))
    terminal.say(readings.behind())
    bad = any(part.rows for _, part in prover.parts()) or (chains.proved is not None and chains.proved.faults)
    return NOT_VERIFIED if bad else 0


class _Chains:
    """The chains of a lake, as soon as there are any; nothing where rows do not land by claims."""

    def __init__(
        self,
        config: Config,
        rows: Place,
        lake: Place | None,
        without: Sequence[str],
        prover: Prover,
        stopped: Callable[[], bool],
    ) -> None:
        self._config, self._rows, self._lake, self._prover = config, rows, lake, prover
        self._without, self._stopped = without, stopped
        self.proved: Chains | None = None

    def walk(self) -> None:
        """Walk on. Raises LmstreamError."""
        if (chains := self.proved or self._found()) is None:
            return
        chains.walk()
        self.proved, self._prover.state.chains = chains, chains.state  # after the first walk: before it says nothing

    def _found(self) -> Chains | None:
        if (claims := self._claims()) is None:
            return None
        return Chains(
            keyed(self._rows),
            keyed(claims),
            self._prover.state.chains,
            since=self._prover.oldest,
            without=self._without,
            stopped=self._stopped,
        )

    def _claims(self) -> Place | None:
        if self._lake is not None:
            return self._lake
        by_claims = self._config.sink is not None and self._config.sink.traits.claims
        return claims_of(self._rows, None, self._config) if by_claims else None


async def _serve(
    prover: Prover,
    chains: _Chains,
    readings: ProofReadings,
    stopping: asyncio.Event,
    *,
    every: float,
    state_file: Path | None,
    address: str | None,
) -> None:
    from lmstream.observability.endpoints import Endpoints

    at: contextlib.AbstractAsyncContextManager[object] = contextlib.nullcontext()
    if address != OFF:
        at = Endpoints(readings, address or USUAL, needed=address is not None)
    told: dict[str, int] = {}
    unkept = ""
    with heard(stopping.set, _END, lambda _: terminal.say("stopping: this round is not finished")):
        async with at:
            while not stopping.is_set():
                try:
                    await asyncio.to_thread(prover.round)
                    if not stopping.is_set() and not prover.behind:
                        await asyncio.to_thread(chains.walk)
                except ConfigError:
                    raise
                except LmstreamError as error:
                    readings.rounds["failed"] += 1
                    readings.failed, readings.trouble = readings.failed + 1, f"{error.code} {error.detail}"
                    terminal.insist(
                        f"this round failed, the next one repeats it: {readings.trouble}. {more(error.code)}"
                    )
                else:
                    readings.rounds["ok"] += not stopping.is_set()
                    readings.failed, readings.trouble = 0, ""
                    if state_file is not None:
                        why = await asyncio.to_thread(_write, state_file, prover.state)
                        if why and why != unkept:
                            terminal.insist(f"--state {state_file}: {why}: a restart proves some rows again")
                        unkept = why
                    faults = chains.proved.named if chains.proved is not None else []
                    _tell(readings, dict(_named(prover)), faults, told)
                if not prover.behind or readings.failed:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(every):
                            await stopping.wait()


def _named(prover: Prover) -> Iterator[tuple[str, int]]:
    for (topic, partition), part in prover.parts():
        for offset in sorted(part.unproved)[:_NAMED]:
            yield f"{topic}/{partition}/{offset}", offset


def _tell(readings: ProofReadings, found: dict[str, int], faults: Sequence[str], told: dict[str, int]) -> None:
    """Say where the proof stands, and each record and fault of a lake once that is not proved."""
    terminal.say(readings.behind())
    for name in found.keys() - told.keys():
        terminal.insist(f"{name}: rows are lost or changed (LMS-5001): lmstream verify --repair. {more('LMS-5001')}")
    for fault in faults:
        if fault not in told:
            terminal.insist(f"{terminal.clean(fault, limit=1000)} (LMS-5001). {more('LMS-5001')}")
    told.clear()
    told.update(found | dict.fromkeys(faults, 0))


def _letters_of(letters: Place) -> Callable[[str, int], Iterator[DeadLetter]]:
    """Letters of one partition: they lie by topic and partition."""

    def read(topic: str, partition: int) -> Iterator[DeadLetter]:
        there = letters.below(f"{token(topic)}/{partition}")
        if not isinstance(there, Folder) or there.exists():
            yield from letters_in(there, terminal.say)

    return read


def _read(file: Path | None, group: str) -> State:
    """The state in a file; a new one where there is none. Raises ConfigError for one of another group."""
    if file is None or not file.exists():
        return State(group=group)
    try:
        state = msgspec.json.decode(file.read_bytes(), type=State)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        what = f"--state {file}: it is no state of a proof: {error}"
        raise ConfigError("config.invalid", what, "move it away: the proof then begins anew") from error
    if state.group != group:
        what = f"--state {file}: it is of group {state.group}, and the configuration has {group}"
        raise ConfigError("config.invalid", what, "give each group a state of its own")
    return state


def _write(file: Path, state: State) -> str:
    """Keep the state; answer why that failed. A disk that is full stops no proof: it begins further back after a
    restart."""
    try:
        with durable_files.folder(file.parent, ()) as at:
            durable_files.replace(at, file.name, msgspec.json.encode(state), at)
    except OSError as error:
        return error.strerror or str(error)
    return ""
