"""`lodestream sessions`: list sessions, show one."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, tzinfo
from typing import Annotated

import typer
from lodestream_proto.v1.query_pb2 import (
    GetSessionRequest,
    GetSessionResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    WaitFor,
)
from lodestream_proto.v1.trace_pb2 import SessionSummary
from rich.text import Text

from services.edge.cli import console, options, paging
from services.edge.cli.connection import Gateway
from services.edge.cli.options import AsJson, TimeRange, with_options
from services.edge.cli.paging import Pages
from services.edge.cli.render.json_output import document
from services.edge.cli.render.quantities import cost, count, counted, duration, instants, micros, tokens
from services.edge.cli.render.tables import Column, lay_out, list_footer
from services.edge.cli.render.text import escape_control, flow
from services.edge.cli.traces import trace_list

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@with_options(time_range=options.time_range, pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_sessions(
    *,
    gateway: Gateway,
    time_range: TimeRange,
    pages: Pages,
    wait_for: WaitFor | None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="USER", help="Of this user; repeat to match any of several.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="ENV", help="In this environment; repeat to match any of several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, most recently active first.

    \b
    Examples:
      lodestream sessions list --since 1d
      lodestream sessions list --user ada --json
    """  # noqa: D301

    def fetch(size: int, token: str) -> ListSessionsResponse:
        request = ListSessionsRequest(
            start_from=time_range.start_from,
            start_before=time_range.start_before,
            user_ids=user,
            environments=env,
            page_size=size,
            page_token=token,
            wait_for=wait_for,
        )
        return gateway.call(gateway.query.ListSessions, request)

    response = paging.gather(pages, fetch, lambda response: response.sessions)
    if as_json:
        console.show_json(document(response))
    else:
        console.show(_session_list(response))


@app.command("get")
@with_options(pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def get_session(
    *,
    gateway: Gateway,
    pages: Pages,
    wait_for: WaitFor | None,
    session_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """Show a session and its traces, oldest first.

    \b
    Examples:
      lodestream sessions get chat-42
      lodestream sessions get chat-42 --all --json
    """  # noqa: D301

    def fetch(size: int, token: str) -> GetSessionResponse:
        request = GetSessionRequest(session_id=session_id, page_size=size, page_token=token, wait_for=wait_for)
        return gateway.call(gateway.query.GetSession, request)

    response = paging.gather(pages, fetch, lambda response: response.traces)
    if as_json:
        console.show_json(document(response))
    else:
        console.show(session_summary(response.session, width=console.width()))
        console.show([Text(), *trace_list(response)])


def _session_list(response: ListSessionsResponse) -> Iterator[Text]:
    zone = console.zone()
    today = datetime.now(zone).date()
    if response.sessions:
        yield from session_table(response.sessions, width=console.width(), zone=zone, today=today)
    else:
        yield Text("no matching sessions")
    yield from list_footer(len(response.sessions), response.freshness, response.next_page_token, zone)


def session_table(sessions: Sequence[SessionSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per session. The id comes first, and is cut last."""
    ends = instants([session.end_time for session in sessions], zone, today)

    def texts(say: Callable[[SessionSummary], str]) -> list[Text]:
        return [Text(escape_control(say(session))) for session in sessions]

    return lay_out(
        [
            Column(title="session", cells=texts(lambda session: session.session_id)),
            Column(title="last seen", cells=[Text(end, style="dim") for end in ends], rank=2),
            Column(title="duration", cells=texts(_lasted), right=True, rank=4),
            Column(title="traces", cells=texts(lambda session: count(session.trace_count)), right=True, rank=1),
            Column(title="errors", cells=[_errors(session) for session in sessions], right=True, rank=3),
            Column(title="tokens", cells=texts(lambda session: tokens(session.tokens)), right=True, rank=6),
            Column(title="cost", cells=texts(lambda session: cost(session.cost_usd)), right=True, rank=5),
            Column(title="users", cells=texts(lambda session: ", ".join(session.user_ids)), rank=7, min_width=8),
            Column(title="env", cells=texts(lambda session: ", ".join(session.environments)), rank=8, min_width=6),
        ],
        width,
    )


def session_summary(session: SessionSummary, *, width: int) -> list[Text]:
    """The lines that describe a session."""
    pieces = [
        Text(counted(session.trace_count, "trace")),
        Text(counted(session.error_count, "error"), style="red") if session.error_count else Text("no errors"),
        Text(_lasted(session)),
        Text(f"{tokens(session.tokens) or 'no'} tokens"),
        Text(cost(session.cost_usd)),
        Text(escape_control(", ".join(f"user {user}" for user in session.user_ids))),
        Text(escape_control(", ".join(session.environments))),
    ]
    title = Text("session ") + Text(escape_control(session.session_id), style="bold")
    return [title, *flow([piece for piece in pieces if piece.plain], width, gap=" · ", indent=2)]


def _errors(session: SessionSummary) -> Text:
    return Text(count(session.error_count), style="red") if session.error_count else Text("")


def _lasted(session: SessionSummary) -> str:
    if not session.HasField("end_time"):
        return ""
    return duration(max(micros(session.end_time) - micros(session.start_time), 0))
