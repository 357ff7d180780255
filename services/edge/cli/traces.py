"""`lodestream traces`: list them, look at one, watch them come in."""

import contextlib
import enum
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from lodestream_proto.v1 import query_pb2
from lodestream_proto.v1.query_pb2 import (
    GetSessionResponse,
    GetTraceRequest,
    GetTraceResponse,
    ListTracesRequest,
    ListTracesResponse,
    TailTracesRequest,
    TraceFilter,
    TraceSort,
    WaitFor,
)
from rich.text import Text

from services.edge.cli import arguments, filters, options, paging, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.failures import Failure
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
_LINES_OF_A_VALUE = 30
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
    content: Annotated[bool, typer.Option("--content", help="Also inputs, outputs, metadata and attributes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="--content without leaving out lines of long values.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a trace: its tree with a timeline, what went wrong, and where the time went.

    \b
    Examples:
      lodestream traces get latest
      lodestream traces get 0af7651916cd43dd8448eb211c80319c --content
      lodestream traces get latest --json | jq '.spans[] | select(.critical) | .name'
    """  # noqa: D301
    if trace_id == arguments.LATEST:
        trace_id = _newest(gateway, wait_for)
    request = GetTraceRequest(trace_id=trace_id, with_content=content or full, wait_for=wait_for, page_size=_PAGE)
    pages = _pages(gateway, request)
    if as_json:
        screen.show_pieces(streamed(pages, "spans"))
        return
    answer = GetTraceResponse()
    for page in pages:
        answer.MergeFrom(page)
    screen.show(draw_trace(answer.trace, answer.spans, width=screen.width(), zone=screen.zone()))
    screen.show(given_scores(answer, width=screen.width()))
    if request.with_content:
        screen.show(contents(answer.spans, width=screen.width(), most_lines=None if full else _LINES_OF_A_VALUE))
    screen.show([Text(), footer(answer.freshness, screen.zone())])


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
