"""A projection that sleeps between two questions, and finds the world moved on between their answers."""

from typing import Any
from uuid import uuid4

import pytest

from services.projections.traces.projection import create_app
from shared.projection.progress import read_progress
from shared.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import Table, begin_at_the_end, requests


async def test_what_is_folded_between_two_looks_halts_nothing(
    servers, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are asked about before the log: the other way round, a position would seem to be beyond its end."""
    project = f"p{uuid4().hex[:10]}"
    table, looks = Table(database, project), 0

    async def fall_asleep(*arguments: Any) -> Any:
        nonlocal looks
        await append(servers.kafka, requests(project, 24, first=24 * looks))
        await until(table.holds(48 * (looks + 1)), deadline=30)
        looks += 1
        return await read_progress(*arguments)

    monkeypatch.setattr("shared.projection.lag_monitor.read_progress", fall_asleep)
    await begin_at_the_end(servers.kafka, database)
    app = create_app(
        KafkaSettings(bootstrap_servers=servers.kafka),
        PostgresSettings(dsn=database),
        f"test-{project}",
    )
    async with app.start_lifespan_context():
        await until(lambda: looks == 2, deadline=60)
        assert await table.value("SELECT count(*) FROM projection_positions WHERE halted_reason IS NOT NULL") == 0
