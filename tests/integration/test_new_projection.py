"""A projection that nobody has written yet: a spec, a class and a table, and it is folded like the others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from lodestream_proto.v1.event_pb2 import Event

from shared.event_log.codec import LogRecord
from shared.event_log.projections import ProjectionSpec
from shared.projection.app import make_app
from shared.projection.dead_letters import DeadLetter, set_aside
from shared.projection.progress import read_progress
from shared.projection.records import ReadRecords, payload_of, read_records
from shared.runtime.settings import KafkaSettings, PostgresSettings
from shared.storage.postgres import connect_pool
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.scores import score, score_event

SCHEMA = "CREATE SCHEMA authors; CREATE TABLE authors.authors (author text PRIMARY KEY, scores bigint NOT NULL)"
COUNT = """
INSERT INTO authors AS stored VALUES ($1, 1) ON CONFLICT (author) DO UPDATE SET scores = stored.scores + 1
"""


def author_of(record: LogRecord) -> str:
    _event, _kind, payload = payload_of(record, {"score_recorded"})
    return str(payload.author)


class AuthorsProjection:
    """Counts the scores of each author."""

    name = "authors"

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def items(self, _event: Event) -> int:
        return 1

    def sample(self) -> Event:
        return score_event(score("sample"), number=1)

    async def prepare(self, records: Sequence[LogRecord]) -> ReadRecords[str]:
        return read_records(records, author_of)

    async def write(
        self, connection: asyncpg.Connection, _records: Sequence[LogRecord], prepared: ReadRecords[str]
    ) -> list[DeadLetter]:
        await connection.executemany(COUNT, [(author,) for author in prepared.values])
        if prepared.dead_letters:
            await set_aside(connection, self.name, prepared.dead_letters)
        return prepared.dead_letters


async def test_a_spec_and_a_class_are_a_projection(servers, database) -> None:
    spec = ProjectionSpec(name="authors", topic=f"authors-{uuid4().hex[:8]}", summary="Scores are counted by author.")
    kafka, postgres = KafkaSettings(bootstrap_servers=servers.kafka), PostgresSettings(dsn=database)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(spec.topic, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()
    scores = [score_event(score(f"s{n}", author=f"author-{n % 2}"), number=n) for n in range(6)]
    values = [(n % 2, event.SerializeToString()) for n, event in enumerate(scores)]
    await append(servers.kafka, [*values, (0, b"garbage"), *values[:2]], topic=spec.topic)

    @asynccontextmanager
    async def open_projection(_pool: asyncpg.Pool) -> AsyncIterator[AuthorsProjection]:
        yield AuthorsProjection(spec.topic)

    pool = await connect_pool(database, application="test", search_path="lodestream")
    try:
        await pool.execute(SCHEMA)
        app = make_app(spec, open_projection, kafka=kafka, postgres=postgres, group=f"test-{spec.topic}")
        async with app.start_lifespan_context():

            async def all_read() -> bool:
                progress = await read_progress(pool, spec.name, spec.topic)
                return sum(place.next_offset for place in progress.values()) == len(values) + 3

            await until(all_read, deadline=30)
        rows = await pool.fetch("SELECT author, scores FROM authors.authors ORDER BY author")
        assert [tuple(row) for row in rows] == [("author-0", 4), ("author-1", 4)]
        letters = await pool.fetch("SELECT reason FROM lodestream.dead_letters WHERE projection = 'authors'")
        assert [row["reason"] for row in letters] == ["the record is not an Event of a project"]
    finally:
        await pool.close()
