"""Commands that need the code of a projection: its own process is started here, and what it tells is drawn.

The command line does not know how a log is folded. In a cluster the same command runs as a job with the same image.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from services.edge.cli import local_stack, screen
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.render.maintenance import lines
from services.edge.cli.render.text import inert

READ_MODELS = {"traces": "services.projections.traces"}
"""What can be rebuilt and verified, and the process that can do it."""
_EVERY_SECONDS = 10.0
"""Between two lines of progress where no terminal is."""

Event = Mapping[str, Any]


def follow(read_model: str, words: Sequence[str], *, as_json: bool) -> None:
    """Run a command of a read model's projection to its end; ends with its exit code.

    Raises Failure when it says that it failed.
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
        raise Failure(failed, ExitCode(max(ExitCode.FAILED, process.returncode)))
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
            screen.show_json(event, line=True)
        elif event["event"] != "progress":
            screen.show([Text(inert(line)) for line in lines(event)])
        elif terminal:
            sys.stdout.write(f"\r\x1b[2K{inert(lines(event)[0])}" + ("\n" if event["percent"] >= 100 else ""))
            sys.stdout.flush()
        elif time.monotonic() - shown_at > _EVERY_SECONDS or event["percent"] >= 100:
            shown_at = time.monotonic()
            screen.show([Text(inert(line)) for line in lines(event)])
    return failed
