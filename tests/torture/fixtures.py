"""Stands of a test's own."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.all_in_one.processes import ProcessManager
from tests.support.servers import Servers
from tests.torture.own_servers import own_servers
from tests.torture.stand import Stand, standing


@pytest.fixture
async def stand(ground: ProcessManager, servers: Servers, database: str) -> AsyncIterator[Stand]:
    """On the session's Kafka and Postgres, which must not be harmed. Nothing runs yet."""
    async with standing(_apart(ground), servers.kafka, database, servers.redis) as it:
        yield it


@pytest.fixture
async def own_stand(ground: ProcessManager) -> AsyncIterator[Stand]:
    """On a Kafka and a Postgres of its own, which may be. Nothing else runs yet."""
    apart = _apart(ground)
    async with own_servers(apart) as own, standing(apart, *own.addresses, servers=own.processes, log=own.log) as it:
        yield it


def _apart(ground: ProcessManager) -> ProcessManager:
    return ProcessManager(Path(tempfile.mkdtemp(dir=ground.data, prefix="stand-")), ground.reaper)
