"""Outputs are validated against JSON Schemas in processes beside the worker, which projects take in turn.

Some schemas take for ever on some outputs, and nothing in either tells which. One output of a project is validated at a
time, and an evaluator that waits for the turn of its project loses nothing: what another project's schemas take is
never counted, neither as time that an evaluator took nor as a result.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from weakref import WeakValueDictionary

from lodestream_evals.evaluators import (
    EvaluatorError,
    SchemaCrashError,
    SchemaFindings,
    SchemaProcess,
    SchemaTimeoutError,
    SchemaUnansweredError,
)

from shared.runtime.lru_cache import LruCache

_PROCESSES = 2
_MAX_UNANSWERED = 3
"""How often one output may be left unanswered by the clock before the machine counts as too busy."""
_MAX_CRASHES = 2
"""How often the process may crash on one output: the first crash may be that of somebody who killed the process."""
MAX_ITEM_SECONDS = 10.0
"""How much processor time the schemas of one item may take together."""
MAX_TIMEOUTS = 3
"""How often in a row one schema may time out before it rests for a while."""
_REST_SECONDS = 600.0
_TIMEOUT_SECONDS = 2.0
_MAX_SLOW_SCHEMAS = 10_000


class EvaluationDelayedError(Exception):
    """The machine is too busy to evaluate the item, not by the item's fault: it has to be evaluated again later."""


@dataclass(slots=True)
class SchemaUsage:
    """How much processor time the schemas of one item have taken so far."""

    cpu_seconds: float = 0.0


@dataclass(slots=True)
class _SlowSchema:
    timeouts: int = 0
    """Counted since the schema last answered in time."""
    rests_until: float = 0.0


class SchemaValidator:
    """Validates for one worker: holds the processes, and knows whose turn it is."""

    def __init__(
        self, processes: Sequence[SchemaProcess] | None = None, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._processes = processes or [SchemaProcess() for _ in range(_PROCESSES)]
        self._free: asyncio.Queue[SchemaProcess] = asyncio.Queue()
        for process in self._processes:
            self._free.put_nowait(process)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slow: LruCache[tuple[str, bytes], _SlowSchema] = LruCache(_MAX_SLOW_SCHEMAS)
        self._clock = clock

    async def problems(
        self, project_id: str, usage: SchemaUsage, schema: str, value: str, *, formats: bool
    ) -> list[dict[str, str]]:
        """Return what of the value does not satisfy the schema; both are JSON texts.

        Raises EvaluatorError when the schema, or those of the item together, take longer than they may, and
        EvaluationDelayedError when the machine is too busy to find out.
        """
        crashes = unanswered = 0
        while True:
            try:
                return await self._validate(project_id, usage, schema, value, formats=formats)
            except SchemaCrashError:
                crashes += 1
                if crashes == _MAX_CRASHES:
                    raise
            except SchemaUnansweredError as error:
                unanswered += 1
                if unanswered == _MAX_UNANSWERED:
                    raise EvaluationDelayedError(str(error)) from None

    async def aclose(self) -> None:
        """Stop the processes."""
        for process in self._processes:
            await asyncio.to_thread(process.end)

    async def _validate(
        self, project_id: str, usage: SchemaUsage, schema: str, value: str, *, formats: bool
    ) -> list[dict[str, str]]:
        turn = self._turns.setdefault(project_id, asyncio.Lock())
        await turn.acquire()
        try:
            self._check_allowance(project_id, usage, schema)
            process = await self._free.get()
        except BaseException:
            turn.release()
            raise
        validation = asyncio.ensure_future(process.judge(schema, value, formats=formats))

        def free(validation: "asyncio.Future[SchemaFindings]") -> None:
            """Free the process and the project's turn once there is an answer, even if nobody waits for it any more."""
            self._free.put_nowait(process)
            turn.release()
            if not validation.cancelled():
                validation.exception()

        validation.add_done_callback(free)
        try:
            findings = await asyncio.shield(validation)
        except SchemaTimeoutError:
            usage.cpu_seconds += _TIMEOUT_SECONDS
            self._remember_timeout(project_id, schema)
            raise
        usage.cpu_seconds += findings.cpu_seconds
        self._slow.pop(_key(project_id, schema))
        return findings.problems

    def _check_allowance(self, project_id: str, usage: SchemaUsage, schema: str) -> None:
        if usage.cpu_seconds >= MAX_ITEM_SECONDS:
            raise EvaluatorError(
                f"the schemas of this item have taken {MAX_ITEM_SECONDS:g} s together; this one was not tried"
            )
        slow = self._slow.peek(_key(project_id, schema))
        if slow is not None and slow.rests_until > self._clock():
            raise EvaluatorError(
                f"the schema took longer than {_TIMEOUT_SECONDS:g} s for {MAX_TIMEOUTS} outputs in a row; "
                "it was not tried on this one"
            )

    def _remember_timeout(self, project_id: str, schema: str) -> None:
        slow = self._slow.get(_key(project_id, schema)) or _SlowSchema()
        self._slow[_key(project_id, schema)] = slow
        slow.timeouts += 1
        if slow.timeouts >= MAX_TIMEOUTS:
            slow.timeouts, slow.rests_until = 0, self._clock() + _REST_SECONDS


def _key(project_id: str, schema: str) -> tuple[str, bytes]:
    return project_id, hashlib.sha256(schema.encode()).digest()
