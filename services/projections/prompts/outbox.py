"""The relay of the outbox: gives Redis what the tables hold, beside the projection, which never waits for it.

What a fold changes it puts into `prompt_outbox`, in its own transaction; a row is deleted when Redis has as much.
Several relays at once, a late one, and one that dies at any step do no harm: each reads the tables when it writes to
Redis, and Redis takes nothing older than what it has had.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from services.projections.prompts.tables import WAKE, Place
from shared.runtime.failpoints import failpoint
from shared.storage.postgres import DATABASE_ERRORS, load_sql
from shared.storage.prompt_cache import CacheAwayError, Miss, Offered, PromptCache
from shared.storage.prompt_rows import read_heads

log = structlog.get_logger()

OFFERED = Counter("lodestream_prompt_cache_offers", "Heads offered to Redis, by what became of them", ["outcome"])
WAITING = Gauge("lodestream_prompt_outbox", "Prompts that Redis has not been told of, as last seen")

_LOOK_SECONDS = 1.0
"""Between two looks when nobody wakes us."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_AT_ONCE = 20
_SQL = Path(__file__).parent / "sql"
_NEXT = load_sql(_SQL / "next_in_outbox.sql")
_DELETE = load_sql(_SQL / "delete_from_outbox.sql")


class OutboxRelay:
    """Empties the outbox."""

    def __init__(self, pool: asyncpg.Pool, cache: PromptCache) -> None:
        self._pool, self._cache = pool, cache
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. A server that is away is no reason to stop."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await connection.add_listener(WAKE, self._wake)
                    try:
                        await self._keep_draining(connection)
                    finally:
                        with suppress(*DATABASE_ERRORS):
                            await connection.remove_listener(WAKE, self._wake)
            except Exception as error:
                log.warning("the outbox can't be read", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_LOOK_SECONDS)

    async def drain(self, connection: asyncpg.Connection) -> bool:
        """Tell everything that waits, once. False: something could not be told.

        Raises CacheAwayError.
        """
        waiting, after = 0, ("", "")
        while rows := await connection.fetch(_NEXT, *after, _AT_ONCE):
            waiting += await self._tell(connection, rows)
            after = rows[-1]["project_id"], rows[-1]["name"]
        WAITING.set(waiting)
        return not waiting

    async def _keep_draining(self, connection: asyncpg.Connection) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._woken.clear()
            try:
                everything = await self.drain(connection)
            except CacheAwayError as error:
                log.warning("Redis is away; the outbox waits", error=str(error), again_in=pause)
                everything = False
            if everything:
                pause = _FIRST_PAUSE
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), _LOOK_SECONDS)
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _tell(self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> int:
        """Offer the heads of these prompts as they are now; returns how many Redis did not take."""
        places: list[Place] = [(row["project_id"], row["name"]) for row in rows]
        looks = zip(places, await self._cache.look(places), strict=True)
        tickets = {place: look.ticket if isinstance(look, Miss) else "" for place, look in looks}
        heads = await read_heads(connection, places)
        await failpoint("prompts.read")
        outcomes = await self._cache.offer({place: (heads[place], tickets[place]) for place in places})
        await failpoint("prompts.offered")
        for outcome in outcomes.values():
            OFFERED.labels(outcome.name.lower()).inc()
        # A prompt that is gone (tables emptied for a rebuild) has nothing more to tell.
        delivered = [
            (*place, heads[place].revision or row["revision"])
            for row, (place, outcome) in zip(rows, outcomes.items(), strict=True)
            if outcome in (Offered.TAKEN, Offered.AS_MUCH_IS_KNOWN)
        ]
        await connection.executemany(_DELETE, delivered)
        return len(places) - len(delivered)

    def _wake(self, *_: object) -> None:
        self._woken.set()
