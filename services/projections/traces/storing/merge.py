"""The slow path: some spans of a batch are stored already. Their rows are folded anew from all that was ever told.

Rows are claimed in key order, as the fast path copies them, so that writers of the same spans queue and never deadlock.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import asyncpg

from services.projections.traces.folding.fold import Telling, fold_tellings, telling, version
from services.projections.traces.folding.projection import sources_in
from services.projections.traces.folding.rows import Part, SpanKey, SpanRow
from services.projections.traces.folding.summary import summarise
from services.projections.traces.storing.packed import key_of, pack_spans, pack_traces
from services.projections.traces.storing.stored import block_row, parts_of, span_row
from services.projections.traces.storing.tables import SQL, add_to_traces, copy_spans, copy_traces
from shared.read_model.postgres import load_sql

_CLAIM_SPANS = load_sql(SQL / "claim_spans.sql")
_READ_PARTS = load_sql(SQL / "read_parts.sql")
_READ_BLOCKS = load_sql(SQL / "read_blocks.sql")
_DELETE_SPANS = load_sql(SQL / "delete_spans.sql")
_READ_SPANS = load_sql(SQL / "read_spans.sql")
_REPLACE_TRACES = load_sql(SQL / "replace_traces.sql")
_PARTS_AT_ONCE = 20_000  # some 40 MB of tellings
_BLOCKS_AT_ONCE = 8  # at most 2 MB each as they are stored
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def merge_spans(connection: asyncpg.Connection, rows: Sequence[SpanRow]) -> int:
    """Insert the new rows, fold the others with what is stored, and bring the summaries to what the rows say.

    The rows' own records must be in span_blocks already. Returns how many of the spans were stored already.
    """
    by_key = {key_of(row): row for row in rows}
    await copy_spans(connection, pack_spans(rows), table="staged_spans")
    new = {_key(record) for record in await connection.fetch(_CLAIM_SPANS)}
    changed = await _refold(connection, {key: row for key, row in by_key.items() if key not in new})
    if changed:
        await connection.execute(_DELETE_SPANS, *_columns(map(key_of, changed), 4))
        await copy_spans(connection, pack_spans(changed))
    # Also for the changed ones, to lock their traces together with those of the new ones, in order.
    await add_to_traces(connection, pack_traces(summarise([by_key[key] for key in new] + changed)))
    await _sum_up_anew(connection, {(row.project_id, row.trace_id) for row in changed})
    return len(by_key) - len(new)


async def _refold(connection: asyncpg.Connection, told_again: Mapping[SpanKey, SpanRow]) -> list[SpanRow]:
    """The rows as they are to be, of those that change."""
    if not told_again:
        return []
    stored = {
        _key(record): parts_of(record) for record in await connection.fetch(_READ_PARTS, *_columns(told_again, 4))
    }
    rows = []
    for parts in _groups({key: {*stored[key], *row.parts} for key, row in told_again.items()}):
        tellings = await _tellings(connection, parts)
        rows += [fold_tellings(key, tellings[key]) for key in parts]
    return [row for row in rows if row.parts != stored[key_of(row)]]


def _groups(parts: Mapping[SpanKey, Collection[Part]]) -> Iterator[Mapping[SpanKey, Collection[Part]]]:
    """Spans in groups of so many parts that there is room for them; in an order in which they share records."""
    group: dict[SpanKey, Collection[Part]] = {}
    count = 0
    for key, its in sorted(parts.items(), key=lambda each: min(each[1])):
        if group and count + len(its) > _PARTS_AT_ONCE:
            yield group
            group, count = {}, 0
        group[key] = its
        count += len(its)
    yield group


async def _tellings(
    connection: asyncpg.Connection, parts: Mapping[SpanKey, Collection[Part]]
) -> dict[SpanKey, list[Telling]]:
    """What was told of these spans. Their records are opened one after another, each once, and never held together.

    A part whose record is gone (retention) tells nothing any more.
    """
    wanted: dict[tuple[str, date, int, int], list[tuple[SpanKey, Part]]] = {}
    for key, its in parts.items():
        for part in its:
            received = (_EPOCH + timedelta(microseconds=part.received_at_us)).date()
            wanted.setdefault((key[0], received, part.partition, part.offset), []).append((key, part))
    found: dict[SpanKey, list[Telling]] = {key: [] for key in parts}
    places = sorted(wanted)
    for begin in range(0, len(places), _BLOCKS_AT_ONCE):
        records = await connection.fetch(_READ_BLOCKS, *_columns(places[begin : begin + _BLOCKS_AT_ONCE], 4))
        for block in map(block_row, records):
            sources = sources_in(block)
            for key, part in wanted[
                block.project_id, block.received_at.astimezone(UTC).date(), block.partition, block.offset
            ]:
                found[key].append(telling(version(part, sources[part.span_index])))
            del sources
            await asyncio.sleep(0)
    return found


async def _sum_up_anew(connection: asyncpg.Connection, traces: Collection[tuple[str, bytes]]) -> None:
    """Make the summaries of these traces, whose locks we hold, exactly what their span rows say."""
    if not traces:
        return
    records = await connection.fetch(_READ_SPANS, *_columns(traces, 2))
    await copy_traces(connection, pack_traces(summarise(map(span_row, records))), table="staged_traces")
    await connection.execute(_REPLACE_TRACES)


def _key(record: asyncpg.Record) -> SpanKey:
    return record["project_id"], record["trace_id"], record["span_id"], record["start_day"]


def _columns(rows: Iterable[Sequence[object]], width: int) -> list[list[object]]:
    """Rows as the parameters of unnest()."""
    columns: list[list[object]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns
