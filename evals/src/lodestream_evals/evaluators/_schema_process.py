"""The process in which outputs are judged by JSON Schemas.

Some schemas take for ever on some outputs, and some crash; nothing in either tells which. So they are judged in a
process of its own, which is ended when it takes too long, and the next output gets another one.
"""

import asyncio
import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lodestream_evals.evaluators import _schema_child
from lodestream_evals.evaluators._errors import EvaluatorError

_PATIENCE = 30.0  # seconds for a line, on a machine that is busy
_LATE = -getattr(signal, "SIGPROF", 0)
_PASSED_ON = (
    "PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT",
    "TEMP", "TMP", "TMPDIR",
)  # fmt: skip
"""Of the environment: what an interpreter may need to start, and no keys."""


class SchemaTimeoutError(EvaluatorError):
    """The schema takes more processor time for this output than it may have."""


class SchemaCrashError(EvaluatorError):
    """The process ended over it: the validator crashed, wanted too much memory, or was killed."""


class SchemaUnansweredError(EvaluatorError):
    """The process did not come to an answer by the clock, though it had processor time left: the machine is busy."""


@dataclass(frozen=True, slots=True)
class SchemaFindings:
    """What holding an output against a schema came to."""

    problems: list[dict[str, str]]
    """The first ten, each with `path`, `message` and `schema_path`; empty: the output satisfies the schema."""
    cpu_seconds: float
    """Processor time that it took."""


class SchemaProcess:
    """One process, started when it is needed, and a thread that talks to it. Any number of tasks wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "lodestream-schemas")
        self._process: subprocess.Popen[bytes] | None = None

    async def judge(self, schema: str, value: str, *, formats: bool) -> SchemaFindings:
        """Hold a value against a schema, both JSON texts.

        Raises SchemaTimeoutError, SchemaUnansweredError and SchemaCrashError.
        """
        ask = partial(self._judge, schema, value, formats=formats)
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    def _judge(self, schema: str, value: str, *, formats: bool) -> SchemaFindings:
        with self._lock:
            process = self._started()
            with _killed_late(process) as late:
                answer = _asked(process, json.dumps([schema, formats, value]).encode())
            if not answer or late.is_set():
                self._end()
            if answer:
                return SchemaFindings(**json.loads(answer))
        if process.returncode == _LATE or (late.is_set() and not hasattr(signal, "setitimer")):
            raise SchemaTimeoutError(f"the schema takes longer than {_schema_child.SECONDS:g} s for this output")
        if late.is_set():
            raise SchemaUnansweredError(f"the schema was not held against this output within {_PATIENCE:g} s")
        raise SchemaCrashError("the schema can't be held against this output: the validator crashed")

    def end(self) -> None:
        """The process, if there is one."""
        with self._lock:
            self._end()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", str(Path(_schema_child.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            )
            with _killed_late(self._process):
                _asked(self._process, b"")
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def _killed_late(process: "subprocess.Popen[bytes]") -> Iterator[threading.Event]:
    """Ends the process when the block takes too long; the event says that it was so."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(_PATIENCE, kill)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _asked(process: "subprocess.Popen[bytes]", line: bytes) -> bytes:
    """The next line it says, after it was told a line, if there is one; empty when the process ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if line:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        answer = process.stdout.readline()
    except OSError:
        return b""
    return answer if answer.endswith(b"\n") else b""


_the_process = SchemaProcess()
_parents: list[SchemaProcess] = []  # of those we were forked from: never closed, for they are not ours


async def schema_problems(schema: str, value: str, *, formats: bool) -> list[dict[str, str]]:
    """What of a value does not satisfy a schema, both JSON texts, as the process of this program finds.

    Raises EvaluatorError as SchemaProcess.judge does.
    """
    return (await _the_process.judge(schema, value, formats=formats)).problems


def _end() -> None:
    _the_process.end()


def _begin_anew() -> None:
    """In a forked child: the process is the parent's, and the thread that talks to it is not here."""
    global _the_process  # noqa: PLW0603 - whoever asks next finds the new one
    _parents.append(_the_process)
    _the_process = SchemaProcess()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
