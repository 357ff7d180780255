"""`rebuild`: fold the log beside the live read model, compare, swap. Run again after any end, it goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic

import asyncpg

from shared.event_log.reading import log_range, range_consumer
from shared.projection.dead_letters import code_version
from shared.projection.projection import Prepared
from shared.projection.rebuilding import names, positions, schema
from shared.projection.rebuilding.comparison import Comparison, compare, snapshot
from shared.projection.rebuilding.events import Pace, Tell
from shared.projection.rebuilding.positions import Offsets, behind
from shared.projection.rebuilding.processes import fold_in_processes
from shared.projection.rebuilding.rebuildable import Rebuildable
from shared.projection.rebuilding.replay import Replay, replaying
from shared.projection.rebuilding.swap import NotReadyError, held, swap
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import KafkaSettings

_LOCK = 0x72656275  # "rebu": one rebuild of a projection at a time
_KILLED = "5s"
"""Until Postgres has noticed that a process which held the lock is gone."""
_MANY, _FEW = 2_000, 50
"""Records behind: with more than many, processes are worth starting; with few, the live projection may be held."""
_HOLD_SECONDS = 5.0
"""The live projection waits at most so long; its own lock_timeout is longer."""
_ATTEMPTS = 20


class RefusedError(Exception):
    """What was asked for can't be done; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to rebuild."""

    processes: int = 2
    restart: bool = False
    """Throw away what an unfinished rebuild has folded."""
    accept_differences: bool = False
    """Swap although the two differ, as they do when the code that folds has changed."""
    swap: bool = True


