"""`lodestream traces`: list traces, show one, watch them come in."""

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
from services.edge.cli.render.scores import given_scores, score_columns
from services.edge.cli.render.styles import level_word, named
from services.edge.cli.render.tables import Column, footer, lay_out, list_footer
from services.edge.cli.render.text import clipped, fitted, inert
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
    only=options.trace_filter,
    when=options.time_range,
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
        console.show_json(document(found))
    else:
        console.show(listed(found))


@app.command("get")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
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
        raise CliError("--all goes with none of --depth, --span and --errors", ExitCode.USAGE)
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
            console.show_json(document(overview))
        else:
            _show_overview(gateway, overview, with_content=content or full, most_lines=None if full else _MOST_LINES)
        return
    request = GetTraceRequest(trace_id=trace_id, with_content=content or full, wait_for=wait_for, page_size=_PAGE)
    pages = _pages(gateway, request)
    if as_json:
        console.show_pieces(streamed(pages, "spans"))
        return
    answer = GetTraceResponse()
    for page in pages:
        answer.MergeFrom(page)
    with_content = answer.spans if request.with_content else ()
    console.show_paged(_drawn(answer, (), with_content, most_lines=None if full else _MOST_LINES))


@app.command("tail")
@with_options(only=options.trace_filter, gateway=options.gateway)
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
                console.show_json(document(answer.trace), line=True)
            else:
                console.show([trace_line(answer.trace, width=console.width(), zone=console.zone())])


def listed(found: ListTracesResponse | GetSessionResponse) -> Iterator[Text]:
    """The table, where the list goes on, and what it can be relied on for."""
    zone = console.zone()
    today = datetime.now(zone).date()
    if found.traces:
        yield from trace_table(found.traces, width=console.width(), zone=zone, today=today)
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
    console.show_paged(_drawn(overview, overview.folded, spans, most_lines=most_lines))


def _drawn(
    answer: GetTraceResponse | GetTraceOverviewResponse,
    folded: Sequence[FoldedSpans],
    with_content: Sequence[Span],
    *,
    most_lines: int | None,
) -> Iterator[Text]:
    width = console.width()
    yield from draw_trace(answer.trace, answer.spans, folded, width=width, zone=console.zone())
    yield from given_scores(answer, width=width)
    yield from contents(with_content, width=width, most_lines=most_lines)
    yield from (Text(), footer(answer.freshness, console.zone()))


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
        raise CliError("there are no traces yet")
    return answer.traces[0].trace_id


def trace_table(traces: Sequence[TraceSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a trace. The id is never clipped: it is what the other commands take."""
    starts = instants([trace.start_time for trace in traces], zone, today)

    def texts(say: Callable[[TraceSummary], str]) -> list[Text]:
        return [Text(inert(say(trace))) for trace in traces]

    return lay_out(
        [
            Column(title="start", cells=[Text(start, style="dim") for start in starts], rank=2),
            Column(title="name", cells=[named(trace.name, trace.level) for trace in traces], least=20),
            Column(title="latency", cells=[_latency(trace) for trace in traces], right=True, rank=1),
            Column(title="level", cells=[level_word(trace.level) for trace in traces], rank=3),
            Column(title="spans", cells=texts(lambda trace: count(trace.span_count)), right=True, rank=6),
            Column(title="tokens", cells=texts(lambda trace: tokens(trace.tokens)), right=True, rank=5),
            Column(title="cost", cells=texts(lambda trace: cost(trace.cost_usd)), right=True, rank=4),
            Column(title="user", cells=texts(lambda trace: trace.user_id), rank=7, least=8),
            Column(title="session", cells=texts(lambda trace: trace.session_id), rank=8, least=8),
            Column(title="tags", cells=texts(lambda trace: ", ".join(trace.tags)), rank=10, least=8),
            Column(title="env", cells=texts(lambda trace: trace.environment), rank=9, least=6),
            Column(title="release", cells=texts(lambda trace: trace.release), rank=11, least=6),
            *score_columns(traces),
            Column(title="id", cells=[Text(trace.trace_id, style="dim") for trace in traces]),
        ],
        width,
    )


def trace_line(trace: TraceSummary, *, width: int, zone: tzinfo) -> Text:
    """One trace in a line of its own, with the same columns in every line."""
    rest = [
        Text(counted(trace.span_count, "span")),
        Text(f"{tokens(trace.tokens)} tokens" if trace.tokens.total else ""),
        Text(cost(trace.cost_usd)),
        Text(inert(f"user {trace.user_id}" if trace.user_id else "")),
        Text(inert(f"session {trace.session_id}" if trace.session_id else "")),
    ]
    return clipped(
        Text("  ").join(
            [
                Text(clock(trace.start_time, zone), style="dim"),
                Text(trace.trace_id, style="dim"),
                fitted(_latency(trace), len("999 ms"), right=True),
                Text(" · ").join([piece for piece in [named(trace.name, trace.level), *rest] if piece.plain]),
            ]
        ),
        width,
    )


def _latency(trace: TraceSummary) -> Text:
    return Text(duration(trace.latency_us)) if trace.HasField("end_time") else Text("running", style="yellow")


_MOST_SPANS, _MOST_IDS = 2_000, 1_000  # the query service's
