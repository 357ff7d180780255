"""Files that options name: read and written with one sentence about what goes wrong."""

import json
import sys
from pathlib import Path
from typing import Any

from services.edge.cli.failures import ExitCode, Failure


def text_from(file: str) -> str:
    """What a file holds; `-` is standard input. Raises Failure."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", ExitCode.USAGE) from None
    except UnicodeDecodeError:
        raise Failure(f"{file}: is not text in UTF-8", ExitCode.USAGE) from None


def json_from(text: str, where: str) -> Any:
    """The value of a JSON text, or of the file it names with @. Raises Failure."""
    if text.startswith("@"):
        where, text = text[1:], text_from(text[1:])
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{where}: is not JSON: {error}", ExitCode.USAGE) from None


def write_text(file: Path, text: str) -> None:
    """Raises Failure."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", ExitCode.USAGE) from None
