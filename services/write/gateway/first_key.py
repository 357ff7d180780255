"""The first project and its key, from the environment: made at the start, or as soon as Postgres is there."""

import asyncio

import asyncpg
import structlog

from shared.read_model.keys import KeyTakenError, NewKey, seed_key
from shared.runtime.settings import InitSettings

log = structlog.get_logger()


async def seed(pool: asyncpg.Pool, init: InitSettings) -> None:
    """See to it that the project and the key exist, if any are set."""
    if not (init.project_id and init.public_key and init.secret_key):
        return
    key, said = NewKey(init.public_key, init.secret_key.get_secret_value()), ""
    while True:
        try:
            async with pool.acquire() as connection:
                made = await seed_key(connection, init.project_id, init.project_name or init.project_id, key)
        except KeyTakenError as error:
            log.error("LODESTREAM_INIT_PUBLIC_KEY, LODESTREAM_INIT_SECRET_KEY: not seeded", reason=str(error))  # noqa: TRY400
            return
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if said != (said := f"{type(error).__name__}: {error}"):
                log.warning("the first key waits for Postgres", error=said)
            await asyncio.sleep(1)
        else:
            log.info("first key", project=init.project_id, made=made)
            return
