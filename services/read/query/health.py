"""The health of the query service: whether Postgres answers. The process as a whole serves as long as it runs."""

import asyncio
from typing import NoReturn

import asyncpg
import structlog
from lodestream_proto.v1 import query_pb2

from shared.runtime.serving import Health
from shared.storage.postgres import DATABASE_ERRORS

log = structlog.get_logger()

SERVICE = query_pb2.DESCRIPTOR.services_by_name["QueryService"].full_name
_LOOK_SECONDS = 1.0
_PATIENCE = 3.0


async def report_health(health: Health, dsn: str) -> NoReturn:
    """Report it for ever. The check has a connection of its own: a service whose connections are busy is healthy."""
    connection: asyncpg.Connection | None = None
    last_error: str | None = "not checked yet"
    try:
        while True:
            error_text: str | None = None
            try:
                async with asyncio.timeout(_PATIENCE):
                    connection = connection or await asyncpg.connect(
                        dsn, server_settings={"application_name": "lodestream-query-health"}
                    )
                    await connection.execute("SELECT 1")
            except DATABASE_ERRORS as error:
                error_text = f"{type(error).__name__}: {error}"
                if connection:
                    connection.terminate()
                connection = None
            if error_text and not last_error:
                log.warning("Postgres does not answer", error=error_text)
            last_error = error_text
            await health.set(SERVICE, serving=error_text is None)
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        if connection:
            connection.terminate()
