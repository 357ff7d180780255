"""Rows of CSV, JSON and JSONL files, one after the other, each with the line it begins in."""

import csv
import io
import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]

FORMATS = ("csv", "jsonl", "json")
_BIGGEST_CELL = (
    16 * 1024 * 1024
)  # characters; an item may have 1 MiB, but a quote that is not closed has all that follows
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DELIMITERS = ",;\t|"
_ACTS = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, as JSON texts by column."""

    line: int
    fields: dict[str, str]
    blank: frozenset[str] = frozenset()
    """Columns of a CSV file that have nothing in this row."""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that can't be taken."""

    line: int
    reason: str


class NotReadableError(Exception):
    """The file can't be read any further. The message is for the user, and names the line."""


def read_rows(
    file: io.BufferedReader, file_format: str, *, encoding: str = "", delimiter: str = "", parse_json: bool = False
) -> Generator[Row | RefusedRow]:
    """The rows of a file that is open at its beginning.

    Without an `encoding` the byte order mark says it, else it is UTF-8. Raises NotReadableError.
    """
    text = io.TextIOWrapper(file, encoding=encoding or _encoding(file.peek(4)), errors="surrogateescape", newline="")
    try:
        if file_format == "csv":
            yield from _csv_rows(text, delimiter, parse_json=parse_json)
        else:
            yield from _json_lines(text) if file_format == "jsonl" else _json_array(text)
    except UnicodeError as error:
        raise NotReadableError(f"is not text in this encoding: {error}") from None
    finally:
        text.detach()  # the file is its opener's to close


def format_of(name: str, beginning: bytes) -> str:
    """The format of a file, by its name, or else by how it begins."""
    for name_of_format in FORMATS:
        if name.lower().endswith(
            (f".{name_of_format}", ".ndjson" if name_of_format == "jsonl" else f".{name_of_format}")
        ):
            return name_of_format
    first = beginning.decode("utf-8-sig", errors="replace").lstrip()[:1]
    return {"{": "jsonl", "[": "json"}.get(first, "csv")


def _encoding(beginning: bytes) -> str:
    return next((name for bom, name in _BOMS.items() if beginning.startswith(bom)), "utf-8")


