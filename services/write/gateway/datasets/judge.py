"""Who judges by schemas: a process beside this one, started when it is needed, and again when it had to end."""

import asyncio
import signal
import sys
from collections.abc import Sequence

import orjson
import structlog

from shared.runtime.refusal import UnavailableError

log = structlog.get_logger()
SECONDS = 5.0
"""That one request may take."""
_COMMAND = (sys.executable, "-m", "services.write.gateway.datasets.judging", str(SECONDS))
_MOST_BYTES = 64 * 1024 * 1024
"""Of an answer."""
Fault = tuple[str, str]
"""The place in a text, as ".question[0]", and what is wrong there."""


class SchemaError(ValueError):
    """What is wrong with a schema; the message says it."""


class Judge:
    """Judges one request at a time. One for a process."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def check(self, schema_json: str) -> None:
        """Raises SchemaError when the text is no JSON Schema, or refers to what it does not hold."""
        await self.faults(schema_json, ())

    async def faults(self, schema_json: str, texts: Sequence[str]) -> list[Fault | None]:
        """What is wrong with each of the JSON texts by the schema, if anything.

        Raises SchemaError, also when that takes too long; UnavailableError when nobody can judge now.
        """
        line = orjson.dumps({"schema_json": schema_json, "texts": list(texts)}) + b"\n"
        async with self._lock:
            answer = await self._answer(line)
        if answer is None:
            raise SchemaError(f"takes more than {SECONDS:.0f} s, or too much memory, to judge by")
        if why := answer.get("schema"):
            raise SchemaError(f"is no JSON Schema that is taken: {why}")
        return [None if fault is None else (fault[0], fault[1]) for fault in answer["texts"]]

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._end()

    async def _answer(self, line: bytes) -> dict[str, list[list[str] | None]] | None:
        """The answer; None when the process ended over it, or another one did as well."""
        for _ in range(2):
            process = await self._started()
            try:
                async with asyncio.timeout(2 * SECONDS):
                    answer = await _ask(process, line)
            except BaseException:
                await self._end()  # what it says later is no answer to anybody
                raise
            if answer:
                return orjson.loads(answer)  # type: ignore[no-any-return]
            await self._end()
            log.warning("judging by a schema was given up", returncode=process.returncode)
            if process.returncode == -signal.SIGALRM:
                break
        return None

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *_COMMAND, stdin=pipe, stdout=pipe, limit=_MOST_BYTES, start_new_session=True
                )
            except OSError as error:
                raise UnavailableError(f"nobody can judge by the dataset's schemas now: {error}") from error
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


async def _ask(process: asyncio.subprocess.Process, line: bytes) -> bytes:
    """The line that it answers; empty when it ends instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        await process.stdin.drain()
        return await process.stdout.readline()
    except ConnectionError:
        return b""
