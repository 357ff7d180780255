"""What may take for ever is asked of processes beside this one: schemas, and what is compiled for evaluators.

They are started when they are needed, and again when one had to end.
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
"""That one request may take."""
_PATIENCE = 20.0
"""Seconds by the clock, on a machine that is busy."""
_PROCESSES = 2
_MOST_WAITING = 8 * 1024 * 1024
"""Bytes of a project; a request that is alone may have more."""
_TOO_LONG = f"takes more than {CPU_SECONDS:g} s, or too much memory, to judge by"
_COMMAND = (sys.executable, "-m", "services.write.gateway.schema_sandbox_child", str(CPU_SECONDS))
_END_SECONDS = 0.5
_MOST_BYTES = 64 * 1024 * 1024
"""Of an answer."""
Fault = tuple[str, str]
"""The place in a text, as ".question[0]", and what is wrong there."""
_Answer = dict[str, Any]


class SchemaError(ValueError):
    """What is wrong with a schema; the message says it."""


class SpecError(ValueError):
    """What is wrong with the spec of an evaluator: in which field, at what place, which setting of it, and how."""

    def __init__(self, field: str, place: int, setting: str, why: str) -> None:
        super().__init__(why)
        self.field, self.place, self.setting, self.why = field, place, setting, why


class Judge:
    """Judges, of one project at a time one thing: a project whose schemas take long waits for itself.

    One for a process.
    """

    def __init__(self) -> None:
        self._processes = [_Apart() for _ in range(_PROCESSES)]
        self._free: asyncio.LifoQueue[_Apart] = asyncio.LifoQueue()
        for process in self._processes:
            self._free.put_nowait(process)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: Counter[str] = Counter()

    async def check(self, project_id: str, schema_json: str) -> None:
        """Raises SchemaError when the text is no JSON Schema, or refers to what it does not hold."""
        await self.faults(project_id, schema_json, ())

    async def faults(self, project_id: str, schema_json: str, texts: Sequence[str]) -> list[Fault | None]:
        """What is wrong with each of the JSON texts by the schema, if anything.

        Raises SchemaError, also when that takes too long; UnavailableError when nobody can judge now.
        """
        answer = await self._ask(project_id, {"schema_json": schema_json, "texts": list(texts)})
        if answer is None:
            raise SchemaError(_TOO_LONG)
        if why := answer.get("schema"):
            raise SchemaError(f"is no JSON Schema that is taken: {why}")
        return [None if fault is None else (fault[0], fault[1]) for fault in answer["texts"]]

    async def names(
        self, project_id: str, evaluators: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, list[str]]:
        """The names of evaluators, in the order of their specs, by the field of ExperimentRequested they are in.

        Raises SpecError for the first that can't be; UnavailableError when nobody can tell now.
        """
        answer = await self._ask(project_id, {"evaluators": evaluators})
        if answer is None:
            raise SpecError(next(iter(evaluators)), -1, "", f"{_TOO_LONG}, or others beside them do")
        if fault := answer.get("fault"):
            raise SpecError(*fault)
        names: dict[str, list[str]] = answer["names"]
        return names

    async def _ask(self, project_id: str, question: Mapping[str, Any]) -> _Answer | None:
        """The answer; None: it takes too long."""
        line = json.dumps(question).encode() + b"\n"
        with self._room(project_id, len(line)):
            async with self._turns.setdefault(project_id, asyncio.Lock()):
                process = await self._free.get()
                try:
                    return await process.answer(line)
                finally:
                    self._free.put_nowait(process)

    @contextmanager
    def _room(self, project_id: str, size: int) -> Iterator[None]:
        """Room to wait in, so that what waits for one project does not fill the gateway."""
        if self._waiting[project_id] and self._waiting[project_id] + size > _MOST_WAITING:
            raise UnavailableError("other requests of the project are being judged by their schemas")
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


class _Apart:
    """A process that judges, if there is one now."""

    def __init__(self) -> None:
        self._line: _Line | None = None

    async def answer(self, question: bytes) -> _Answer | None:
        """The answer; None when a process took too long for it, or two ended over it."""
        for _ in range(2):
            line = self._line = self._line or await _start()
            try:
                async with asyncio.timeout(_PATIENCE):
                    answer = await line.ask(question)
            except TimeoutError:
                await self.end()
                raise UnavailableError("judging by the dataset's schemas takes too long now") from None
            except BaseException:
                await self.end()  # what it says later is no answer to anybody
                raise
            if answer:
                return orjson.loads(answer)  # type: ignore[no-any-return]
            took_too_long = await self.end() == -signal.SIGPROF
            log.warning("judging was given up", took_too_long=took_too_long)
            if took_too_long:
                break
        return None

    async def end(self) -> int | None:
        """End the process, and say how it ended; it starts again when it is needed."""
        line, self._line = self._line, None
        if line is None:
            return None
        line.writer.close()  # its standard input: it ends by itself, unless it is at something
        try:
            return await asyncio.to_thread(line.process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            line.process.kill()
            return await asyncio.to_thread(line.process.wait)


@dataclass(frozen=True, slots=True)
class _Line:
    """To a process, both ways."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, question: bytes) -> bytes:
        """The line that it answers; empty when it ends instead."""
        try:
            self.writer.write(question)
            await self.writer.drain()
            return await self.reader.readline()
        except (ConnectionError, RuntimeError):  # uvloop's word for a connection that it has closed is the latter
            return b""


async def _start() -> _Line:
    """A new process. Not the loop's own way to start one: that forks, which gRPC's threads do not bear."""
    ours, its = socket.socketpair()
    with its:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603
                _COMMAND, stdin=its.fileno(), stdout=its.fileno(), start_new_session=True, env=interpreter_environment()
            )
        except OSError as error:
            ours.close()
            raise UnavailableError(f"nobody can judge now: {error}") from error
    reader, writer = await asyncio.open_connection(sock=ours, limit=_MOST_BYTES)
    return _Line(process, reader, writer)
