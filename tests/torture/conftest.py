"""A stand of a test's own on the session's servers."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.all_in_one.processes import Ground
from tests.servers import Servers
from tests.torture.stand import Stand, standing


@pytest.fixture
async def stand(ground: Ground, servers: Servers, database: str) -> AsyncIterator[Stand]:
    """Nothing runs on it yet but the session's Kafka and Postgres, which must not be harmed."""
    own = Ground(Path(tempfile.mkdtemp(dir=ground.data, prefix="stand-")), ground.keeper)
    async with standing(own, servers.kafka, database) as it:
        yield it
