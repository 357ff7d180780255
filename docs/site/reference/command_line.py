"""The command line's page: the help of every command."""

from collections.abc import Iterator
from typing import Any

import typer

from services.edge.cli.__main__ import app

_INTRODUCTION = """# Command line

`lodestream` is a client of the gateway. Below is what each command says with `--help`. Exit codes are 0 (done), 1
(failed, or nothing found) and 2 (wrong usage). Commands that show something take `--json`.
"""


def page() -> str:
    root: Any = typer.main.get_command(app)
    return "\n".join([_INTRODUCTION, *_sections(root, root.make_context("lodestream", [], resilient_parsing=True), 1)])


def _sections(command: Any, context: Any, depth: int) -> Iterator[str]:
    yield f"{'#' * min(depth + 1, 4)} {context.command_path}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _sections(inner, type(context)(inner, info_name=name, parent=context), depth + 1)
