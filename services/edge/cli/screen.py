"""Where the commands write: pictures and documents to standard output, remarks to standard error."""

import os
import sys
from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any

from rich.console import Console
from rich.text import Text

from services.edge.cli.render.documents import json_text

_WIDTH_OF_A_PIPE = 160  # cells, where nobody says: for files and other programs


def width() -> int:
    """Cells in a line."""
    return _console().width


def zone() -> tzinfo:
    """The time zone of this machine, in which pictures tell times."""
    here = datetime.now().astimezone().tzinfo
    assert here is not None
    return here


def show(lines: Iterable[Text]) -> None:
    """Print lines that are laid out already. Colours only on a terminal, and not where NO_COLOR is set."""
    console = _console()
    for line in lines:
        line.rstrip()
        if console.is_terminal:
            console.print(line, soft_wrap=True)
        else:
            sys.stdout.write(f"{line.plain}\n")
    sys.stdout.flush()


def show_paged(lines: Iterable[Text]) -> None:
    """Print lines; on a terminal that does not hold them by way of a pager: $PAGER, or `less`."""
    drawn, console = list(lines), _console()
    if len(drawn) < console.height or not (console.is_terminal and sys.stdin.isatty()):
        show(drawn)
        return
    os.environ.setdefault("LESS", "-R")  # colours as colours
    with console.pager(styles=True):
        for line in drawn:
            console.print(line, soft_wrap=True)


def show_json(value: Any, *, line: bool = False) -> None:
    """Print a JSON document; in a single line when it is one of many."""
    sys.stdout.write(json_text(value, indent=None if line else 2) + "\n")
    sys.stdout.flush()


def show_pieces(pieces: Iterable[str]) -> None:
    """Print the text of a document as it is made."""
    for piece in pieces:
        sys.stdout.write(piece)
    sys.stdout.flush()


def remark(text: str) -> None:
    """One line for people that is not part of the answer."""
    sys.stderr.write(text + "\n")


def _console() -> Console:
    piped = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(highlight=False, markup=False, emoji=False, width=_WIDTH_OF_A_PIPE if piped else None)
