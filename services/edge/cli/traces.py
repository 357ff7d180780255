"""`lodestream traces`: list traces, show one, watch them arrive."""

import contextlib
import enum
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, tzinfo
from itertools import islice
from typing import Annotated

import typer
from lodestream_proto.v1 import query_pb2
from lodestream_proto.v1.query_pb2 import (
    FoldedSpans,
    GetSessionResponse,
    GetTraceOverviewRequest,
    GetTraceOverviewResponse,
    GetTraceRequest,
    GetTraceResponse,
    ListTracesRequest,
    ListTracesResponse,
    TailTracesRequest,
    TraceFilter,
    TraceSort,
    WaitFor,
)
from lodestream_proto.v1.trace_pb2 import Span, TraceSummary
from rich.text import Text

from services.edge.cli import arguments, console, options, paging
from services.edge.cli.connection import Gateway
from services.edge.cli.console import progress
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, TimeRange, with_options
from services.edge.cli.paging import Pages
from services.edge.cli.render.json_output import document, streamed
from services.edge.cli.render.quantities import clock, cost, count, counted, duration, instants, tokens
from services.edge.cli.render.scores import attached_scores, score_columns
from services.edge.cli.render.styles import level_word, styled_name
from services.edge.cli.render.tables import Column, footer, lay_out, list_footer
from services.edge.cli.render.text import clip, escape_control, fit
from services.edge.cli.render.trace import contents, draw_trace

app = typer.Typer(no_args_is_help=True)
_MOST_LINES = 30  # of a value
_PAGE = 10_000  # spans; the service ends pages earlier, at some bytes


class SortKey(enum.StrEnum):
    """What a list of traces may be sorted by."""

    START_TIME = "start"
    LATENCY = "latency"
    COST = "cost"
    TOKENS = "tokens"
    NAME = "name"


