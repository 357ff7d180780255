"""`lodestream sessions`: list them, look at one."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from lodestream_proto.v1.query_pb2 import (
    GetSessionRequest,
    GetSessionResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    WaitFor,
)
from rich.text import Text

from services.edge.cli import filters, options, paging, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.filters import TimeRange
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.paging import Pages
from services.edge.cli.render.documents import document
from services.edge.cli.render.tables import list_footer, session_head, session_table
from services.edge.cli.traces import listed

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@takes(when=filters.time_range, wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_sessions(
    *,
    gateway: Gateway,
    when: TimeRange,
    wanted: Pages,
    wait_for: WaitFor | None,
    user: Annotated[list[str] | None, typer.Option(help="Of this user. Several: any of them.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="In this environment. Several: any of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, the latest activity first.

    \b
    Examples:
      lodestream sessions list --since 1d
      lodestream sessions list --user ada --json
    """  # noqa: D301

    def fetch(size: int, token: str) -> ListSessionsResponse:
        request = ListSessionsRequest(
            start_from=when.start_from,
            start_before=when.start_before,
            user_ids=user,
            environments=env,
            page_size=size,
            page_token=token,
            wait_for=wait_for,
        )
        return gateway.ask(gateway.query.ListSessions, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.sessions)
    if as_json:
        screen.show_json(document(found))
    else:
        screen.show(_listed(found))


@app.command("get")
@takes(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def get_session(
    *,
    gateway: Gateway,
    wanted: Pages,
    wait_for: WaitFor | None,
    session_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """Show a session and its traces, the oldest first.

    \b
    Examples:
      lodestream sessions get chat-42
      lodestream sessions get chat-42 --all --json
    """  # noqa: D301

    def fetch(size: int, token: str) -> GetSessionResponse:
        request = GetSessionRequest(session_id=session_id, page_size=size, page_token=token, wait_for=wait_for)
        return gateway.ask(gateway.query.GetSession, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.traces)
    if as_json:
        screen.show_json(document(found))
    else:
        screen.show(session_head(found.session, width=screen.width()))
        screen.show([Text(), *listed(found)])


def _listed(found: ListSessionsResponse) -> Iterator[Text]:
    zone = screen.zone()
    today = datetime.now(zone).date()
    if found.sessions:
        yield from session_table(found.sessions, width=screen.width(), zone=zone, today=today)
    else:
        yield Text("no such sessions")
    yield from list_footer(len(found.sessions), found.freshness, found.next_page_token, zone)