@asynccontextmanager
async def controlling(dsn: str, name: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection, and the right to rebuild, swap or drop for as long as it is open.

    Raises RefusedError when somebody else has that.
    """
    settings = {"search_path": "lodestream", "timezone": "UTC", "application_name": f"lodestream-rebuild-{name}"}
    connection = await asyncpg.connect(dsn, timeout=10, server_settings=settings)
    try:
        try:
            await connection.execute(f"SET lock_timeout = '{_KILLED}'")
            await connection.execute("SELECT pg_advisory_lock($1, hashtext($2))", _LOCK, name)
            await connection.execute("RESET lock_timeout")
        except asyncpg.LockNotAvailableError:
            raise RefusedError(f"another process is rebuilding {name}") from None
        yield connection
    finally:
        await connection.close()


class Rebuild(Generic[Prepared]):
    """One run of the command."""

    def __init__(
        self, what: Rebuildable[Prepared], options: Options, control: asyncpg.Connection,
        *, kafka: KafkaSettings, dsn: str, command: Sequence[str], tell: Tell,
    ) -> None:  # fmt: skip
        """`command` is what starts a process that folds."""
        self._what, self._options, self._control = what, options, control
        self._kafka, self._dsn, self._command, self._tell = kafka, dsn, command, tell
        self._live, self._rebuilt = names.live(what.name), names.rebuilt(what.name)
        self._starts: Offsets = {}

    async def run(self) -> bool:
        """True: what was asked for is done. False: the two differ, and nothing was swapped."""
        await self._begin()
        async with replaying(self._what, kafka=self._kafka, dsn=self._dsn) as replay:
            await self._follow(replay)
            self._tell("indexing")
            begun = await schema.find(self._control, self._rebuilt)
            if begun and not begun.indexed:
                await schema.make_indexes(self._control, self._rebuilt)
            same = await self._compare(replay)
            if not same and not self._options.accept_differences:
                return False
            if self._options.swap:
                await self._swap(replay)
        return True

    async def _begin(self) -> None:
        control, topic = self._control, self._what.topic
        if self._options.restart:
            await schema.drop(control, self._rebuilt)
        begun = await schema.find(control, self._rebuilt)
        if begun and begun.code_version not in (None, code_version()):
            raise RefusedError(f"a rebuild by {begun.code_version} is under way: begin anew with --restart")
        if not begun:
            await schema.make(
                control, self._live, self._rebuilt, code_version(), indexes_at_once=self._what.indexes_at_once
            )
        async with control.transaction():
            await schema.make_days(control, self._live, self._rebuilt)
        # Before the log's end is asked for: both go on meanwhile, and no position may seem to be beyond the log.
        before = await self._positions(self._live)
        self._starts, ends = await _log_range(self._kafka, topic)
        await positions.begin(control, self._rebuilt.projection, topic, self._starts)
        await positions.begin(control, self._live.projection, topic, dict.fromkeys(self._starts, 0))
        if beyond := sorted(partition for partition, offset in before.items() if offset > ends.get(partition, 0)):
            raise RefusedError(f"the log ends before the live positions of partitions {beyond}: it was replaced or cut")
        live = await self._positions(self._live)
        self._tell("begun", resumed=bool(begun), records=sum(live.values()) - sum(self._starts.values()))

    async def _positions(self, generation: names.Generation) -> Offsets:
        return await positions.read(self._control, generation.projection, self._what.topic)

    async def _follow(self, replay: Replay[Prepared]) -> None:
        """Fold until few records are left, or until that leads nowhere because the live one is as fast."""
        left = None
        for _ in range(_ATTEMPTS):
            live, own = await self._positions(self._live), await self._positions(self._rebuilt)
            missing = behind(own, live)
            if missing <= _FEW or (left is not None and missing > 0.9 * left):
                return
            left = missing
            done = sum(min(own[n], live[n]) - start for n, start in self._starts.items() if live[n] > start)
            pace = Pace(self._tell, "folding", done=done, total=done + missing)
            if missing > _MANY:
                shares = {n: (offset - own[n], offset) for n, offset in live.items() if offset > own[n]}
                await fold_in_processes(self._command, shares, self._options.processes, pace.add)
            else:
                await replay.to(live, pace.add)
            pace.show()

    async def _at_the_live_position(self, replay: Replay[Prepared], offsets: Offsets) -> None:
        """Bring the rebuilt one to where the live one is held."""
        try:
            async with asyncio.timeout(_HOLD_SECONDS):
                await replay.to(offsets)
        except TimeoutError:
            raise NotReadyError("the rebuilt one is too far behind to hold the live one for it") from None

    async def _compare(self, replay: Replay[Prepared]) -> bool:
        for attempt in range(1, _ATTEMPTS + 1):
            await self._follow(replay)
            try:
                comparison, at = await self._compare_once(replay)
            except NotReadyError as error:
                self._tell("waiting", reason=str(error))
                if attempt == _ATTEMPTS:
                    raise RefusedError(str(error)) from None
                await asyncio.sleep(min(0.2 * attempt, 2))
            else:
                self._tell("compared", **_told(comparison, at))
                return comparison.same
        raise AssertionError

    async def _compare_once(self, replay: Replay[Prepared]) -> tuple[Comparison, Offsets]:
        """In a snapshot taken while the live one is held where the rebuilt one is; it goes on meanwhile."""
        settings = {"search_path": "lodestream", "timezone": "UTC"}
        reader = await asyncpg.connect(self._dsn, timeout=10, server_settings=settings)
        try:
            async with AsyncExitStack() as after:
                async with held(self._control, self._live, self._what.topic) as offsets:
                    await self._at_the_live_position(replay, offsets)
                    await after.enter_async_context(snapshot(reader))
                    own = await positions.read(reader, self._rebuilt.projection, self._what.topic)
                ahead = {n: own[n] - offset for n, offset in offsets.items() if own[n] > offset}
                if ahead and not self._options.accept_differences:
                    raise NotReadyError(f"the live one is behind the rebuilt one in partitions {sorted(ahead)}")
                self._tell("comparing")
                return await compare(reader, self._what.tables, self._live, self._rebuilt), offsets
        finally:
            await reader.close()

    async def _swap(self, replay: Replay[Prepared]) -> None:
        retired = names.before(self._what.name)
        await schema.drop(self._control, retired)
        await failpoint("rebuild.swapping")
        for attempt in range(1, _ATTEMPTS + 1):
            await self._follow(replay)
            loop = asyncio.get_running_loop()
            begin = loop.time()
            try:
                await swap(
                    self._control, live=self._live, successor=self._rebuilt, retired=retired, topic=self._what.topic,
                    catch_up=lambda offsets: self._at_the_live_position(replay, offsets),
                )  # fmt: skip
            except NotReadyError as error:
                self._tell("waiting", reason=str(error))
                if attempt == _ATTEMPTS:
                    raise RefusedError(str(error)) from None
                await asyncio.sleep(min(0.2 * attempt, 2))
            else:
                self._tell("swapped", held_ms=round(1000 * (loop.time() - begin)), kept=retired.schema)
                return


async def undo(control: asyncpg.Connection, what: Rebuildable[Prepared]) -> None:
    """Make the one before live again, and the live one a rebuild that can go on. Raises RefusedError."""
    live, rebuilt, before = (of(what.name) for of in (names.live, names.rebuilt, names.before))
    if not await schema.exists(control, before):
        raise RefusedError(f"there is no {before.schema} to go back to")
    if await schema.exists(control, rebuilt):
        raise RefusedError(f"{rebuilt.schema} is in the way: a rebuild is under way (--restart begins it anew)")
    try:
        await swap(control, live=live, successor=before, retired=rebuilt, topic=what.topic)
    except NotReadyError as error:
        raise RefusedError(str(error)) from None


async def _log_range(kafka: KafkaSettings, topic: str) -> tuple[Offsets, Offsets]:
    consumer = range_consumer(kafka, "lodestream-rebuild")
    await consumer.start()
    try:
        return await log_range(consumer, topic)
    finally:
        await consumer.stop()


def _told(comparison: Comparison, at: Offsets) -> dict[str, Any]:
    tables: dict[str, dict[str, int]] = {}
    for group in comparison.groups:
        counts = tables.setdefault(group.table, {"live": 0, "rebuilt": 0, "groups": 0, "differing": 0})
        counts["live"] += group.live_rows
        counts["rebuilt"] += group.rebuilt_rows
        counts["groups"] += 1
        counts["differing"] += not group.same
    return {
        "same": comparison.same,
        "positions": {str(partition): offset for partition, offset in sorted(at.items())},
        "tables": tables,
        "differing": [group for group in comparison.groups if not group.same],
        "rows": comparison.rows,
    }
