"""Whether servers are ready: a probe for each kind, which answers within a few seconds."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import asyncpg
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.storage.postgres import DATABASE_ERRORS

Probe = Callable[[], Awaitable[bool]]
_PATIENCE = 3.0  # seconds for one answer


async def kafka_answers(address: str) -> bool:
    """Return whether a broker is registered and answers."""
    if not await _listens(address):  # asking first keeps the client's complaints out of the log
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=int(_PATIENCE * 1000))
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


async def postgres_answers(dsn: str) -> bool:
    """Return whether a session can be opened."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_PATIENCE)
    except DATABASE_ERRORS:
        return False
    await connection.close(timeout=_PATIENCE)
    return True


async def redis_answers(url: str) -> bool:
    """Return whether PING is answered."""
    client = redis.asyncio.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
    try:
        return bool(await client.ping())
    except (redis.asyncio.RedisError, OSError):
        return False
    finally:
        await client.aclose()


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
