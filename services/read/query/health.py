"""What the query service says of itself: whether Postgres answers. The process as a whole serves as long as it runs."""

import asyncio
from typing import NoReturn

import asyncpg
import structlog
from lodestream_proto.v1 import query_pb2

from shared.read_model.postgres import DATABASE_ERRORS
from shared.runtime.serving import Health

log = structlog.get_logger()

SERVICE = query_pb2.DESCRIPTOR.services_by_name["QueryService"].full_name
_LOOK_SECONDS = 1.0
_PATIENCE = 3.0


async def tell_health(health: Health, dsn: str) -> NoReturn:
    """Say it for ever. The question has a connection of its own: busy ones are no illness."""
    connection: asyncpg.Connection | None = None
    told: str | None = "not asked yet"
    try:
        while True:
            why_not: str | None = None
            try:
                async with asyncio.timeout(_PATIENCE):
                    connection = connection or await asyncpg.connect(
                        dsn, server_settings={"application_name": "lodestream-query-health"}
                    )
                    await connection.execute("SELECT 1")
            except DATABASE_ERRORS as error:
                why_not = f"{type(error).__name__}: {error}"
                if connection:
                    connection.terminate()
                connection = None
            if why_not and not told:
                log.warning("Postgres does not answer", error=why_not)
            told = why_not
            await health.set(SERVICE, serving=why_not is None)
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        if connection:
            connection.terminate()
