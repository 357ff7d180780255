"""`lodestream datasets export`: the items of a version become a file that import reads back."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.datasets_pb2 import DatasetItem
from lodestream_proto.v1.query_pb2 import WaitFor

from services.edge.cli import console, options
from services.edge.cli.connection import Gateway
from services.edge.cli.console import progress
from services.edge.cli.dataset_files import as_cell, guarded
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, with_options
from services.edge.cli.render.text import EscapingWriter, escape_control

_AT_ONCE = 500
COLUMNS = ("id", "input", "expected_output", "metadata", "splits", "source_trace_id", "source_span_id")
_BREAKS = re.compile(r"[\r\n]+")


@with_options(selector=options.dataset_selector, wait_for=options.wait_for, gateway=options.gateway)
def export_items(
    *,
    gateway: Gateway,
    selector: pb.DatasetSelector,
    wait_for: WaitFor | None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="File to write; `-` is standard output.")
    ] = "-",
    file_format: Annotated[
        str,
        typer.Option(
            "--format", metavar="csv|jsonl", help="Format, where the file's name does not tell; by default jsonl."
        ),
    ] = "",
    split: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="In this split; repeat to match any of several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export items as JSONL, which can be imported again unchanged, or as CSV. --json reports what was written.

    Cells of CSV that a spreadsheet would take for formulas (= + - @) get a leading quote, which import removes.

    \b
    Examples:
      lodestream datasets export questions -o questions.jsonl
      lodestream datasets export questions@12 --split hard -o hard.csv
    """  # noqa: D301
    format_name = file_format or ("csv" if output.lower().endswith(".csv") else "jsonl")
    if format_name not in _WRITERS:
        raise typer.BadParameter("is csv or jsonl", param_hint="--format")
    if as_json and output == "-":
        raise typer.BadParameter("standard output can't hold both: name a file with -o", param_hint="--json")
    version = [0]
    items = _items(gateway, selector, split or [], wait_for, version)
    first = next(items, None)  # before the file is touched: there may be no such dataset
    with _opened(output) as file:
        written = _WRITERS[format_name](_from(first, items), file)
    if as_json:
        console.show_json({"dataset": selector.name, "version": version[0], "items": written, "file": output})
    else:
        console.remark(f"wrote {written:,} items of {escape_control(selector.name)} version {version[0]:,}")


def _items(
    gateway: Gateway, selector: pb.DatasetSelector, splits: list[str], wait_for: WaitFor | None, version: list[int]
) -> Iterator[pb.DatasetItem]:
    token = ""
    done = 0
    with progress(f"exporting {selector.name}") as advance:
        while True:
            request = pb.ListItemsRequest(
                dataset=selector, splits=splits, page_size=_AT_ONCE, page_token=token, wait_for=wait_for
            )
            response = gateway.call(gateway.datasets.ListItems, request, tries=3)
            version[0] = response.version
            yield from response.items
            done += len(response.items)
            advance(done)
            token = response.next_page_token
            if not token:
                return


def _from(first: pb.DatasetItem | None, rest: Iterator[pb.DatasetItem]) -> Iterator[pb.DatasetItem]:
    if first is not None:
        yield first
    yield from rest


@contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    if output == "-":
        # Line ends and letters as they are, whatever the terminal is.
        sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")  # type: ignore[union-attr]
        # On a terminal an item's text would be obeyed. A file or a pipe gets it to the letter.
        yield cast("TextIO", EscapingWriter(sys.stdout)) if sys.stdout.isatty() else sys.stdout
        sys.stdout.flush()
        return
    try:
        with Path(output).open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise CliError(f"{output}: {error.strerror}", ExitCode.USAGE) from None


def write_jsonl(items: Iterable[DatasetItem], file: TextIO) -> int:
    """Write an object per line. JSON texts stay as they are, so that an import gives the same items."""
    written = 0
    for item in items:
        file.write(json_line(item) + "\n")
        written += 1
    return written


def write_csv(items: Iterable[DatasetItem], file: TextIO) -> int:
    """Write a row per item. Strings stand plainly, other values as JSON, which `--parse-json` reads back."""
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180; and cells that have either character are quoted
    writer.writerow(COLUMNS)
    written = 0
    for item in items:
        writer.writerow([guarded(cell) for cell in _cells(item)])
        written += 1
    return written


_WRITERS = {"jsonl": write_jsonl, "csv": write_csv}


def json_line(item: DatasetItem) -> str:
    """An item as a line of JSON. Its JSON texts stay as they are; fields without a value are left out."""
    texts = {
        "id": json.dumps(item.item_id, ensure_ascii=False),
        "input": _one_line(item.input_json),
        "expected_output": _one_line(item.expected_output_json),
        "metadata": _one_line(item.metadata_json) if item.metadata_json != "{}" else "",
        "splits": json.dumps(list(item.splits), ensure_ascii=False) if item.splits else "",
        "source_trace_id": json.dumps(item.source_trace_id) if item.source_trace_id else "",
        "source_span_id": json.dumps(item.source_span_id) if item.source_span_id else "",
    }
    return "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items() if text) + "}"


def _one_line(json_text: str) -> str:
    """JSON in one line. Line breaks in JSON only separate its parts, so a space does as well."""
    return _BREAKS.sub(" ", json_text)


def _cells(item: DatasetItem) -> list[str]:
    return [
        item.item_id,
        as_cell(item.input_json),
        as_cell(item.expected_output_json),
        item.metadata_json if item.metadata_json != "{}" else "",
        ",".join(item.splits) if not any("," in split for split in item.splits) else json.dumps(list(item.splits)),
        item.source_trace_id,
        item.source_span_id,
    ]
