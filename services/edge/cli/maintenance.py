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
from services.edge.cli.render.text import inert

READ_MODELS = {"traces": "services.projections.traces"}
"""What can be rebuilt and verified, and the process that can do it."""
_EVERY_SECONDS = 10.0
"""Between two lines of progress where no terminal is."""

Event = Mapping[str, Any]


def rebuild(
    read_model: Annotated[str, typer.Argument(metavar="READ_MODEL", help="traces")],
    *,
    processes: Annotated[int | None, typer.Option(min=1, help="That fold; by default the cores.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw an unfinished rebuild away first.")] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Swap although the two differ, as after a change of the code.")
    ] = False,
    no_swap: Annotated[bool, typer.Option("--no-swap", help="End after the comparison; run again to swap.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Only make the one before the last swap live again.")] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Only drop the one before the last swap.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild a read model from the log, compare it with the live one, and swap the two. Nothing stops meanwhile.

    Killed or interrupted, it goes on when it is run again. Ends with 1 when the two differ, and then nothing is
    swapped. Needs LODESTREAM_KAFKA and LODESTREAM_POSTGRES, and the version of Lodestream that the projections run.

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
    words = ["rebuild", *(flag for flag, given in flags.items() if given)]
    if processes:
        words += ["--processes", str(processes)]
    follow(read_model, words, as_json=as_json)


def verify(
    read_model: Annotated[str, typer.Argument(metavar="READ_MODEL", help="traces")] = "traces", as_json: AsJson = False
) -> None:
    """Fold the log anew, up to where the projection is, and say what of it is missing, extra or altered in Postgres.

    Ends with 0 when nothing is, with 1 when something is, with 2 when that could not be found out. Needs
    LODESTREAM_KAFKA and LODESTREAM_POSTGRES, and the version of Lodestream that the projections run.

    \b
    Examples:
      lodestream verify
      lodestream verify --json | jq 'select(.event == "verified") | .rows'
    """  # noqa: D301
    follow(read_model, ["verify"], as_json=as_json)


def follow(read_model: str, words: Sequence[str], *, as_json: bool) -> None:
    """Run a command of a read model's projection to its end; ends with its exit code.

    Raises CliError when it says that it failed.
    """
    if read_model not in READ_MODELS:
        raise typer.BadParameter(f"{read_model!r} is none of {', '.join(READ_MODELS)}", param_hint="READ_MODEL")
    command = [sys.executable, "-m", READ_MODELS[read_model], *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment()) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        try:
            failed = _show(map(json.loads, process.stdout), as_json=as_json)
        except KeyboardInterrupt:  # the process was interrupted as well
            failed = "interrupted; run again, it goes on"
    if failed:
        raise CliError(failed, ExitCode(max(ExitCode.FAILED, process.returncode)))
    if process.returncode:
        raise typer.Exit(process.returncode)


def _environment() -> dict[str, str]:
    """Ours, completed by what a stack that runs here names."""
    stack = local_stack.find(Path.cwd())
    return {**(stack.environment if stack else {}), **os.environ}


def _show(events: Iterator[Event], *, as_json: bool) -> str | None:
    """Draw events as they come; returns why it failed."""
    failed, shown_at = None, 0.0
    terminal = sys.stdout.isatty()
    for event in events:
        if event["event"] == "failed":
            failed = str(event["reason"])
        if as_json:
            console.show_json(event, line=True)
        elif event["event"] != "progress":
            console.show([Text(inert(line)) for line in event_lines(event)])
        elif terminal:
            sys.stdout.write(f"\r\x1b[2K{inert(event_lines(event)[0])}" + ("\n" if event["percent"] >= 100 else ""))
            sys.stdout.flush()
        elif time.monotonic() - shown_at > _EVERY_SECONDS or event["percent"] >= 100:
            shown_at = time.monotonic()
            console.show([Text(inert(line)) for line in event_lines(event)])
    return failed


def event_lines(event: Mapping[str, Any]) -> list[str]:
    """An event; of one that is not known nothing."""
    match event["event"]:
        case "progress":
            return [_progress(event)]
        case "begun":
            verb = "going on with a rebuild" if event["resumed"] else "rebuilding"
            return [f"{verb}; the log holds {event['records']:,} records that the live one has folded"]
        case "indexing":
            return ["making the indexes"]
        case "comparing":
            return ["comparing"]
        case "waiting":
            return [f"waiting: {inert(event['reason'])}"]
        case "compared" | "verified":
            return _compared(event)
        case "swapped":
            return [f"swapped; batches waited for {event['held_ms']} ms. The old one is kept as {event['kept']}"]
        case "different":
            return ["not swapped: run again with --accept-differences to swap all the same, or with --restart"]
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


def _compared(event: Mapping[str, Any]) -> list[str]:
    """Counts by table, the partitions and days that differ, and the first rows that do."""
    sides = [
        side for side in ("live", "rebuilt", "log", "stored") if any(side in of for of in event["tables"].values())
    ]
    found = []
    for table, counts in event["tables"].items():
        told = ", ".join(f"{counts[side]:,} {side}" for side in sides if side in counts)
        verdict = f"{counts['differing']} of {counts['groups']} groups differ" if counts["differing"] else "equal"
        found.append(f"{table}: {told}: {verdict}")
    for group in event["differing"]:
        where = "" if group["partition"] < 0 else f" partition {group['partition']},"
        told = ", ".join(f"{group[f'{side}_rows']:,} {side}" for side in sides if f"{side}_rows" in group)
        found.append(f"  {group['table']}:{where} {group['day']}: {told}")
    found += [f"  {_row(row)}" for row in event["rows"]]
    found += [f"  {inert(note)}" for note in event.get("notes", ())]
    return [*found, "equal" if event["same"] else "DIFFERENT"]


def _row(row: Mapping[str, Any]) -> str:
    key = " ".join(f"{name} {inert(str(value))}" for name, value in row["key"].items())
    columns = f" in {inert(', '.join(row['columns']))}" if row["columns"] else ""
    return f"{row['how']}{columns}: {row['table']} {key}"


def _redriven(event: Mapping[str, Any]) -> str:
    told = f"{event['redriven']} redriven, {event['failed']} failed again"
    reasons: Sequence[str] = event["reasons"]
    return "; ".join([f"{event['position']}: {told}", *map(inert, reasons)])
