"""`lodestream rebuild` and `lodestream verify`: commands that run in the process of a projection.

The command line does not know how a log is folded. It starts the projection's own process and draws the events that
the process prints. In a cluster the same command runs as a job with the same image.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from services.edge.cli import console, local_stack
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson
from services.edge.cli.render.text import escape_control

READ_MODELS = {"traces": "services.projections.traces"}
"""What can be rebuilt and verified, and the process that can do it."""
_EVERY_SECONDS = 10.0
"""Between two lines of progress where no terminal is."""

Event = Mapping[str, Any]


def rebuild(
    read_model: Annotated[str, typer.Argument(metavar="READ_MODEL", help="Read model: traces.")],
    *,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes that fold; by default one per core.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished rebuild first.")] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Swap even if the two differ, as after a change of the code.")
    ] = False,
    no_swap: Annotated[bool, typer.Option("--no-swap", help="Stop after the comparison; run again to swap.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Only make the read model from before the last swap live again.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Only drop the read model from before the last swap.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild a read model from the log, compare it with the live one, and swap the two. Nothing is stopped for it.

    A rebuild that was killed or interrupted continues when it is run again. Exits with 1 when the two differ, and then
    nothing is swapped. Requires LODESTREAM_KAFKA, LODESTREAM_POSTGRES and the version of Lodestream that the
    projections run.

    \b
    Examples:
      lodestream rebuild traces
      lodestream rebuild traces --no-swap --json | jq 'select(.event == "compared")'
      lodestream rebuild traces --drop-old
    """  # noqa: D301
    flags = {
        "--restart": restart,
        "--accept-differences": accept_differences,
        "--no-swap": no_swap,
        "--undo": undo,
        "--drop-old": drop_old,
    }
    arguments = ["rebuild", *(flag for flag, is_set in flags.items() if is_set)]
    if processes:
        arguments += ["--processes", str(processes)]
    follow(read_model, arguments, as_json=as_json)


def verify(
    read_model: Annotated[str, typer.Argument(metavar="READ_MODEL", help="Read model: traces.")] = "traces",
    as_json: AsJson = False,
) -> None:
    """Fold the log again up to the projection's position, and report what is missing, extra or altered in Postgres.

    Exits with 0 when nothing differs, 1 when something does, 2 when that can't be determined. Requires
    LODESTREAM_KAFKA, LODESTREAM_POSTGRES and the version of Lodestream that the projections run.

    \b
    Examples:
      lodestream verify
      lodestream verify --json | jq 'select(.event == "verified") | .rows'
    """  # noqa: D301
    follow(read_model, ["verify"], as_json=as_json)


def follow(read_model: str, arguments: Sequence[str], *, as_json: bool) -> None:
    """Run a command in the process of a read model's projection, and exit with its code.

    Raises CliError when it says that it failed.
    """
    if read_model not in READ_MODELS:
        raise typer.BadParameter(f"{read_model!r} is not one of {', '.join(READ_MODELS)}", param_hint="READ_MODEL")
    command = [sys.executable, "-m", READ_MODELS[read_model], *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment()) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        try:
            failed = _show(map(json.loads, process.stdout), as_json=as_json)
        except KeyboardInterrupt:  # the process was interrupted as well
            failed = "interrupted; run it again to continue"
    if failed:
        raise CliError(failed, ExitCode(max(ExitCode.FAILED, process.returncode)))
    if process.returncode:
        raise typer.Exit(process.returncode)


def _environment() -> dict[str, str]:
    """The environment, completed with the variables of a local stack."""
    stack = local_stack.find(Path.cwd())
    return {**(stack.environment if stack else {}), **os.environ}


