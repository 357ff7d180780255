"""`lodestream status`: the processes of a local stack, and the lag of each projection."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer
from lodestream_proto.v1.query_pb2 import (
    PROJECTION_STATE_BEHIND,
    PROJECTION_STATE_CURRENT,
    PROJECTION_STATE_HALTED,
    GetStatusRequest,
    GetStatusResponse,
    ProjectionState,
    ProjectionStatus,
)
from rich.text import Text

from services.edge.cli import console, local_stack, options
from services.edge.cli.connection import Gateway
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.local_stack import LocalProcess, LocalStack
from services.edge.cli.options import AsJson, with_options
from services.edge.cli.render.json_output import document
from services.edge.cli.render.tables import Column, footer, lag, lay_out
from services.edge.cli.render.text import escape_control, wrap

_MEBIBYTE = 1024 * 1024
_LOOKS = {PROJECTION_STATE_CURRENT: "green", PROJECTION_STATE_BEHIND: "yellow", PROJECTION_STATE_HALTED: "red"}


@with_options(gateway=options.gateway)
def status(*, gateway: Gateway, as_json: AsJson = False) -> None:
    """Show the processes of a local stack, and the lag of each projection.

    Exits with 1 when a process is not ready, a projection has halted, or the gateway does not answer.

    \b
    Examples:
      lodestream status
      lodestream status --json | jq '.freshness.lag_ms'
    """  # noqa: D301
    stack = local_stack.find(Path.cwd())
    response, problem = _get_status(gateway)
    if as_json:
        console.show_json(_document(stack, response, problem))
    else:
        _show(stack, response)
    if problem:
        raise problem
    if not _healthy(stack, response):
        raise typer.Exit(ExitCode.FAILED)


def _get_status(gateway: Gateway) -> tuple[GetStatusResponse | None, CliError | None]:
    """The server's status, or the error: the processes are worth showing either way."""
    try:
        return gateway.call(gateway.query.GetStatus, GetStatusRequest()), None
    except CliError as failure:
        return None, failure


def _document(
    stack: LocalStack | None, response: GetStatusResponse | None, problem: CliError | None
) -> dict[str, object]:
    nothing = dict.fromkeys(GetStatusResponse.DESCRIPTOR.fields_by_name)
    return {
        "processes": [asdict(process) for process in stack.processes] if stack else None,
        **(document(response) if response else nothing),
        "problem": str(problem) if problem else None,
    }


def _show(stack: LocalStack | None, response: GetStatusResponse | None) -> None:
    width = console.width()
    if stack:
        console.show([*process_table(stack.processes, width=width), Text()])
    if response:
        console.show(projection_table(response.projections, width=width))
        if response.dead_letters:
            console.show([Text(f"{response.dead_letters:,} dead letters in this project", style="yellow")])
        console.show([footer(response.freshness, console.zone())])


def _healthy(stack: LocalStack | None, response: GetStatusResponse | None) -> bool:
    unready = [process for process in stack.processes if process.state != "ready"] if stack else []
    return not unready and not any(map(is_halted, response.projections if response else []))


def process_table(processes: Sequence[LocalProcess], *, width: int) -> list[Text]:
    """A table with one line per process, and the reasons of those that are down."""
    table = lay_out(
        [
            Column(title="process", cells=[Text(escape_control(each.name)) for each in processes]),
            Column(title="state", cells=[_state(each) for each in processes]),
            Column(title="pid", cells=[Text(str(each.pid or "")) for each in processes], right=True, rank=2),
            Column(title="memory", cells=[Text(_memory(each)) for each in processes], right=True, rank=1),
            Column(
                title="address", cells=[Text(escape_control(each.address)) for each in processes], rank=3, min_width=14
            ),
        ],
        width,
    )
    reasons = [f"{each.name}: {each.reason}" for each in processes if each.reason and each.pid is None]
    return [*table, *(Text(line, style="red") for reason in reasons for line in wrap(escape_control(reason), width))]


def projection_table(projections: Sequence[ProjectionStatus], *, width: int) -> list[Text]:
    """A table with one line per projection, and a remark for each that has halted."""
    table = lay_out(
        [
            Column(title="projection", cells=[Text(escape_control(each.projection)) for each in projections]),
            Column(
                title="topic", cells=[Text(escape_control(each.topic)) for each in projections], rank=2, min_width=12
            ),
            Column(title="state", cells=[_state_of(each) for each in projections]),
            Column(title="lag", cells=[_lag(each) for each in projections], right=True),
        ],
        width,
    )
    halts = [
        f"{each.projection} has halted in a part of the log: `lodestream admin positions` shows why"
        for each in projections
        if is_halted(each)
    ]
    return [*table, *(Text(line, style="red") for halt in halts for line in wrap(escape_control(halt), width))]


def is_halted(projection: ProjectionStatus) -> bool:
    """Whether a projection has halted and waits for an operator."""
    return projection.state == PROJECTION_STATE_HALTED


def _state_of(projection: ProjectionStatus) -> Text:
    state = ProjectionState.Name(projection.state).removeprefix("PROJECTION_STATE_").lower()
    return Text(state, style=_LOOKS.get(projection.state, ""))


def _lag(projection: ProjectionStatus) -> Text:
    return Text(lag(projection.freshness), style="yellow" if projection.freshness.lag_ms else "green")


def _state(process: LocalProcess) -> Text:
    times = f", restarted {process.restarts}x" if process.restarts else ""
    return Text(escape_control(process.state) + times, style="green" if process.state == "ready" else "red")


def _memory(process: LocalProcess) -> str:
    return "" if process.memory_bytes is None else f"{process.memory_bytes / _MEBIBYTE:,.0f} MB"
