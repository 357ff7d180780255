"""Standard output, standard error and the files that options name."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.render.json_output import json_text

_WIDTH_OF_A_PIPE = 160  # cells, where nobody says: for files and other programs
Advance = Callable[[int], None]
"""Takes how far it is now."""


def width() -> int:
    """Width of a line, in cells."""
    return _console().width


def zone() -> tzinfo:
    """The time zone of this machine."""
    here = datetime.now().astimezone().tzinfo
    assert here is not None
    return here


def show(lines: Iterable[Text]) -> None:
    """Print lines as they are, with colours only on a terminal and not where NO_COLOR is set."""
    console = _console()
    for line in lines:
        line.rstrip()
        if console.is_terminal:
            console.print(line, soft_wrap=True)
        else:
            sys.stdout.write(f"{line.plain}\n")
    sys.stdout.flush()


def show_paged(lines: Iterable[Text]) -> None:
    """Print lines, through a pager ($PAGER, or `less`) where they do not fit the terminal."""
    rendered, console = list(lines), _console()
    if len(rendered) < console.height or not (console.is_terminal and sys.stdin.isatty()):
        show(rendered)
        return
    os.environ.setdefault("LESS", "-R")  # colours as colours
    with console.pager(styles=True):
        for line in rendered:
            console.print(line, soft_wrap=True)


def show_json(value: Any, *, line: bool = False) -> None:
    """Print a JSON document; with `line`, in a single line, as one of many."""
    sys.stdout.write(json_text(value, indent=None if line else 2) + "\n")
    sys.stdout.flush()


def show_result(result: Mapping[str, Any], summary: str, *, as_json: bool) -> None:
    """Print what a command has done: a JSON document, or one line for people."""
    if as_json:
        show_json(result)
    else:
        show([Text(summary)])


def show_pieces(pieces: Iterable[str]) -> None:
    """Print the text of a document as it is made."""
    for piece in pieces:
        sys.stdout.write(piece)
    sys.stdout.flush()


def remark(text: str) -> None:
    """Print a line for people on standard error, apart from the answer."""
    sys.stderr.write(text + "\n")


def _console() -> Console:
    piped = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(highlight=False, markup=False, emoji=False, width=_WIDTH_OF_A_PIPE if piped else None)


@contextmanager
def progress(what: str, of: int | None = None) -> Iterator[Advance]:
    """Show a progress bar on standard error, if that is a terminal. `of` is the total, None where it is not known."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=of)
        yield lambda done: bar.update(task, completed=done)


def text_from(file: str) -> str:
    """Read a text file; `-` is standard input. Raises CliError."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}", ExitCode.USAGE) from None
    except UnicodeDecodeError:
        raise CliError(f"{file}: is not text in UTF-8", ExitCode.USAGE) from None


def json_from(text: str, where: str) -> Any:
    """Parse a JSON text, or the file that it names with a leading @. Raises CliError."""
    if text.startswith("@"):
        where, text = text[1:], text_from(text[1:])
    return parse_json(text, where)


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON text; `where` names it in the error.

    Raises CliError.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CliError(f"{where}: is not JSON: {error}", ExitCode.USAGE) from None


def write_text(file: Path, text: str) -> None:
    """Write a text file. Raises CliError."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}", ExitCode.USAGE) from None