def _show(events: Iterator[Event], *, as_json: bool) -> str | None:
    """Show events as they come. Returns why the command failed, if it did."""
    failed, shown_at = None, 0.0
    terminal = sys.stdout.isatty()
    for event in events:
        if event["event"] == "failed":
            failed = str(event["reason"])
        if as_json:
            console.show_json(event, line=True)
        elif event["event"] != "progress":
            console.show([Text(escape_control(line)) for line in event_lines(event)])
        elif terminal:
            sys.stdout.write(
                f"\r\x1b[2K{escape_control(event_lines(event)[0])}" + ("\n" if event["percent"] >= 100 else "")
            )
            sys.stdout.flush()
        elif time.monotonic() - shown_at > _EVERY_SECONDS or event["percent"] >= 100:
            shown_at = time.monotonic()
            console.show([Text(escape_control(line)) for line in event_lines(event)])
    return failed


def event_lines(event: Mapping[str, Any]) -> list[str]:
    """The lines that show an event; none for an unknown event."""
    match event["event"]:
        case "progress":
            return [_progress(event)]
        case "begun":
            verb = "resuming a rebuild" if event["resumed"] else "rebuilding"
            return [f"{verb}; the log holds {event['records']:,} records that the live one has folded"]
        case "indexing":
            return ["building indexes"]
        case "comparing":
            return ["comparing"]
        case "waiting":
            return [f"waiting: {escape_control(event['reason'])}"]
        case "compared" | "verified":
            return _comparison_lines(event)
        case "swapped":
            return [f"swapped; batches waited for {event['held_ms']} ms. The old one is kept as {event['kept']}"]
        case "different":
            return ["not swapped: run again with --accept-differences to swap anyway, or with --restart"]
        case "undone":
            return [f"{event['live']} is again what it was before the swap; the rebuilt one is {event['kept']}"]
        case "dropped":
            return [f"dropped {event['schema']}" if event["was_there"] else f"there is no {event['schema']}"]
        case "redriven":
            return [_redriven(event)]
    return []


def _progress(event: Mapping[str, Any]) -> str:
    eta = "" if event["eta_seconds"] is None else f", {_duration(event['eta_seconds'])} left"
    rate = f", {event['items_per_second']:,} spans/s" if event["items_per_second"] else ""
    return f"{event['phase']} {event['percent']:.1f} %: {event['done']:,} of {event['of']:,} {event['unit']}{rate}{eta}"


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _comparison_lines(event: Mapping[str, Any]) -> list[str]:
    """Row counts by table, the partitions and days that differ, and the first rows that do."""
    sides = [
        side for side in ("live", "rebuilt", "log", "stored") if any(side in of for of in event["tables"].values())
    ]
    lines = []
    for table, counts in event["tables"].items():
        counts_text = ", ".join(f"{counts[side]:,} {side}" for side in sides if side in counts)
        verdict = f"{counts['differing']} of {counts['groups']} groups differ" if counts["differing"] else "equal"
        lines.append(f"{table}: {counts_text}: {verdict}")
    for group in event["differing"]:
        where = "" if group["partition"] < 0 else f" partition {group['partition']},"
        counts_text = ", ".join(f"{group[f'{side}_rows']:,} {side}" for side in sides if f"{side}_rows" in group)
        lines.append(f"  {group['table']}:{where} {group['day']}: {counts_text}")
    lines += [f"  {_row(row)}" for row in event["rows"]]
    lines += [f"  {escape_control(note)}" for note in event.get("notes", ())]
    return [*lines, "equal" if event["same"] else "DIFFERENT"]


def _row(row: Mapping[str, Any]) -> str:
    key = " ".join(f"{name} {escape_control(str(value))}" for name, value in row["key"].items())
    columns = f" in {escape_control(', '.join(row['columns']))}" if row["columns"] else ""
    return f"{row['how']}{columns}: {row['table']} {key}"


def _redriven(event: Mapping[str, Any]) -> str:
    outcome = f"{event['redriven']} redriven, {event['failed']} failed again"
    reasons: Sequence[str] = event["reasons"]
    return "; ".join([f"{event['position']}: {outcome}", *map(escape_control, reasons)])
