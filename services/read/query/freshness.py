"""Up to when answers are complete, and waiting until they hold a certain write."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from grpc import StatusCode
from lodestream_proto.v1.query_pb2 import Freshness, WaitFor

from services.read.query.nouns import timestamp
from services.read.query.refusal import RefusedError, invalid
from shared.event_log.position import InvalidPositionError, Position, from_token
from shared.event_log.topics import TOPICS, TRACES
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

PROJECTION = "traces"
_PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}
_LOOK_SECONDS = 0.25
_DEFAULT_WAIT_MS, _MAX_WAIT_MS = 5_000, 30_000
_LONGEST_PAUSE = 0.1
_POSITIONS = """
SELECT partition, next_offset, last_record_at FROM projection_positions WHERE projection = $1 AND topic = $2
"""


class LogEnds:
    """The offsets the log writes next, asked for a few times a second; as last known while Kafka is away."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.ends: Mapping[int, int] = {}
        self.known_at = datetime.fromtimestamp(0, UTC)

    async def run(self) -> None:
        """Keep asking until cancelled."""
        partitions = [TopicPartition(TRACES, n) for n in range(_PARTITIONS[TRACES])]
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.bootstrap_servers,
                client_id="lodestream-query",
                request_timeout_ms=5_000,
            )
            try:
                await consumer.start()
                while True:
                    asked_at = datetime.now(UTC)
                    ends = await consumer.end_offsets(partitions)
                    self.ends = {partition.partition: end for partition, end in ends.items()}
                    self.known_at = asked_at
                    await asyncio.sleep(_LOOK_SECONDS)
            except (KafkaError, OSError) as error:
                log.warning("the log's ends are not known", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)
            finally:
                await consumer.stop()


async def freshness(pool: asyncpg.Pool, log_ends: LogEnds) -> Freshness:
    """Up to when an answer that is read after this call is complete."""
    rows = await pool.fetch(_POSITIONS, PROJECTION, TRACES)
    complete_until, lag = log_ends.known_at, 0
    folded = {row["partition"]: row for row in rows}
    for partition, end in log_ends.ends.items():
        row = folded.get(partition)
        behind = end - (row["next_offset"] if row else 0)
        if behind > 0:
            lag += behind
            # What comes next in this partition was appended after the last record that was folded.
            last = row["last_record_at"] if row else None
            complete_until = min(complete_until, last or datetime.fromtimestamp(0, UTC))
    return Freshness(complete_until=timestamp(complete_until), lag_records=lag)


async def wait_for(pool: asyncpg.Pool, wanted: WaitFor, time_left: float | None) -> None:
    """Return when the read model holds what was written at a position; `time_left` is the call's, in seconds.

    Raises RefusedError: the position is none, or was not reached in time.
    """
    positions = _positions(wanted.position)
    if not positions:
        return
    timeout = min(wanted.timeout_ms or _DEFAULT_WAIT_MS, _MAX_WAIT_MS) / 1000
    if time_left is not None:
        timeout = min(timeout, max(0.0, time_left - 0.1))
    end, pause = time.monotonic() + timeout, 0.005
    while missing := await _missing(pool, positions):
        if time.monotonic() > end:
            raise RefusedError(
                StatusCode.DEADLINE_EXCEEDED,
                f"the read model does not hold {', '.join(missing)} after {timedelta(seconds=timeout)} yet",
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _positions(token: str) -> Sequence[Position]:
    try:
        positions = from_token(token)
    except InvalidPositionError as error:
        raise invalid("wait_for.position", str(error)) from None
    for position in positions:
        if position.topic != TRACES or position.partition >= _PARTITIONS[TRACES]:
            raise invalid("wait_for.position", f"{position.topic}:{position.partition} is not of this read model")
    return positions


async def _missing(pool: asyncpg.Pool, positions: Sequence[Position]) -> list[str]:
    rows = await pool.fetch(_POSITIONS, PROJECTION, TRACES)
    folded = {row["partition"]: row["next_offset"] for row in rows}
    return [
        f"{position.topic}:{position.partition}:{position.offset} (it is at {folded.get(position.partition, 0)})"
        for position in positions
        if folded.get(position.partition, 0) <= position.offset
    ]
