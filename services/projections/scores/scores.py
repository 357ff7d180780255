"""The scores projection: records to rows before the fence, rows to tables within."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import SCORE_SOURCE_API, ScoreRecorded, ScoreTarget, ScoreValue

from services.projections.scores.fold import Folded, fold
from services.projections.scores.tables import NAME, prepare_connection, write_configs, write_scores
from shared.event_log.codec import LogRecord
from shared.event_log.projections import SCORES_PROJECTION
from shared.event_log.topics import SCORES
from shared.projection import metrics
from shared.projection.app import make_app
from shared.projection.dead_letters import DeadLetter, set_aside, whole
from shared.projection.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.projection.refused import write_or_bisect
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import KafkaSettings, PostgresSettings


def create_app(
    kafka: KafkaSettings | None = None, postgres: PostgresSettings | None = None, group: str | None = None
) -> AsgiFastStream:
    """Make the application for these settings, by default the environment's."""
    return make_app(
        SCORES_PROJECTION, _open, kafka=kafka, postgres=postgres, group=group, prepare_connection=prepare_connection
    )


@asynccontextmanager
async def _open(_pool: asyncpg.Pool) -> AsyncIterator["ScoresProjection"]:
    yield ScoresProjection()


class ScoresProjection:
    """Scores become rows of `scores` and `score_history`, configs of `score_config_history`."""

    name = NAME
    topic = SCORES

    def items(self, _event: Event) -> int:
        """An event tells one score."""
        return 1

    def sample(self) -> Event:
        """One number about one trace."""
        score = ScoreRecorded(
            score_id="sample",
            target=ScoreTarget(trace_id=bytes(15) + b"\1"),
            name="sample",
            value=ScoreValue(numeric=1),
            source=SCORE_SOURCE_API,
        )
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, score_recorded=score)

    async def prepare(self, records: Sequence[LogRecord]) -> Folded:
        """All the arithmetic."""
        return fold(records)

    async def write(
        self, connection: asyncpg.Connection, records: Sequence[LogRecord], prepared: Folded
    ) -> list[DeadLetter]:
        """Write the rows; what the database refuses is set aside."""
        at = {record.offset: record for record in records}
        letters = list(prepared.dead_letters)
        for score, reason in await write_or_bisect(
            connection, prepared.scores, lambda scores: write_scores(connection, [row for _, row in scores])
        ):
            letters.append(whole(at[score[0]], reason))
        for config, reason in await write_or_bisect(
            connection, prepared.configs, lambda configs: write_configs(connection, [row for _, row in configs])
        ):
            letters.append(whole(at[config[0]], reason))
        for kind, times in prepared.changes.items():
            metrics.CLEANED.labels(NAME, kind).inc(times)
        await failpoint("projection.copied")
        if letters:
            await set_aside(connection, NAME, letters)
        return letters