@app.command("list")
@with_options(
    trace_filter=options.trace_filter,
    time_range=options.time_range,
    pages=paging.pages,
    wait_for=options.wait_for,
    gateway=options.gateway,
)
def list_traces(
    *,
    gateway: Gateway,
    trace_filter: TraceFilter,
    time_range: TimeRange,
    pages: Pages,
    wait_for: WaitFor | None,
    sort: Annotated[SortKey, typer.Option(help="Sort by this.")] = SortKey.START_TIME,
    sort_score: Annotated[
        str, typer.Option(metavar="NAME", help="Sort by scores with this name; traces without one are left out.")
    ] = "",
    ascending: Annotated[bool, typer.Option("--asc", help="Smallest or oldest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """List traces, newest first.

    \b
    Examples:
      lodestream traces list --since 1h --has-error
      lodestream traces list --user ada --tag web --min-latency 2s --sort latency
      lodestream traces list --score "helpful<=0.5" --sort-score helpful --asc
      lodestream traces list --from 2026-03-01 --to 2026-03-02 --all --json
    """  # noqa: D301
    trace_filter.MergeFrom(TraceFilter(start_from=time_range.start_from, start_before=time_range.start_before))
    order = query_pb2.SORT_ORDER_ASCENDING if ascending else query_pb2.SORT_ORDER_DESCENDING

    def fetch(size: int, token: str) -> ListTracesResponse:
        request = ListTracesRequest(
            filter=trace_filter,
            sort=query_pb2.TRACE_SORT_SCORE if sort_score else TraceSort.Value(f"TRACE_SORT_{sort.name}"),
            sort_score=sort_score,
            order=order,
            page_size=size,
            page_token=token,
            wait_for=wait_for,
        )
        return gateway.call(gateway.query.ListTraces, request)

    response = paging.gather(pages, fetch, lambda response: response.traces)
    if as_json:
        console.show_json(document(response))
    else:
        console.show(trace_list(response))


@app.command("get")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def get_trace(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    trace_id: Annotated[
        str,
        typer.Argument(
            parser=arguments.typed(arguments.trace_id), metavar="ID", help="Trace id (32 hex digits), or `latest`."
        ),
    ],
    everything: Annotated[bool, typer.Option("--all", help="Show every span.")] = False,
    depth: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="N", help="Show the first N levels, up to 2,000 spans.")
    ] = None,
    span_id: Annotated[str, typer.Option("--span", metavar="ID", help="Show only this span and its descendants.")] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Show only spans with errors and their ancestors.")] = False,
    content: Annotated[
        bool, typer.Option("--content", help="Also show inputs, outputs, metadata and attributes.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Like --content, without shortening long values.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a trace: its tree with a timeline, its errors, and where the time went.

    A trace of more than 200 spans is folded to those that matter: errors, the critical path, the slowest spans and the
    first levels. Folded spans are counted where they belong.

    \b
    Examples:
      lodestream traces get latest
      lodestream traces get 0af7651916cd43dd8448eb211c80319c --content
      lodestream traces get latest --errors
      lodestream traces get latest --span 00f067aa0ba902b7 --depth 3
      lodestream traces get latest --json | jq '.spans[] | select(.critical) | .name'
    """  # noqa: D301
    if everything and (depth or span_id or errors):
        raise CliError("--all can't be combined with --depth, --span or --errors", ExitCode.USAGE)
    if trace_id == arguments.LATEST:
        trace_id = _newest(gateway, wait_for)
    narrowed = bool(depth or span_id or errors)
    if not everything and (narrowed or not as_json):
        overview_request = GetTraceOverviewRequest(
            trace_id=trace_id, span_id=span_id, errors_only=errors, depth=depth or 0, wait_for=wait_for
        )
        if narrowed:
            overview_request.max_spans = _MOST_SPANS
        overview = gateway.call(gateway.query.GetTraceOverview, overview_request, tries=3)
        if as_json:
            console.show_json(document(overview))
        else:
            _show_overview(gateway, overview, with_content=content or full, most_lines=None if full else _MOST_LINES)
        return
    request = GetTraceRequest(trace_id=trace_id, with_content=content or full, wait_for=wait_for, page_size=_PAGE)
    pages = _pages(gateway, request)
    if as_json:
        console.show_pieces(streamed(pages, "spans"))
        return
    trace = GetTraceResponse()
    for page in pages:
        trace.MergeFrom(page)
    with_content = trace.spans if request.with_content else ()
    console.show_paged(_trace_picture(trace, (), with_content, most_lines=None if full else _MOST_LINES))


@app.command("tail")
@with_options(trace_filter=options.trace_filter, gateway=options.gateway)
def tail_traces(
    *,
    gateway: Gateway,
    trace_filter: TraceFilter,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, metavar="N", help="Stop after this many.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per line.")] = False,
) -> None:
    """Watch traces as they arrive and change, one line each, until Ctrl-C.

    \b
    Examples:
      lodestream traces tail
      lodestream traces tail --env production --level warning
      lodestream traces tail --json | jq -r 'select(.latency_us > 2000000) | .trace_id'
    """  # noqa: D301
    responses = gateway.stream(gateway.query.TailTraces, TailTracesRequest(filter=trace_filter))
    with contextlib.suppress(KeyboardInterrupt):
        for response in islice(responses, limit):
            if as_json:
                console.show_json(document(response.trace), line=True)
            else:
                console.show([trace_line(response.trace, width=console.width(), zone=console.zone())])


def trace_list(response: ListTracesResponse | GetSessionResponse) -> Iterator[Text]:
    """The table of traces and the line below it."""
    zone = console.zone()
    today = datetime.now(zone).date()
    if response.traces:
        yield from trace_table(response.traces, width=console.width(), zone=zone, today=today)
    else:
        yield Text("no matching traces")
    yield from list_footer(len(response.traces), response.freshness, response.next_page_token, zone)


def _show_overview(
    gateway: Gateway, overview: GetTraceOverviewResponse, *, with_content: bool, most_lines: int | None
) -> None:
    spans: list[Span] = []
    ids = [span.span_id for span in overview.spans] if with_content else []
    for begin in range(0, len(ids), _MOST_IDS):
        request = GetTraceRequest(
            trace_id=overview.trace.trace_id,
            with_content=True,
            page_size=_PAGE,
            span_ids=ids[begin : begin + _MOST_IDS],
        )
        for page in _pages(gateway, request):
            spans += page.spans
    console.show_paged(_trace_picture(overview, overview.folded, spans, most_lines=most_lines))


def _trace_picture(
    response: GetTraceResponse | GetTraceOverviewResponse,
    folded: Sequence[FoldedSpans],
    with_content: Sequence[Span],
    *,
    most_lines: int | None,
) -> Iterator[Text]:
    width = console.width()
    yield from draw_trace(response.trace, response.spans, folded, width=width, zone=console.zone())
    yield from attached_scores(response, width=width)
    yield from contents(with_content, width=width, most_lines=most_lines)
    yield from (Text(), footer(response.freshness, console.zone()))


def _pages(gateway: Gateway, request: GetTraceRequest) -> Iterator[GetTraceResponse]:
    """The pages of a trace, with a progress bar on a terminal."""
    with progress("reading spans") as advance:
        spans = 0
        while True:
            page = gateway.call(gateway.query.GetTrace, request, tries=3)
            yield page
            spans += len(page.spans)
            advance(spans)
            request.page_token = page.next_page_token
            if not request.page_token:
                return


def _newest(gateway: Gateway, wait_for: WaitFor | None) -> str:
    response = gateway.call(gateway.query.ListTraces, ListTracesRequest(page_size=1, wait_for=wait_for))
    if not response.traces:
        raise CliError("there are no traces yet")
    return response.traces[0].trace_id


def trace_table(traces: Sequence[TraceSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per trace. The id is never cut, as other commands take it."""
    starts = instants([trace.start_time for trace in traces], zone, today)

    def texts(say: Callable[[TraceSummary], str]) -> list[Text]:
        return [Text(escape_control(say(trace))) for trace in traces]

    return lay_out(
        [
            Column(title="start", cells=[Text(start, style="dim") for start in starts], rank=2),
            Column(title="name", cells=[styled_name(trace.name, trace.level) for trace in traces], min_width=20),
            Column(title="latency", cells=[_latency(trace) for trace in traces], right=True, rank=1),
            Column(title="level", cells=[level_word(trace.level) for trace in traces], rank=3),
            Column(title="spans", cells=texts(lambda trace: count(trace.span_count)), right=True, rank=6),
            Column(title="tokens", cells=texts(lambda trace: tokens(trace.tokens)), right=True, rank=5),
            Column(title="cost", cells=texts(lambda trace: cost(trace.cost_usd)), right=True, rank=4),
            Column(title="user", cells=texts(lambda trace: trace.user_id), rank=7, min_width=8),
            Column(title="session", cells=texts(lambda trace: trace.session_id), rank=8, min_width=8),
            Column(title="tags", cells=texts(lambda trace: ", ".join(trace.tags)), rank=10, min_width=8),
            Column(title="env", cells=texts(lambda trace: trace.environment), rank=9, min_width=6),
            Column(title="release", cells=texts(lambda trace: trace.release), rank=11, min_width=6),
            *score_columns(traces),
            Column(title="id", cells=[Text(trace.trace_id, style="dim") for trace in traces]),
        ],
        width,
    )


def trace_line(trace: TraceSummary, *, width: int, zone: tzinfo) -> Text:
    """One line for a trace, with the same columns for every trace."""
    rest = [
        Text(counted(trace.span_count, "span")),
        Text(f"{tokens(trace.tokens)} tokens" if trace.tokens.total else ""),
        Text(cost(trace.cost_usd)),
        Text(escape_control(f"user {trace.user_id}" if trace.user_id else "")),
        Text(escape_control(f"session {trace.session_id}" if trace.session_id else "")),
    ]
    return clip(
        Text("  ").join(
            [
                Text(clock(trace.start_time, zone), style="dim"),
                Text(trace.trace_id, style="dim"),
                fit(_latency(trace), len("999 ms"), right=True),
                Text(" · ").join([piece for piece in [styled_name(trace.name, trace.level), *rest] if piece.plain]),
            ]
        ),
        width,
    )


def _latency(trace: TraceSummary) -> Text:
    return Text(duration(trace.latency_us)) if trace.HasField("end_time") else Text("running", style="yellow")


_MOST_SPANS, _MOST_IDS = 2_000, 1_000  # the query service's
