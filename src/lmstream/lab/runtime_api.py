"""One Lambda function on this machine: AWS's own runtime client, unmodified, against a Runtime API on 127.0.0.1.

An environment is a process of `awslambdaric`, started when an event comes (cold), kept for the next (warm), killed when
it takes too long. Protocol: docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import web

from lmstream.errors import ConfigError
from lmstream.lab.part import HOST, Part

EVENT_BYTES: Final = 6 * 1024 * 1024
"""Bytes of an event: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
_ARN: Final = "arn:aws:lambda:us-west-2:000000000000:function:lmstream"
_VERSION: Final = "/2018-06-01/runtime"
_STOP: Final = 3.0  # seconds an environment has to go


class Answer(NamedTuple):
    """What became of one invocation."""

    payload: Any
    """What the handler returned; None when it raised."""
    error: str
    """`errorType: errorMessage` of what it raised, or why there is no answer; empty when all is well."""
    cold: bool
    """Whether the environment was started for it."""
    seconds: float
    """From the event to the answer, a cold start included."""


class _Invocation:
    def __init__(self, number: int, event: bytes, deadline: float) -> None:
        self.id = f"{number:08x}-0000-4000-8000-000000000000"
        self.event = event
        self.deadline = deadline
        self.answered = asyncio.get_running_loop().create_future()


class Function(Part):
    """`async with Function("lmstream_lambda.handler", paths, env) as function: await function.invoke(event)`.

    Events are handled one at a time, as by a function with a reserved concurrency of one.
    """

    def __init__(
        self,
        handler: str,
        paths: list[Path | str],
        env: Mapping[str, str],
        *,
        timeout: float = 60.0,
        memory_mb: int = 512,
    ) -> None:
        """`paths` is where the handler's modules lie; `timeout` is the function's, in seconds.

        Raises ConfigError when awslambdaric is not installed.
        """
        if importlib.util.find_spec("awslambdaric") is None:
            raise ConfigError.missing("a Lambda function on this machine (Linux)", "lab", package="awslambdaric")
        self._handler, self._paths, self._env = handler, [str(path) for path in paths], dict(env)
        self._timeout, self._memory = timeout, memory_mb
        self.said: deque[str] = deque(maxlen=2000)
        """Lines that the function wrote, the newest last."""
        self.cold_starts = 0
        self._numbers = itertools.count(1)
        self._lock = asyncio.Lock()
        self._waiting: asyncio.Queue[_Invocation] = asyncio.Queue()
        self._current: _Invocation | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._gone = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen on a free port. No environment yet."""
        app = web.Application(client_max_size=2 * EVENT_BYTES)
        app.router.add_get(f"{_VERSION}/invocation/next", self._next)
        app.router.add_post(_VERSION + "/invocation/{id}/{what:response|error}", self._answered)
        app.router.add_post(f"{_VERSION}/init/error", self._init_error)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self._port = self._runner.addresses[0][1]

    async def invoke(self, event: object) -> Answer:
        """Invoke the function synchronously. Never raises for what the function does."""
        body = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
        if len(body) > EVENT_BYTES:
            return Answer(None, f"RequestEntityTooLarge: {len(body):,} bytes, the limit is {EVENT_BYTES:,}", False, 0.0)  # noqa: FBT003 - a field
        async with self._lock:
            started = time.monotonic()
            cold = self._process is None or self._process.returncode is not None
            if cold:
                await self._boot()
            process = self._process
            assert process is not None  # noqa: S101 - for the type checker
            mine = self._current = _Invocation(next(self._numbers), body, time.time() + self._timeout)
            self._waiting.put_nowait(mine)
            gone = asyncio.ensure_future(process.wait())
            await asyncio.wait({mine.answered, gone}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if mine.answered.done():
                payload, error = mine.answered.result()
            elif gone.done():
                payload, error = None, f"Runtime.ExitError: exit code {process.returncode}"
            else:
                payload, error = None, f"Sandbox.Timedout: task timed out after {self._timeout:.2f} seconds"
                await self._kill()
            gone.cancel()
            self._current = None
            if not self._waiting.empty():  # an event that nobody fetched goes with its environment
                self._waiting.get_nowait()
            return Answer(payload, error, cold, time.monotonic() - started)

    async def close(self) -> None:
        """Kill the environment, stop listening. Safe to call twice."""
        await self._kill()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _boot(self) -> None:
        await self._kill()
        self.cold_starts += 1
        self._gone = asyncio.Event()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "awslambdaric", self._handler),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": os.pathsep.join(self._paths),
                "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{self._port}",
                "AWS_LAMBDA_FUNCTION_NAME": "lmstream",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory),
                "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/lmstream",
                "AWS_LAMBDA_LOG_STREAM_NAME": "lab",
                "AWS_REGION": "us-west-2",
                "LAMBDA_TASK_ROOT": self._paths[0],
                "_HANDLER": self._handler,
                **self._env,
            },
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(ValueError):  # a line longer than the limit: the rest is not kept
            async for line in process.stdout:
                self.said.append(line.decode(errors="replace").rstrip("\n"))

    async def _kill(self) -> None:
        process, self._process = self._process, None
        self._gone.set()  # also for a request that is still on its way
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            async with asyncio.timeout(_STOP):
                await process.wait()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._reading = None

    async def _next(self, _request: web.Request) -> web.Response:
        event, gone = asyncio.ensure_future(self._waiting.get()), asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({event, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not event.done():
                return web.Response(status=410)  # to a client that is dead
            invocation = event.result()
        finally:
            event.cancel()
            gone.cancel()
        return web.Response(
            body=invocation.event,
            content_type="application/json",
            headers={
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": _ARN,
            },
        )

    async def _answered(self, request: web.Request) -> web.Response:
        body = await request.read()
        current = self._current
        if current is None or current.id != request.match_info["id"] or current.answered.done():
            return web.json_response({"errorType": "InvalidRequestID"}, status=400)
        found = json.loads(body or b"null")
        error = "" if request.match_info["what"] == "response" else _error_of(found)
        current.answered.set_result((None if error else found, error))
        return web.json_response({"status": "OK"}, status=202)

    async def _init_error(self, request: web.Request) -> web.Response:
        current = self._current
        if current is not None and not current.answered.done():
            current.answered.set_result((None, _error_of(await request.json())))
        return web.json_response({"status": "OK"}, status=202)


def _error_of(found: Any) -> str:
    fields = found if isinstance(found, dict) else {}
    return f"{fields.get('errorType', 'Unknown')}: {fields.get('errorMessage', '')}"
