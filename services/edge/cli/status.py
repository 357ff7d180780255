"""`lodestream status`: what runs here, and how far the projections have come."""

from dataclasses import asdict
from pathlib import Path

import typer
from lodestream_proto.v1.query_pb2 import GetStatusRequest, GetStatusResponse
from rich.text import Text

from services.edge.cli import local_stack, options, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.local_stack import LocalStack
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.render.documents import document
from services.edge.cli.render.stack import is_halted, process_table, projection_table
from services.edge.cli.render.tables import footer


@takes(gateway=options.gateway)
def status(*, gateway: Gateway, as_json: AsJson = False) -> None:
    """Show the processes of a stack started here, and each projection's lag.

    Ends with 1 when a process is not ready, a projection has stopped, or the gateway does not answer.

    \b
    Examples:
      lodestream status
      lodestream status --json | jq '.freshness.lag_ms'
    """  # noqa: D301
    stack = local_stack.find(Path.cwd())
    known, problem = _asked(gateway)
    if as_json:
        screen.show_json(_document(stack, known, problem))
    else:
        _show(stack, known)
    if problem:
        raise problem
    if not _healthy(stack, known):
        raise typer.Exit(ExitCode.FAILED)


def _asked(gateway: Gateway) -> tuple[GetStatusResponse | None, Failure | None]:
    """The answer, or why there is none: what is known of the processes is worth showing either way."""
    try:
        return gateway.ask(gateway.query.GetStatus, GetStatusRequest()), None
    except Failure as failure:
        return None, failure


def _document(stack: LocalStack | None, known: GetStatusResponse | None, problem: Failure | None) -> dict[str, object]:
    nothing = dict.fromkeys(GetStatusResponse.DESCRIPTOR.fields_by_name)
    return {
        "processes": [asdict(process) for process in stack.processes] if stack else None,
        **(document(known) if known else nothing),
        "problem": str(problem) if problem else None,
    }


def _show(stack: LocalStack | None, known: GetStatusResponse | None) -> None:
    width = screen.width()
    if stack:
        screen.show([*process_table(stack.processes, width=width), Text()])
    if known:
        screen.show(projection_table(known.projections, width=width))
        if known.dead_letters:
            screen.show([Text(f"{known.dead_letters:,} dead letters in this project", style="yellow")])
        screen.show([footer(known.freshness, screen.zone())])


def _healthy(stack: LocalStack | None, known: GetStatusResponse | None) -> bool:
    unready = [process for process in stack.processes if process.state != "ready"] if stack else []
    return not unready and not any(map(is_halted, known.projections if known else []))
