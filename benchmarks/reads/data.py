"""A read model of some size, made fast: generated requests through the projection's own code, without Kafka.

Traces of five spans over ten days, 1.9 KB of OTLP a span, three projects (80, 15 and 5 of a hundred traces). Names,
users and tags are skewed as in life: a few have most. A third has no session, one session has a twentieth of all, the
others five each. Releases follow one another. Two of a hundred traces fail, five warn. One trace has 10,000 spans.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from benchmarks.workload import exports
from services.projections.traces.partitions import Partitions
from services.projections.traces.projection import TracesProjection, write_batch
from services.projections.traces.tables import prepare_connection
from shared.event_log.codec import LogRecord, read
from shared.event_log.position import Position, to_token
from shared.event_log.topics import TRACES
from shared.spans.blocks import compress
from shared.storage.postgres import SEARCH_PATH, connect_pool

PROJECTS = ("local", "second", "third")
"""The first is the measured one: a key of the benchmark's stack opens it."""
LARGE_SPANS = 10_000
LARGE_TRACE = b"large".ljust(16, b"\0")
GREAT_SESSION = "nightly"
_DAYS, _PARTITIONS = 10, 12
_TRACES_OF_A_RECORD, _RECORDS_OF_A_BATCH = 20, 48
_NAMES = (
    "answer",
    "summarise",
    "classify",
    "translate",
    "extract invoice",
    "plan trip",
    "rewrite mail",
    "route ticket",
)
_TAGS = ("chat", "eval", "beta", "de", "en", "vip", "slow path", "canary")
_EVERY_NS = 10**9


@dataclass(frozen=True, slots=True)
class Loaded:
    """What there is to ask for, of the first project."""

    traces: int
    spans: int
    """Both of all projects."""
    began: datetime
    ended: datetime
    sample: Sequence[bytes]
    """Trace ids of five spans each."""
    position: str
    """A token of what was folded last."""


async def load(dsn: str, traces: int, *, seed: int = 1) -> None:
    """Fill a migrated database; then VACUUM ANALYZE, as autovacuum would in time."""
    ended = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    population = _Population(traces, ended - timedelta(days=_DAYS), ended, seed)
    pool = await connect_pool(dsn, application="load", init=prepare_connection, max_size=2)
    try:
        projection = TracesProjection(Partitions(pool))
        for batch in population.batches():
            projected = await projection.prepare(batch)
            async with pool.acquire() as connection, connection.transaction():
                letters = await write_batch(connection, batch, projected)
                assert not letters, letters
        async with pool.acquire() as connection:
            await _remember_positions(connection, population.offsets, ended)
            await connection.execute("VACUUM (ANALYZE)", timeout=600)
    finally:
        await pool.close()


