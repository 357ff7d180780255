"""GetTrace: the summary, the spans in start order, the critical path, and on request what the spans carry."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import GetTraceRequest, GetTraceResponse
from lodestream_proto.v1.trace_pb2 import SpanContent, SpanEvent, SpanLink

from services.read.query import nouns
from services.read.query.critical_path import Node, critical_path
from services.read.query.database import Database
from services.read.query.scores.of_traces import show_scores
from services.read.query.traces import SQL, find_trace
from shared.read_model.blocks import Source, UnreadableBlockError, open_block, sources_of
from shared.read_model.dialects import content
from shared.read_model.dialects.values import plain, to_json
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError, NotFoundError

GET_SPANS = load_sql(SQL / "get_spans.sql")
_GET_BLOCKS = load_sql(SQL / "get_blocks.sql")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 200  # spans: 5 ms, with content 12
_MAX_NS = 253_402_300_799 * 10**9  # the end of the year 9999, the last that a Timestamp holds

_Place = tuple[date, int, int]
"""Where a record is: the day it was received, its partition, its offset."""


async def get_trace(database: Database, project_id: str, request: GetTraceRequest) -> GetTraceResponse:
    """One trace.

    Raises RefusedError: the id is none, or the project has no such trace.
    """
    trace_id = parse_trace_id(request.trace_id)
    row = await find_trace(database, project_id, trace_id)
    if row is None:
        raise NotFoundError(f"trace {request.trace_id}")
    days = row["start_at"].date(), row["last_start_at"].date()
    rows = _one_each(await database.look_ups.fetch(GET_SPANS, project_id, trace_id, *days))
    critical = critical_path(
        Node(span["span_id"], span["parent_span_id"], span["start_at"], span["end_at"]) for span in rows
    )
    sources = await _sources(database, project_id, rows) if request.with_content else {}
    response = GetTraceResponse(trace=nouns.trace_summary(row))
    for number, span in enumerate(rows, start=1):
        message = response.spans.add(**nouns.span(span, critical=span["span_id"] in critical))
        if told := [sources[part] for part in _parts(span) if part in sources] if sources else ():
            message.content.CopyFrom(_content(told))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # other calls need not wait for all of a large trace
    await show_scores(database, project_id, response)
    return response


def parse_trace_id(text: str) -> bytes:
    """The bytes of 32 hex digits.

    Raises RefusedError.
    """
    try:
        trace_id = bytes.fromhex(text)
    except ValueError:
        trace_id = b""
    if len(trace_id) != 16 or len(text) != 32:
        raise InvalidError("trace_id", "must be 32 hex digits")
    return trace_id


def _one_each(rows: Iterable[asyncpg.Record]) -> list[asyncpg.Record]:
    """A span told with starts on two days has two rows; the later one is shown. Rows come, and go, in start order."""
    by_id: dict[bytes, asyncpg.Record] = {}
    for row in rows:
        by_id.pop(row["span_id"], None)
        by_id[row["span_id"]] = row
    return list(by_id.values())


def _parts(row: Mapping[str, Any]) -> Sequence[tuple[_Place, int]]:
    numbers = row["parts"]
    if not numbers:
        place = row["received_at"].date(), row["block_partition"], row["block_offset"]
        return [(place, row["block_index"])]
    return [
        (((_EPOCH + timedelta(microseconds=received)).date(), partition, offset), index)
        for received, partition, offset, index in zip(*[iter(numbers)] * 4, strict=True)
    ]


async def _sources(
    database: Database, project_id: str, rows: Sequence[asyncpg.Record]
) -> dict[tuple[_Place, int], Source]:
    """The tellings of these spans. A record that is gone, or can't be opened, tells nothing: rows are shown without."""
    places = sorted({place for row in rows for place, _ in _parts(row)})
    days = {(partition, offset): day for day, partition, offset in places}
    columns = [list(column) for column in zip(*places, strict=True)] or [[], [], []]
    found = {}
    for block in await database.searches.fetch(_GET_BLOCKS, project_id, *columns):
        place = days[block["partition"], block["offset"]], block["partition"], block["offset"]
        try:
            request = open_block(block["compression"], block["otlp_request"])
        except UnreadableBlockError:
            continue
        for source in sources_of(request, sdk_name=block["sdk_name"], sdk_version=block["sdk_version"]):
            found[place, source.index] = source
    return found


def _content(told: Sequence[Source]) -> SpanContent:
    """Later beats earlier, and nothing beats a value with silence, as for the rows."""
    in_order = sorted(told, key=lambda source: source.span.end_time_unix_nano or source.span.start_time_unix_nano)
    merged = SpanContent()
    metadata: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for source in in_order:
        cold = content(source)
        if cold.input is not None:
            merged.input = cold.input
        if cold.output is not None:
            merged.output = cold.output
        metadata |= cold.metadata
        parameters |= cold.model_parameters
        attributes |= cold.attributes
    last = in_order[-1]
    merged.metadata_json, merged.model_parameters_json = to_json(metadata), to_json(parameters)
    merged.attributes_json = to_json(attributes)
    merged.resource_json = to_json({key: plain(value) for key, value in last.emitter.resource_attributes.items()})
    merged.scope = " ".join(filter(None, (last.emitter.scope.name, last.emitter.scope.version)))
    for event in last.span.events:
        shown = {attribute.key: plain(attribute.value) for attribute in event.attributes}
        merged.events.append(
            SpanEvent(name=event.name, time=_time(event.time_unix_nano), attributes_json=to_json(shown))
        )
    for link in last.span.links:
        shown = {attribute.key: plain(attribute.value) for attribute in link.attributes}
        merged.links.append(
            SpanLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex(), attributes_json=to_json(shown))
        )
    return merged


def _time(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(min(nanoseconds, _MAX_NS), 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)
