"""Up to when answers are complete, waiting until they hold a certain write, and GetStatus."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from grpc import StatusCode
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2 import Freshness, WaitFor

from services.read.query.database import Database
from services.read.query.messages import timestamp
from shared.event_log import projections
from shared.event_log.position import InvalidPositionError, Position, from_token
from shared.event_log.topics import TOPICS, TRACES
from shared.runtime.refusal import InvalidError, RefusedError
from shared.runtime.settings import KafkaSettings
from shared.storage.named_queries import load_queries

log = structlog.get_logger()

PROJECTIONS = {projection.topic: projection.name for projection in projections.PROJECTIONS}
"""The projection of each topic, by name."""
_PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}
_LOOK_SECONDS = 0.25
_DEFAULT_WAIT_MS, _MAX_WAIT_MS = 5_000, 30_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_PAUSE_GROWTH = 1.3
"""How much longer each pause of a wait is: it ends at most so much later, of what it took, than it could."""
_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_POSITIONS = _QUERIES["get_positions"]
_GET_STATUS = _QUERIES["get_status"]
_COUNT_DEAD_LETTERS = _QUERIES["count_dead_letters"]
_Partition = tuple[str, int]  # topic, partition


class LogEnds:
    """The offsets that the log writes next, polled a few times a second; as last known while Kafka is away."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.ends: Mapping[_Partition, int] = {}
        self.known_at = datetime.fromtimestamp(0, UTC)

    async def run(self) -> None:
        """Poll until cancelled."""
        partitions = [TopicPartition(topic, n) for topic in PROJECTIONS for n in range(_PARTITIONS[topic])]
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.bootstrap_servers,
                client_id="lodestream-query",
                request_timeout_ms=5_000,
            )
            try:
                await consumer.start()
                while True:
                    looked_at = datetime.now(UTC)
                    ends = await consumer.end_offsets(partitions)
                    self.ends = {(partition.topic, partition.partition): end for partition, end in ends.items()}
                    self.known_at = looked_at
                    await asyncio.sleep(_LOOK_SECONDS)
            except (KafkaError, OSError) as error:
                log.warning("the log's ends are not known", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)
            finally:
                await consumer.stop()


async def freshness(database: Database, log_ends: LogEnds, topics: Sequence[str] = (TRACES,)) -> Freshness:
    """Return up to when an answer that is read from some topics' projections after this call is complete."""
    return completeness(log_ends, await _positions_of(database, topics), topics)


def completeness(log_ends: LogEnds, folded: Mapping[_Partition, asyncpg.Record], topics: Sequence[str]) -> Freshness:
    """Return up to when some positions are complete.

    Times only: counts of records would say how much other projects send.
    """
    complete_until, is_behind = log_ends.known_at, False
    for partition, end in log_ends.ends.items():
        row = folded.get(partition)
        if partition[0] in topics and end > (row["next_offset"] if row else 0):
            # What comes next in this partition was appended after the last record that was folded.
            last = row["last_record_at"] if row else None
            complete_until, is_behind = min(complete_until, last or datetime.fromtimestamp(0, UTC)), True
    lag = max(timedelta(milliseconds=1), datetime.now(UTC) - complete_until) if is_behind else timedelta(0)
    return Freshness(complete_until=timestamp(complete_until), lag_ms=lag // timedelta(milliseconds=1))


async def wait_for(database: Database, request: WaitFor, time_left: float | None) -> None:
    """Wait until the read model holds what was written at a position; `time_left` is the call's, in seconds.

    Raises RefusedError: the position can't be used, or was not reached in time.
    """
    positions = _positions(request.position)
    if not positions:
        return
    timeout = min(request.timeout_ms or _DEFAULT_WAIT_MS, _MAX_WAIT_MS) / 1000
    if time_left is not None:
        timeout = min(timeout, max(0.0, time_left - 0.1))
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while missing := await _missing(database, positions):
        if time.monotonic() > end:
            raise RefusedError(
                StatusCode.DEADLINE_EXCEEDED,
                f"the read model does not hold {', '.join(missing)} after {timedelta(seconds=timeout)} yet",
            )
        await asyncio.sleep(pause)
        pause = min(_PAUSE_GROWTH * pause, _LONGEST_PAUSE)


async def get_status(
    log_ends: LogEnds, database: Database, project_id: str, _request: pb.GetStatusRequest
) -> pb.GetStatusResponse:
    """Return every projection's state and lag, and the number of the project's dead letters.

    No offsets and no reasons: those are about all projects, and their operator sees them in Postgres and the metrics.
    """
    positions: dict[tuple[str, str], dict[tuple[str, int], asyncpg.Record]] = defaultdict(dict)
    for topic in dict.fromkeys(topic for topic, _ in log_ends.ends):
        positions[PROJECTIONS[topic], topic]  # one that has not begun has all of the log before it
    for row in await database.search_pool.fetch(_GET_STATUS):
        positions[row["projection"], row["topic"]][row["topic"], row["partition"]] = row
    return pb.GetStatusResponse(
        projections=[_status(log_ends, projection, topic, rows) for (projection, topic), rows in positions.items()],
        dead_letters=await database.search_pool.fetchval(_COUNT_DEAD_LETTERS, project_id),
    )


def _positions(token: str) -> Sequence[Position]:
    try:
        positions = from_token(token)
    except InvalidPositionError as error:
        raise InvalidError("wait_for.position", str(error)) from None
    for position in positions:
        if position.topic not in PROJECTIONS or position.partition >= _PARTITIONS[position.topic]:
            raise InvalidError("wait_for.position", f"{position.topic}:{position.partition} is no partition of the log")
    return positions


async def _missing(database: Database, positions: Sequence[Position]) -> list[str]:
    folded = await _positions_of(database, sorted({position.topic for position in positions}))
    next_offsets = {partition: row["next_offset"] for partition, row in folded.items()}
    return [
        f"{position.topic}:{position.partition}:{position.offset} (it is at {next_offset})"
        for position in positions
        if (next_offset := next_offsets.get((position.topic, position.partition), 0)) <= position.offset
    ]


async def _positions_of(database: Database, topics: Sequence[str]) -> dict[_Partition, asyncpg.Record]:
    rows = await database.point_pool.fetch(_POSITIONS, [PROJECTIONS[topic] for topic in topics], topics)
    return {(row["topic"], row["partition"]): row for row in rows}


def _status(
    log_ends: LogEnds, projection: str, topic: str, rows: Mapping[tuple[str, int], asyncpg.Record]
) -> pb.ProjectionStatus:
    fresh = completeness(log_ends, rows, (topic,))
    state = pb.PROJECTION_STATE_BEHIND if fresh.lag_ms else pb.PROJECTION_STATE_CURRENT
    if any(row["halted_reason"] for row in rows.values()):
        state = pb.PROJECTION_STATE_HALTED
    return pb.ProjectionStatus(projection=projection, topic=topic, state=state, freshness=fresh)