async def look(dsn: str) -> Loaded | None:
    """What a migrated database holds; None when it is empty."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": SEARCH_PATH})
    try:
        found = await connection.fetchrow("SELECT count(*), sum(span_count)::bigint AS spans FROM traces")
        if not found["count"]:
            return None
        ids = await connection.fetch(
            "SELECT trace_id, start_at FROM traces WHERE project_id = $1 AND span_count = 5 ORDER BY 1 LIMIT 1000",
            PROJECTS[0],
        )
        positions = await connection.fetch("SELECT partition, next_offset FROM projection_positions ORDER BY 1")
    finally:
        await connection.close()
    return Loaded(
        found["count"],
        found["spans"],
        min(row["start_at"] for row in ids),
        max(row["start_at"] for row in ids),
        [row["trace_id"] for row in ids],
        to_token([Position(TRACES, row["partition"], row["next_offset"] - 1) for row in positions[:1]]),
    )


async def _remember_positions(connection: asyncpg.Connection, offsets: Sequence[int], at: datetime) -> None:
    await connection.executemany(
        "INSERT INTO projection_positions (projection, topic, partition, next_offset, last_record_at)"
        " VALUES ('traces', $1, $2, $3, $4)",
        [(TRACES, partition, offset, at) for partition, offset in enumerate(offsets)],
    )


class _Population:
    """Records in the order of time, and what they use of each partition."""

    def __init__(self, traces: int, began: datetime, ended: datetime, seed: int) -> None:
        self.chance = random.Random(seed)
        self.offsets = [0] * _PARTITIONS
        self.began = began
        self._traces, self._seconds = traces, (ended - began).total_seconds()
        self._templates = [_spans_of(export.fresh(bytes(8))) for export in exports(spans=5, variants=64, seed=seed)]
        self._sessions = max(1, traces // 8)
        self._users = max(10, traces // 40)

    def batches(self) -> Iterator[list[LogRecord]]:
        """One partition's each, as the projection meets them."""
        numbers = range(0, self._traces, _TRACES_OF_A_RECORD)
        batch: list[LogRecord] = []
        partition = 0
        for first in numbers:
            batch.append(self._record(partition, first))
            if len(batch) == _RECORDS_OF_A_BATCH:
                yield batch
                batch, partition = [], (partition + 1) % _PARTITIONS
        if batch:
            yield batch
        for part in range(LARGE_SPANS // 500):
            yield [self._large(part)]

    def _record(self, partition: int, first: int) -> LogRecord:
        project = self.chance.choices(PROJECTS, (80, 15, 5))[0]
        start = self.began + timedelta(seconds=self._seconds * first / self._traces)
        spans = [
            span
            for number in range(first, min(first + _TRACES_OF_A_RECORD, self._traces))
            for span in self._trace(number, start)
        ]
        return self._recorded(partition, project, spans, start, share=first / self._traces)

    def _trace(self, number: int, around: datetime) -> list[Span]:
        chance = self.chance
        trace_id = chance.randbytes(16)
        start = int(around.timestamp()) * _EVERY_NS + chance.randrange(_EVERY_NS)
        stretch = math.exp(chance.gauss(0, 0.8))
        spans = []
        for index, template in enumerate(chance.choice(self._templates)):
            span = Span()
            span.CopyFrom(template)
            span.trace_id = trace_id
            span.start_time_unix_nano = start + int(index * 1e8 * stretch)
            span.end_time_unix_nano = start + int((6e8 if index == 0 else (index + 1) * 1e8) * stretch)
            spans.append(span)
        self._tell(spans[0], number)
        for attribute in spans[3].attributes:
            if attribute.key.startswith("llm.token_count."):
                attribute.value.int_value = int(attribute.value.int_value * stretch)
        if chance.random() < 0.02:
            spans[-1].status.code, spans[-1].status.message = Status.STATUS_CODE_ERROR, "order not found"
        elif chance.random() < 0.05:
            spans[-1].attributes.append(_text("langfuse.observation.level", "WARNING"))
        return spans

    def _tell(self, root: Span, number: int) -> None:
        chance = self.chance
        rank = _skewed(chance, 2_000)
        root.name = _NAMES[rank] if rank < len(_NAMES) else f"{_NAMES[rank % len(_NAMES)]} {rank}"
        root.attributes.append(_text("user.id", f"user-{_skewed(chance, self._users)}"))
        if chance.random() < 0.05:
            root.attributes.append(_text("session.id", GREAT_SESSION))
        elif chance.random() < 0.66:
            # Traces of a session are near each other in time.
            near = min(self._sessions - 1, number // 8 + chance.randrange(40))
            root.attributes.append(_text("session.id", f"session-{near}"))
        if tags := [tag for n, tag in enumerate(_TAGS) if chance.random() < 0.4 / 3**n]:
            values = [AnyValue(string_value=tag) for tag in tags]
            root.attributes.append(KeyValue(key="tag.tags", value=AnyValue(array_value=ArrayValue(values=values))))

    def _large(self, part: int) -> LogRecord:
        """Some spans of one trace; the first of all is the root."""
        start = self.began + timedelta(seconds=self._seconds / 2)
        spans = []
        for number in range(part * 500, (part + 1) * 500):
            span = Span()
            span.CopyFrom(self._templates[0][number % 5])
            span.trace_id, span.span_id = LARGE_TRACE, (number + 1).to_bytes(8, "big")
            span.parent_span_id = b"" if number == 0 else (number // 8 + 1).to_bytes(8, "big")
            span.start_time_unix_nano = int(start.timestamp()) * _EVERY_NS + number * 10**6
            span.end_time_unix_nano = span.start_time_unix_nano + 10**8
            spans.append(span)
        return self._recorded(part % _PARTITIONS, PROJECTS[0], spans, start, share=0.5)

    def _recorded(self, partition: int, project: str, spans: list[Span], start: datetime, *, share: float) -> LogRecord:
        request = ExportTraceServiceRequest()
        scope_spans = request.resource_spans.add().scope_spans.add()
        scope_spans.spans.extend(spans)
        environment = self.chance.choices(("production", "staging", "development"), (85, 12, 3))[0]
        request.resource_spans[0].resource.attributes.extend(
            [_text("deployment.environment.name", environment), _text("langfuse.release", f"4.{int(share * 20)}.0")]
        )
        received = Timestamp()
        received.FromDatetime(start + timedelta(seconds=3))
        event = Event(
            event_id="01890000-0000-7000-8000-000000000000",
            project_id=project,
            occurred_at=received,
            received_at=received,
            producer=Producer(name="opentelemetry-python", version="1.45.0"),
            spans_recorded=SpansRecorded(
                otlp_request=compress(request.SerializeToString()), compression=COMPRESSION_ZSTD, span_count=len(spans)
            ),
        )
        offset = self.offsets[partition]
        self.offsets[partition] += 1
        return read(TRACES, partition, offset, received.ToMilliseconds(), event.SerializeToString())


def _spans_of(request: bytes) -> list[Span]:
    """A trace to copy, without the session and the user it was told with."""
    spans = list(ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans)
    for span in spans:
        kept = [attribute for attribute in span.attributes if attribute.key not in {"session.id", "user.id"}]
        del span.attributes[:]
        span.attributes.extend(kept)
    return spans


def _skewed(chance: random.Random, values: int) -> int:
    """A rank from 0: the first has most, as by Zipf's law."""
    return int(values ** chance.random()) - 1


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
