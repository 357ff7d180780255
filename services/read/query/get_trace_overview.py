"""GetTraceOverview: the spans of a trace that matter, and how many others there are in which groups."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import GetTraceOverviewRequest, GetTraceOverviewResponse
from lodestream_proto.v1.trace_pb2 import SpanType

from services.read.query import messages
from services.read.query.database import Database
from services.read.query.get_trace import TraceReader, parse_id
from services.read.query.paging import PAGE_BYTES
from services.read.query.span_groups import Group, choose_spans, group_hidden
from services.read.query.span_tree import NONE, RUNNING, Positions, SpanTree
from services.read.query.trace_scores import attached_scores, show_columns
from services.read.query.trace_spans import Trace, read_some
from services.read.query.traces import find_trace
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError
from shared.storage.named_queries import load_queries

_GET_NAMES = load_queries(Path(__file__).with_name("traces.sql"))["get_span_names"]
_DEFAULT_SPANS, _MAX_SPANS = 200, 2_000
_AT_ONCE = 50
_LARGE = 5_000  # spans: folding so many takes more than some milliseconds


async def get_trace_overview(
    reader: TraceReader, database: Database, project_id: str, request: GetTraceOverviewRequest
) -> GetTraceOverviewResponse:
    """Return the overview of a trace, or of what is below one of its spans.

    Raises RefusedError: a field can't be used, there is no such trace or span, or the trace is too large for that.
    """
    trace_id, most = parse_id("trace_id", request.trace_id, size=16), _most(request)
    row = await find_trace(database, project_id, trace_id)
    if row is None:
        raise NotFoundError(f"trace {request.trace_id}")
    trace = Trace.of(project_id, trace_id, row)
    if trace.span_count > reader.max_spans:
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the trace has {trace.span_count:,} spans; an overview is made of at most {reader.max_spans:,}: "
            "read it in pages",
        )
    async with reader.open_tree(database, trace) as whole:
        tree = whole
        if request.span_id:
            positions = whole.positions([parse_id("span_id", request.span_id, size=8)])
            if not len(positions):
                raise NotFoundError(f"span {request.span_id} in trace {request.trace_id}")
            tree = await _computed(whole, whole.below, int(positions[0]))
        shown, groups = await _computed(tree, _shown_and_groups, tree, request, most)
        response = GetTraceOverviewResponse(trace=messages.trace_summary(row))
        await _add_spans(response, database, trace, tree, shown)
        await _add_groups(response, database, trace, tree, groups)
    return response


def _shown_and_groups(tree: SpanTree, request: GetTraceOverviewRequest, most: int) -> tuple[Positions, list[Group]]:
    shown = choose_spans(tree, most=most, depth=request.depth, errors_only=request.errors_only)
    return shown, group_hidden(tree, shown)


async def _computed(tree: SpanTree, work: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(work, *arguments) if len(tree) > _LARGE else work(*arguments)


async def _add_spans(
    response: GetTraceOverviewResponse, database: Database, trace: Trace, tree: SpanTree, shown: Positions
) -> None:
    ids, critical = tree.ids(shown), tree.critical_ids(shown)
    rows = await read_some(database, trace, ids)
    scores, more = await attached_scores(database, trace.project_id, trace.trace_id, ids, of_trace=True)
    response.scores_truncated = more
    response.scores.extend(scores.get(None, ()))
    size = 0
    for number, row in enumerate(rows, start=1):
        span = response.spans.add(**messages.span(row, critical=row["span_id"] in critical))
        span.scores.extend(scores.get(row["span_id"], ()))
        size += span.ByteSize()
        if size > 2 * PAGE_BYTES:
            raise InvalidError("max_spans", f"{len(shown)} spans of this trace have more than {2 * PAGE_BYTES} bytes")
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    if scores:
        await show_columns(database, trace.project_id, [response.trace])


async def _add_groups(
    response: GetTraceOverviewResponse, database: Database, trace: Trace, tree: SpanTree, groups: list[Group]
) -> None:
    examples = {
        group: tree.ids(slice(group.example, group.example + 1))[0] for group in groups if group.example is not None
    }
    rows = await database.search_pool.fetch(_GET_NAMES, *trace.key, list(examples.values())) if examples else ()
    names = {row["span_id"]: row["name"] for row in rows}
    for group in groups:
        response.folded.add(
            parent_span_id="" if group.parent == NONE else tree.ids(slice(group.parent, group.parent + 1))[0].hex(),
            name=names.get(examples[group], "") if group in examples else "",
            type=SpanType.ValueType(group.type),
            span_count=group.span_count,
            descendant_count=group.descendant_count,
            error_count=group.error_count,
            duration_us=group.duration,
            max_duration_us=group.max_duration,
            start_time=_timestamp(group.start),
            end_time=None if group.end == RUNNING else _timestamp(group.end),
        )


def _most(request: GetTraceOverviewRequest) -> int:
    if request.max_spans > _MAX_SPANS:
        raise InvalidError("max_spans", f"{request.max_spans} is more than {_MAX_SPANS}")
    return request.max_spans or _DEFAULT_SPANS


def _timestamp(microseconds: int) -> Timestamp:
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=1_000 * rest)
