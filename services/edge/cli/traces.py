"""`lodestream traces`: list them, look at one, watch them come in."""

import contextlib
import enum
from collections.abc import Iterator, Sequence
from datetime import datetime
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
from lodestream_proto.v1.trace_pb2 import Span
from rich.text import Text

from services.edge.cli import arguments, filters, options, paging, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.filters import TimeRange
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.paging import Pages
from services.edge.cli.progress import progress
from services.edge.cli.render.content import contents
from services.edge.cli.render.documents import document, streamed
from services.edge.cli.render.scores import given_scores
from services.edge.cli.render.tables import footer, list_footer, trace_line, trace_table
from services.edge.cli.render.trace import draw_trace

app = typer.Typer(no_args_is_help=True)
_MOST_LINES = 30  # of a value
_MOST_SPANS, _MOST_IDS = 2_000, 1_000  # the query service's
_PAGE = 10_000  # spans; the service ends pages earlier, at some bytes


class SortKey(enum.StrEnum):
    """What a list of traces may be sorted by."""

    START_TIME = "start"
    LATENCY = "latency"
    COST = "cost"
    TOKENS = "tokens"
    NAME = "name"


@app.command("list")
@takes(
    only=filters.trace_filter,
    when=filters.time_range,
    wanted=paging.pages,
    wait_for=options.wait_for,
    gateway=options.gateway,
)
def list_traces(
    *,
    gateway: Gateway,
    only: TraceFilter,
    when: TimeRange,
    wanted: Pages,
    wait_for: WaitFor | None,
    sort: Annotated[SortKey, typer.Option(help="What to sort by.")] = SortKey.START_TIME,
    sort_score: Annotated[
        str, typer.Option(metavar="NAME", help="Sort by scores of this name; traces without are left out.")
    ] = "",
    ascending: Annotated[bool, typer.Option("--asc", help="Smallest or oldest first, not last.")] = False,
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
    only.MergeFrom(TraceFilter(start_from=when.start_from, start_before=when.start_before))
    order = query_pb2.SORT_ORDER_ASCENDING if ascending else query_pb2.SORT_ORDER_DESCENDING

    def fetch(size: int, token: str) -> ListTracesResponse:
        request = ListTracesRequest(
            filter=only,
            sort=query_pb2.TRACE_SORT_SCORE if sort_score else TraceSort.Value(f"TRACE_SORT_{sort.name}"),
            sort_score=sort_score,
            order=order,
            page_size=size,
            page_token=token,
            wait_for=wait_for,
        )
        return gateway.ask(gateway.query.ListTraces, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.traces)
    if as_json:
        screen.show_json(document(found))
    else:
        screen.show(listed(found))


@app.command("get")
@takes(wait_for=options.wait_for, gateway=options.gateway)
def get_trace(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    trace_id: Annotated[
        str,
        typer.Argument(parser=arguments.typed(arguments.trace_id), metavar="ID", help="32 hex digits, or `latest`."),
    ],
    everything: Annotated[bool, typer.Option("--all", help="All spans, however many they are.")] = False,
    depth: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="N", help="The first N levels, up to 2,000 spans.")
    ] = None,
    below: Annotated[str, typer.Option("--span", metavar="ID", help="Only this span and what is below it.")] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Only spans with an error, and those above them.")] = False,
    content: Annotated[bool, typer.Option("--content", help="Also inputs, outputs, metadata and attributes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="--content without leaving out lines of long values.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a trace: its tree with a timeline, what went wrong, and where the time went.

    Of more than 200 spans those are shown that matter: errors, the critical path, the slowest, the first levels. The
    others are counted where they are.

    \b
    Examples:
      lodestream traces get latest
      lodestream traces get 0af7651916cd43dd8448eb211c80319c --content
      lodestream traces get latest --errors
      lodestream traces get latest --span 00f067aa0ba902b7 --depth 3
      lodestream traces get latest --json | jq '.spans[] | select(.critical) | .name'
    """  # noqa: D301
    if everything and (depth or below or errors):
        raise Failure("--all goes with none of --depth, --span and --errors", ExitCode.USAGE)
    if trace_id == arguments.LATEST:
        trace_id = _newest(gateway, wait_for)
    narrowed = bool(depth or below or errors)
    if not everything and (narrowed or not as_json):
        wanted = GetTraceOverviewRequest(
            trace_id=trace_id, span_id=below, errors_only=errors, depth=depth or 0, wait_for=wait_for
        )
        if narrowed:
            wanted.max_spans = _MOST_SPANS
        overview = gateway.ask(gateway.query.GetTraceOverview, wanted, tries=3)
        if as_json:
            screen.show_json(document(overview))
        else:
            _show_overview(gateway, overview, with_content=content or full, most_lines=None if full else _MOST_LINES)
        return
    request = GetTraceRequest(trace_id=trace_id, with_content=content or full, wait_for=wait_for, page_size=_PAGE)
    pages = _pages(gateway, request)
    if as_json:
        screen.show_pieces(streamed(pages, "spans"))
        return
    answer = GetTraceResponse()
    for page in pages:
        answer.MergeFrom(page)
    with_content = answer.spans if request.with_content else ()
    screen.show_paged(_drawn(answer, (), with_content, most_lines=None if full else _MOST_LINES))


@app.command("tail")
@takes(only=filters.trace_filter, gateway=options.gateway)
def tail_traces(
    *,
    gateway: Gateway,
    only: TraceFilter,
    limit: Annotated[int | None, typer.Option("-n", "--limit", min=1, metavar="N", help="End after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document a line.")] = False,
) -> None:
    """Watch traces come in and change, a line each time, until Ctrl-C.

    \b
    Examples:
      lodestream traces tail
      lodestream traces tail --env production --level warning
      lodestream traces tail --json | jq -r 'select(.latency_us > 2000000) | .trace_id'
    """  # noqa: D301
    seen = gateway.follow(gateway.query.TailTraces, TailTracesRequest(filter=only))
    with contextlib.suppress(KeyboardInterrupt):
        for answer in islice(seen, limit):
            if as_json:
                screen.show_json(document(answer.trace), line=True)
            else:
                screen.show([trace_line(answer.trace, width=screen.width(), zone=screen.zone())])


def listed(found: ListTracesResponse | GetSessionResponse) -> Iterator[Text]:
    """The table, where the list goes on, and what it can be relied on for."""
    zone = screen.zone()
    today = datetime.now(zone).date()
    if found.traces:
        yield from trace_table(found.traces, width=screen.width(), zone=zone, today=today)
    else:
        yield Text("no such traces")
    yield from list_footer(len(found.traces), found.freshness, found.next_page_token, zone)


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
    screen.show_paged(_drawn(overview, overview.folded, spans, most_lines=most_lines))


def _drawn(
    answer: GetTraceResponse | GetTraceOverviewResponse,
    folded: Sequence[FoldedSpans],
    with_content: Sequence[Span],
    *,
    most_lines: int | None,
) -> Iterator[Text]:
    width = screen.width()
    yield from draw_trace(answer.trace, answer.spans, folded, width=width, zone=screen.zone())
    yield from given_scores(answer, width=width)
    yield from contents(with_content, width=width, most_lines=most_lines)
    yield from (Text(), footer(answer.freshness, screen.zone()))


def _pages(gateway: Gateway, request: GetTraceRequest) -> Iterator[GetTraceResponse]:
    """A trace, page by page; how far it is on a terminal."""
    with progress("reading spans") as advance:
        spans = 0
        while True:
            page = gateway.ask(gateway.query.GetTrace, request, tries=3)
            yield page
            spans += len(page.spans)
            advance(spans)
            request.page_token = page.next_page_token
            if not request.page_token:
                return


def _newest(gateway: Gateway, wait_for: WaitFor | None) -> str:
    answer = gateway.ask(gateway.query.ListTraces, ListTracesRequest(page_size=1, wait_for=wait_for))
    if not answer.traces:
        raise Failure("there are no traces yet")
    return answer.traces[0].trace_id