def _csv_rows(text: io.TextIOWrapper, delimiter: str, *, parse_json: bool) -> Iterator[Row | RefusedRow]:
    csv.field_size_limit(_BIGGEST_CELL)
    first = text.readline()
    reader = csv.reader(_again(first, text), delimiter=delimiter or _delimiter(first), strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = _csv_fault(str(error))
            if header is None or "quote" in reason:
                # What follows would be read from the middle of a cell.
                raise NotReadableError(f"{line}: {reason}") from None
            yield RefusedRow(line, reason)
            line = reader.line_num + 1
            continue
        if header is None:
            header = _header([unguarded(cell).strip() for cell in cells])
        elif any(cells):
            yield _csv_row(line, header, cells, parse_json=parse_json)
        line = reader.line_num + 1


def _csv_row(line: int, header: list[str], cells: list[str], *, parse_json: bool) -> Row | RefusedRow:
    if len(cells) != len(header):
        return RefusedRow(line, f"has {len(cells)} cell{'s' if len(cells) > 1 else ''}; the header names {len(header)}")
    if reason := _undecodable(cells):
        return RefusedRow(line, reason)
    plain = [unguarded(cell) for cell in cells]
    fields = {name: as_json(cell, parse=parse_json) for name, cell in zip(header, plain, strict=True)}
    return Row(line, fields, frozenset(name for name, cell in zip(header, plain, strict=True) if not cell))


def _header(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NotReadableError(f"1: the header names {', '.join(map(repr, twice))} more than once")
    return names


def _again(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    yield first
    for line in rest:  # `yield from` would close the file when it is given up  # noqa: UP028
        yield line


def _delimiter(header: str) -> str:
    """The delimiter that the header has most of; a comma where it has none."""
    return max(_DELIMITERS, key=header.count) if header else ","


def _csv_fault(message: str) -> str:
    if "field larger" in message or "unexpected end" in message:
        return "a quote is opened here, or in one of the next lines, and not closed"
    return f"is not a row of CSV: {message}"


def _json_lines(text: io.TextIOWrapper) -> Iterator[Row | RefusedRow]:
    for line, written in enumerate(text, start=1):
        if written.strip():
            yield _json_row(line, written)


def _json_array(text: io.TextIOWrapper) -> Iterator[Row | RefusedRow]:
    """The rows of a JSON array, which is read as a whole. A row's place in it is its line."""
    written = text.read()
    if not written.lstrip().startswith("["):
        raise NotReadableError("1: is not a JSON array")
    try:
        values = members(written)
    except (ValueError, RecursionError) as error:
        raise NotReadableError(f"is not JSON: {error}") from None
    for place, (_, value) in enumerate(values, start=1):
        yield _json_row(place, value)


def _json_row(line: int, written: str) -> Row | RefusedRow:
    if reason := _undecodable([written]):
        return RefusedRow(line, reason)
    if not written.lstrip().startswith("{"):
        return RefusedRow(line, "is not a JSON object")
    try:
        pairs = members(written)
    except RecursionError:
        return RefusedRow(line, "is nested too deeply")
    except json.JSONDecodeError as error:
        return RefusedRow(line, f"is not JSON: {error.msg} at column {error.colno}")
    except ValueError as error:
        return RefusedRow(line, f"is not JSON: {error}")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        return RefusedRow(line, "has a key twice")
    return Row(line, fields)


def _undecodable(texts: list[str]) -> str:
    """Why texts can't be decoded, by what errors="surrogateescape" leaves of such bytes."""
    for text in texts:
        if text.isascii():
            continue
        for at, character in enumerate(text):
            if 0xDC80 <= ord(character) <= 0xDCFF:
                byte = ord(character) - 0xDC00
                return (
                    f"has a byte that is not text in this encoding: 0x{byte:02x} after {text[max(at - 20, 0) : at]!r}"
                )
    return ""


def guarded(cell: str) -> str:
    """A cell with a leading quote where a spreadsheet would take it for a formula."""
    return f"'{cell}" if _ACTS.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell without the quote that `guarded` puts in front."""
    return cell[1:] if _GUARDED.match(cell) else cell


def as_json(cell: str, *, parse: bool) -> str:
    """The JSON text of a cell: a string, unless it is to be parsed and is JSON."""
    if parse and is_json(cell):
        return cell.strip()
    return json.dumps(cell, ensure_ascii=False)


def as_cell(json_text: str) -> str:
    """A JSON text as a cell that parses back to it; strings stand plainly where they can."""
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


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def members(text: str) -> list[tuple[str, str]]:
    """The names and JSON texts of an object's members, in order; an array's have no names.

    Raises ValueError when the text is not one object or array.
    """
    at = _after_space(text, 0)
    opening = text[at : at + 1]
    if opening not in {"{", "["} or not opening:
        raise json.JSONDecodeError("no object or array", text, at)
    closing = "}" if opening == "{" else "]"
    result: list[tuple[str, str]] = []
    at = _after_space(text, at + 1)
    if text[at : at + 1] == closing:
        at += 1
    else:
        while True:
            name = ""
            if opening == "{":
                name, at = _name(text, at)
            _, end = _decoder.raw_decode(text, at)
            result.append((name, text[at:end]))
            at = _after_space(text, end)
            if text[at : at + 1] == closing:
                at += 1
                break
            at = _expect(text, at, ",")
    if _after_space(text, at) != len(text):
        raise json.JSONDecodeError("more than one value", text, at)
    return result


def _name(text: str, at: int) -> tuple[str, int]:
    at = _expect(text, at, '"')
    name, at = scanstring(text, at)
    return str(name), _expect(text, _after_space(text, at), ":")


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"{character!r} expected", text, at)
    return _after_space(text, at + 1) if character != '"' else at + 1


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
