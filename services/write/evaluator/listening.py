"""Hears what Postgres notifies of. Whoever listens also looks by itself now and then: notifications may be lost."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import asyncpg
import structlog

from shared.read_model.postgres import DATABASE_ERRORS

log = structlog.get_logger()

_AGAIN_SECONDS = 1.0


async def listening(pool: asyncpg.Pool, channel: str, heard: Callable[[], None]) -> None:
    """Call `heard` for each notification, and whenever listening begins (anew), until cancelled."""

    def tell(*_: object) -> None:
        heard()

    while True:
        try:
            async with pool.acquire() as connection:
                lost = asyncio.Event()

                def lose(*_: object, lost: asyncio.Event = lost) -> None:
                    lost.set()

                connection.add_termination_listener(lose)
                await connection.add_listener(channel, tell)
                try:
                    heard()
                    await lost.wait()
                finally:
                    connection.remove_termination_listener(lose)
                    with suppress(*DATABASE_ERRORS):
                        await connection.remove_listener(channel, tell)
        except Exception as error:
            log.warning("notifications can't be heard", error=f"{type(error).__name__}: {error}"[:300])
        await asyncio.sleep(_AGAIN_SECONDS)
