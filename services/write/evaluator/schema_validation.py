"""Outputs are held against JSON Schemas in processes beside the worker, in turn by project.

Some schemas take for ever on some outputs, and nothing in either tells which. One output of a project is judged at a
time, and who waits for the turn of their project loses nothing: what another project's schemas take is never counted,
neither as time that an evaluator took nor as a result.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from weakref import WeakValueDictionary

from lodestream.evaluators import (
    EvaluatorError,
    SchemaCrashError,
    SchemaFindings,
    SchemaProcess,
    SchemaTimeoutError,
    SchemaUnansweredError,
)

_PROCESSES = 2
_TRIES = 3
"""To come to an answer by the clock."""
_CRASHES = 2
"""That one output may have: the first may be somebody's who killed the process."""
MAX_ITEM_SECONDS = 10.0
"""Of processor time that the schemas of one item may take together."""
MAX_TIMEOUTS = 3
"""In a row, of one schema; then it is left alone for a while."""
_REST_SECONDS = 600.0
_TIMEOUT_SECONDS = 2.0
_MOST_REMEMBERED = 10_000


class JudgingDelayedError(Exception):
    """Nothing could be found out for reasons that are not the item's: it has to be judged again later."""


@dataclass(slots=True)
class ItemSchemas:
    """What the schemas of one item have taken so far."""

    cpu_seconds: float = 0.0


@dataclass(slots=True)
class _SlowSchema:
    timeouts: int = 0
    """In a row."""
    rests_until: float = 0.0


class Schemas:
    """The processes, and whose turn it is. One for a worker."""

    def __init__(
        self, processes: Sequence[SchemaProcess] | None = None, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._processes = processes or [SchemaProcess() for _ in range(_PROCESSES)]
        self._free: asyncio.Queue[SchemaProcess] = asyncio.Queue()
        for process in self._processes:
            self._free.put_nowait(process)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slow: OrderedDict[tuple[str, bytes], _SlowSchema] = OrderedDict()
        self._clock = clock

    async def problems(
        self, project_id: str, item: ItemSchemas, schema: str, value: str, *, formats: bool
    ) -> list[dict[str, str]]:
        """What of the value does not satisfy the schema, both JSON texts.

        Raises EvaluatorError when the schema, or those of the item together, take longer than they may, and
        JudgingDelayedError when the machine is too busy to find out.
        """
        crashes = delays = 0
        while True:
            try:
                return await self._judged(project_id, item, schema, value, formats=formats)
            except SchemaCrashError:
                crashes += 1
                if crashes == _CRASHES:
                    raise
            except SchemaUnansweredError as error:
                delays += 1
                if delays == _TRIES:
                    raise JudgingDelayedError(str(error)) from None

    async def aclose(self) -> None:
        """End the processes."""
        for process in self._processes:
            await asyncio.to_thread(process.end)

    async def _judged(
        self, project_id: str, item: ItemSchemas, schema: str, value: str, *, formats: bool
    ) -> list[dict[str, str]]:
        turn = self._turns.setdefault(project_id, asyncio.Lock())
        await turn.acquire()
        try:
            self._refuse_spent(project_id, item, schema)
            process = await self._free.get()
        except BaseException:
            turn.release()
            raise
        judging = asyncio.ensure_future(process.judge(schema, value, formats=formats))

        def free(judging: "asyncio.Future[SchemaFindings]") -> None:
            """Whoever gave up waiting, the process is busy, and the project's turn taken, until there is an answer."""
            self._free.put_nowait(process)
            turn.release()
            if not judging.cancelled():
                judging.exception()

        judging.add_done_callback(free)
        try:
            findings = await asyncio.shield(judging)
        except SchemaTimeoutError:
            item.cpu_seconds += _TIMEOUT_SECONDS
            self._remember_timeout(project_id, schema)
            raise
        item.cpu_seconds += findings.cpu_seconds
        self._slow.pop(_key(project_id, schema), None)
        return findings.problems

    def _refuse_spent(self, project_id: str, item: ItemSchemas, schema: str) -> None:
        if item.cpu_seconds >= MAX_ITEM_SECONDS:
            raise EvaluatorError(
                f"the schemas of this item have taken {MAX_ITEM_SECONDS:g} s together; this one was not tried"
            )
        slow = self._slow.get(_key(project_id, schema))
        if slow is not None and slow.rests_until > self._clock():
            raise EvaluatorError(
                f"the schema took longer than {_TIMEOUT_SECONDS:g} s for {MAX_TIMEOUTS} outputs in a row; "
                "it was not tried on this one"
            )

    def _remember_timeout(self, project_id: str, schema: str) -> None:
        slow = self._slow.setdefault(_key(project_id, schema), _SlowSchema())
        self._slow.move_to_end(_key(project_id, schema))
        slow.timeouts += 1
        if slow.timeouts >= MAX_TIMEOUTS:
            slow.timeouts, slow.rests_until = 0, self._clock() + _REST_SECONDS
        while len(self._slow) > _MOST_REMEMBERED:
            self._slow.popitem(last=False)


def _key(project_id: str, schema: str) -> tuple[str, bytes]:
    return project_id, hashlib.sha256(schema.encode()).digest()
