"""Work that may take for ever is done in processes beside this one: validation by JSON Schema, evaluators' patterns.

The processes (schema_sandbox_child.py) are started when they are needed, and again when one had to end.
"""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import orjson
import structlog

from shared.runtime.refusal import UnavailableError
from shared.runtime.settings import interpreter_environment

log = structlog.get_logger()
CPU_SECONDS = 2.0
"""The most that one request may take of a processor."""
_PATIENCE = 20.0
"""The most that one request may take by the clock, on a machine that is busy."""
_PROCESSES = 2
_MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Bytes of a project's requests that wait; a request that is alone may have more."""
_TOO_LONG = f"takes more than {CPU_SECONDS:g} s, or too much memory, to validate by"
_COMMAND = (sys.executable, "-m", "services.write.gateway.schema_sandbox_child", str(CPU_SECONDS))
_END_SECONDS = 0.5
_MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""The largest response."""
Fault = tuple[str, str]
"""The path in a JSON text, for example ".question[0]", and what is wrong there."""
_Response = dict[str, Any]


class SchemaError(ValueError):
    """A schema can't be used; the message says why."""


class SpecError(ValueError):
    """The spec of an evaluator can't be used: its field, its index (-1: any), the setting that is wrong, and why."""

    def __init__(self, field: str, index: int, setting: str, why: str) -> None:
        super().__init__(why)
        self.field, self.index, self.setting, self.why = field, index, setting, why


class SchemaSandbox:
    """Validates in processes, one request of a project at a time: a project whose schemas take long waits for itself.

    One per process.
    """

    def __init__(self) -> None:
        self._processes = [_Process() for _ in range(_PROCESSES)]
        self._free: asyncio.LifoQueue[_Process] = asyncio.LifoQueue()
        for process in self._processes:
            self._free.put_nowait(process)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: Counter[str] = Counter()

    async def check_schema(self, project_id: str, schema_json: str) -> None:
        """Raise SchemaError when a text is not a JSON Schema, or refers to what it does not hold."""
        await self.find_faults(project_id, schema_json, ())

    async def find_faults(self, project_id: str, schema_json: str, texts: Sequence[str]) -> list[Fault | None]:
        """Return what is wrong with each of some JSON texts by a schema; None where nothing is.

        Raises SchemaError, also when that takes too long; UnavailableError when no process can answer now.
        """
        answer = await self._request(project_id, {"schema_json": schema_json, "texts": list(texts)})
        if answer is None:
            raise SchemaError(_TOO_LONG)
        if why := answer.get("schema"):
            raise SchemaError(f"is no JSON Schema that is taken: {why}")
        return [None if fault is None else (fault[0], fault[1]) for fault in answer["texts"]]

    async def evaluator_names(
        self, project_id: str, evaluators: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, list[str]]:
        """Return the names of evaluators, in the order of their specs, by the field of ExperimentRequested they are in.

        Raises SpecError for the first that can't be used; UnavailableError when no process can answer now.
        """
        answer = await self._request(project_id, {"evaluators": evaluators})
        if answer is None:
            raise SpecError(next(iter(evaluators)), -1, "", f"{_TOO_LONG}, or others beside them do")
        if fault := answer.get("fault"):
            raise SpecError(*fault)
        names: dict[str, list[str]] = answer["names"]
        return names

    async def _request(self, project_id: str, request: Mapping[str, Any]) -> _Response | None:
        """Return a process's response; None when it takes too long."""
        line = json.dumps(request).encode() + b"\n"
        with self._room(project_id, len(line)):
            async with self._turns.setdefault(project_id, asyncio.Lock()):
                process = await self._free.get()
                try:
                    return await process.respond(line)
                finally:
                    self._free.put_nowait(process)

    @contextmanager
    def _room(self, project_id: str, size: int) -> Iterator[None]:
        """Hold room to wait in, so that what waits for one project does not fill the gateway."""
        if self._waiting[project_id] and self._waiting[project_id] + size > _MAX_WAITING_BYTES:
            raise UnavailableError("other requests of the project are being validated by their schemas")
        self._waiting[project_id] += size
        try:
            yield
        finally:
            self._waiting[project_id] -= size
            if not self._waiting[project_id]:
                del self._waiting[project_id]

    async def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            await process.end()


class _Process:
    """A process for what may take for ever, if there is one now."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    async def respond(self, request: bytes) -> _Response | None:
        """Return the response; None when a process took too long for it, or two ended over it."""
        for _ in range(2):
            child = self._child = self._child or await _start()
            try:
                async with asyncio.timeout(_PATIENCE):
                    response = await child.request(request)
            except TimeoutError:
                await self.end()
                raise UnavailableError("validation by the dataset's schemas takes too long now") from None
            except BaseException:
                await self.end()  # what it sends later is a response to nobody
                raise
            if response:
                return orjson.loads(response)  # type: ignore[no-any-return]
            took_too_long = await self.end() == -signal.SIGPROF
            log.warning("a schema sandbox ended before it answered", took_too_long=took_too_long)
            if took_too_long:
                break
        return None

    async def end(self) -> int | None:
        """End the process, and return its exit code; another one starts when it is needed."""
        child, self._child = self._child, None
        if child is None:
            return None
        child.writer.close()  # its standard input: it ends by itself, unless it is at something
        try:
            return await asyncio.to_thread(child.process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            child.process.kill()
            return await asyncio.to_thread(child.process.wait)


@dataclass(frozen=True, slots=True)
class _Child:
    """A process, and the connection to it."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self, line: bytes) -> bytes:
        """Return the line that it responds with; empty when it ends instead."""
        try:
            self.writer.write(line)
            await self.writer.drain()
            return await self.reader.readline()
        except (ConnectionError, RuntimeError):  # uvloop's word for a connection that it has closed is the latter
            return b""


async def _start() -> _Child:
    """Start a process. The loop's own way to do so forks, which gRPC's threads do not bear."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603
                _COMMAND,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,
                env=interpreter_environment(),
            )
        except OSError as error:
            ours.close()
            raise UnavailableError(f"no process can be started to validate in: {error}") from error
    reader, writer = await asyncio.open_connection(sock=ours, limit=_MAX_RESPONSE_BYTES)
    return _Child(process, reader, writer)
