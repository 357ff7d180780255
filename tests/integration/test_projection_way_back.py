"""Records that were handed over, not folded, and not handed over again: the projection goes back for them by itself."""

from uuid import uuid4

import pytest
from faststream.kafka.message import KafkaAckableMessage

from services.projections.traces.projection import create_app
from shared.runtime import failpoints
from shared.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import Table, begin_at_the_end, requests


async def test_a_lost_rewind_is_made_good(servers, database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in FastStream up to 0.7.7, where a batch's other partitions were never rewound."""
    lost = []

    async def lose(message: KafkaAckableMessage) -> None:
        lost.append(message)

    monkeypatch.setattr(KafkaAckableMessage, "nack", lose)
    monkeypatch.setattr(failpoints, "_armed", failpoints._parse("projection.copied=raise@2"))
    project = f"p{uuid4().hex[:10]}"
    await begin_at_the_end(servers.kafka, database)  # several projects' bulk would be folded beside, and again in place
    await append(servers.kafka, requests(project, 24))
    app = create_app(
        KafkaSettings(bootstrap_servers=servers.kafka),
        PostgresSettings(dsn=database),
        f"test-{project}",
    )
    async with app.start_lifespan_context():
        table = Table(database, project)
        await until(table.holds(48), deadline=30)
        assert await table.counted() == 48
        assert len(lost) == 1
