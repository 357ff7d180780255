"""The queue in Postgres: claimed under a lease and a fence, held, put off, decided, told.

Every change names owner and fence, so a worker whose lease has run out changes nothing any more. Whoever locks several
jobs does so in key order.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import asyncpg

from services.write.evaluator.fair_slots import OF_FREE, Candidate, share
from services.write.evaluator.fold import Run
from services.write.evaluator.folding.tables import look_at, spend
from services.write.evaluator.providers.endpoints import Endpoint
from shared.read_model.postgres import load_sql

_SQL = Path(__file__).parent / "sql"
_RUNS_AT_ONCE = 16
_WORKED_ON = 1  # the state of a job
_SEEN, _WAITING = (load_sql(_SQL / f"{name}.sql") for name in ("seen", "waiting"))
_RUNS_TO_SERVE, _HOW_MUCH, _CLAIM = (load_sql(_SQL / f"{name}.sql") for name in ("runs_to_serve", "how_much", "claim"))
_HOLD, _RECOVER, _ADOPT, _LEAVE = (load_sql(_SQL / f"{name}.sql") for name in ("hold", "recover", "adopt", "leave"))
_END = load_sql(_SQL / "end.sql")
_PUT_OFF, _DECIDE, _TOLD = (load_sql(_SQL / f"{name}.sql") for name in ("put_off", "decide", "told"))


class Key(NamedTuple):
    """Which job."""

    project_id: str
    run_id: str
    item_id: str
    repetition: int

    @property
    def run(self) -> Run:
        """The run it is of."""
        return self.project_id, self.run_id


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is ours until another fence is raised over it."""

    key: Key
    fence: int
    attempt: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a job came to: the events that tell it, the result last."""

    key: Key
    fence: int
    events: Sequence[bytes]
    picodollars: int = 0
    """What it cost, evaluators included."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker claims jobs of."""

    providers: Collection[str]
    """That it offers."""
    resting: Collection[str] = ()
    """Providers whose runs are left alone now."""
    avoided: Collection[Run] = ()
    """Runs that are left alone now."""
    held: Mapping[str, int] = field(default_factory=dict)
    """How many of the worker's slots each project holds."""


class Jobs:
    """The queue as one worker sees it. All raise what asyncpg does."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        owner: str,
        lease_seconds: float,
        offers: Sequence[Endpoint] = (),
        provider_grace_seconds: float = 600,
    ) -> None:
        """`offers`: the endpoints of this worker, for `provider_grace_seconds` after it was last seen."""
        self._pool, self._owner = pool, owner
        self._lease = timedelta(seconds=lease_seconds)
        self._offers, self._offered_for = offers, timedelta(seconds=provider_grace_seconds)

    async def claim(self, slots: int, wanted: Wanted) -> list[Claimed]:
        """At most so many jobs that wait, shared fairly among runs; never more of a run than its concurrency allows.

        The run is locked before what is under way of it is counted, so that two workers never count at once.
        """
        avoided = [list(column) for column in zip(*wanted.avoided, strict=True)] or [[], []]
        callable_now = [each for each in wanted.providers if each not in wanted.resting]
        sated = [project for project, held in wanted.held.items() if held >= OF_FREE * slots]
        async with self._pool.acquire() as connection, connection.transaction():
            served = await connection.fetch(
                _RUNS_TO_SERVE, callable_now, *avoided, _RUNS_AT_ONCE, list(wanted.providers), sated
            )
            if not served:
                return []
            most = {(row["project_id"], row["run_id"]): row["max_concurrency"] for row in served}
            columns = [list(column) for column in zip(*most, strict=True)]
            candidates = [
                Candidate(
                    row["project_id"], row["run_id"], row["ready"], row["of_run"], row["of_project"],
                    most[row["project_id"], row["run_id"]],
                )
                for row in await connection.fetch(_HOW_MUCH, *columns, slots)
            ]  # fmt: skip
            shares = [(*run, size) for run, size in share(slots, candidates, wanted.held).items()]
            if not shares:
                return []
            rows = await connection.fetch(_CLAIM, *_columns(shares), self._owner, self._lease)
        return [Claimed(_key(row), row["fence"], row["attempts"]) for row in rows]

    async def hold(self, fences: Mapping[Key, int]) -> set[Key]:
        """Prolong the leases of jobs; returns those that are still ours and whose run has not ended."""
        if not fences:
            return set()
        mine = _columns([(*key, fence) for key, fence in fences.items()])
        return {_key(row) for row in await self._pool.fetch(_HOLD, *mine, self._owner, self._lease)}

    async def recover(self) -> int:
        """Let wait again what silent workers had under way; returns how many."""
        return _count(await self._pool.execute(_RECOVER))

    async def adopt(self, most: int) -> list[Decision]:
        """Results that silent workers have decided and may not have told."""
        rows = await self._pool.fetch(_ADOPT, self._owner, self._lease, most)
        return [Decision(_key(row), row["fence"], row["told"]) for row in rows]

    async def put_off(self, claimed: Claimed, seconds: float, *, counts: bool) -> None:
        """Back to the queue until then; with `counts` the attempt was one."""
        off = 0 if counts else 1
        await self._pool.execute(
            _PUT_OFF, *claimed.key, claimed.fence, timedelta(seconds=seconds), off, self._owner
        )  # fmt: skip

    async def decide(self, decisions: Sequence[Decision]) -> set[Key]:
        """Write down what jobs came to; returns those that were ours to decide. The same again does no harm."""
        in_order = sorted(decisions, key=lambda each: each.key)
        arguments = [
            (*each.key, each.fence, list(each.events), self._owner, self._lease) for each in in_order
        ]  # fmt: skip
        async with self._pool.acquire() as connection, connection.transaction():
            decided = {_key(row): row["before"] for row in await connection.fetchmany(_DECIDE, arguments)}
            spent: dict[Run, int] = defaultdict(int)
            for each in in_order:
                if decided.get(each.key) == _WORKED_ON:
                    spent[each.key.run] += each.picodollars
            await spend(connection, spent)
        return set(decided)

    async def told(self, keys: Collection[Key]) -> None:
        """The log has the results of these jobs."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_TOLD, *_columns(sorted(keys)))
            await look_at(connection, {key.run for key in keys})

    async def end(self, run: Run, outcome: int, reason: str) -> None:
        """Have a run end so: nothing of it begins any more."""
        await self._pool.execute(_END, *run, outcome, reason)

    async def leave(self) -> None:
        """Leave everything to the others: this worker ends."""
        await self._pool.execute(_LEAVE, self._owner)

    async def seen(self) -> int:
        """Say that this worker lives, and which providers it offers; returns how many workers live."""
        offers = [(each.name, each.kind, each.granted_only, json.dumps(each.models)) for each in self._offers]
        columns = [list(column) for column in zip(*offers, strict=True)] or [[], [], [], []]
        return int(await self._pool.fetchval(_SEEN, self._owner, self._offered_for, *columns))

    async def waiting(self) -> int:
        """How many jobs wait, over all runs."""
        return int(await self._pool.fetchval(_WAITING))


def _key(row: asyncpg.Record) -> Key:
    return Key(row["project_id"], row["run_id"], row["item_id"], row["repetition"])


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _count(status: str) -> int:
    """Of asyncpg's "UPDATE 3"."""
    return int(status.rpartition(" ")[2])
