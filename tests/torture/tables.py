"""The read model by SQL of our own."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

Key = tuple[str, str, str, str]
"""Project, trace, span (in hex) and day."""


@dataclass(frozen=True, slots=True)
class Model:
    """All that the read model has of some projects."""

    spans: dict[Key, asyncpg.Record]
    traces: dict[tuple[str, str], asyncpg.Record]
    blocks: dict[tuple[int, int], asyncpg.Record]
    """By partition and offset."""
    letters: dict[tuple[int, int, int], asyncpg.Record]
    """By partition, offset and item."""
    positions: dict[int, asyncpg.Record]


async def read_model(dsn: str, projects: Sequence[str]) -> Model:
    """What is there now, in one snapshot."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            spans = await connection.fetch(_SPANS, projects)
            traces = await connection.fetch(_TRACES, projects)
            blocks = await connection.fetch(_BLOCKS, projects)
            letters = await connection.fetch(_LETTERS, "traces")
            positions = await connection.fetch(_POSITIONS, "traces")
    finally:
        await connection.close()
    return Model(
        {(row["project_id"], row["trace"], row["span"], row["day"]): row for row in spans},
        {(row["project_id"], row["trace"]): row for row in traces},
        {(row["partition"], row["offset"]): row for row in blocks},
        {(row["partition"], row["offset"], row["item"]): row for row in letters},
        {row["partition"]: row for row in positions},
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a projection of another topic is, and what it set aside."""

    letters: dict[tuple[int, int, int], asyncpg.Record]
    """By partition, offset and item."""
    positions: dict[int, asyncpg.Record]


async def read_progress(connection: asyncpg.Connection, projection: str) -> Progress:
    """What is there now."""
    letters = await connection.fetch(_LETTERS, projection)
    positions = await connection.fetch(_POSITIONS, projection)
    return Progress(
        {(row["partition"], row["offset"], row["item"]): row for row in letters},
        {row["partition"]: row for row in positions},
    )


async def read_positions(dsn: str, projection: str = "traces") -> dict[int, int]:
    """The next offset of each partition that has begun."""
    connection = await asyncpg.connect(dsn, timeout=5, command_timeout=5)
    try:
        return {row["partition"]: row["next_offset"] for row in await connection.fetch(_POSITIONS, projection)}
    finally:
        await connection.close(timeout=5)


_US = "(extract(epoch FROM {0}) * 1000000)::bigint AS {0}_us"
_SPANS = f"""
SELECT project_id, encode(trace_id, 'hex') AS trace, encode(span_id, 'hex') AS span, start_day::text AS day,
    coalesce(encode(parent_span_id, 'hex'), '') AS parent, is_root, name, type, level, user_id, model, input_tokens,
    output_tokens, total_tokens, cost_picos, {_US.format("start_at")}, {_US.format("end_at")},
    {_US.format("received_at")}, block_partition, block_offset, block_index, parts
FROM traces.spans WHERE project_id = ANY ($1)
"""
_TRACES = f"""
SELECT project_id, encode(trace_id, 'hex') AS trace, {_US.format("start_at")}, {_US.format("end_at")},
    {_US.format("last_start_at")}, encode(root_span_id, 'hex') AS root, root_name, user_id, level, span_count,
    type_counts, level_counts, input_tokens, output_tokens, total_tokens, cost_picos
FROM traces.traces WHERE project_id = ANY ($1)
"""
_BLOCKS = """
SELECT project_id, partition, "offset", span_count, encode(sha256(otlp_request), 'hex') AS digest
FROM traces.span_blocks WHERE project_id = ANY ($1)
"""
_LETTERS = """
SELECT project_id, partition, "offset", item, reason, raw FROM lodestream.dead_letters WHERE projection = $1
"""
_POSITIONS = """
SELECT partition, next_offset, halted_reason FROM lodestream.projection_positions WHERE projection = $1
"""
