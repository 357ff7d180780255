"""Cells of CSV files: JSON values as people write them, and no formulas for the program that opens the file."""

import json
import re

_ACTS = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guarded(cell: str) -> str:
    """With a quote in front where a spreadsheet would take the cell for a formula."""
    return f"'{cell}" if _ACTS.match(cell) else cell


def unguarded(cell: str) -> str:
    """What `guarded` made this of; anything else as it is."""
    return cell[1:] if _GUARDED.match(cell) else cell


def as_json(cell: str, *, parse: bool) -> str:
    """The JSON text of a cell: a string, unless it is to be parsed and is JSON."""
    if parse and is_json(cell):
        return cell.strip()
    return json.dumps(cell, ensure_ascii=False)


def as_cell(json_text: str) -> str:
    """How a JSON text is written into a cell, so that parsing gives it back: strings plainly where they can be."""
    if not json_text:
        return ""
    try:
        value = json.loads(json_text)
    except (ValueError, RecursionError):
        return json_text
    if isinstance(value, str) and value and not is_json(value):
        return value
    return json_text


def is_json(text: str) -> bool:
    """Whether a cell would be read as JSON."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)
