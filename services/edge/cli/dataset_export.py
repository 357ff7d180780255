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
from services.edge.cli.render.text import InertWriter, inert

_AT_ONCE = 500
COLUMNS = ("id", "input", "expected_output", "metadata", "splits", "source_trace_id", "source_span_id")
_BREAKS = re.compile(r"[\r\n]+")


@with_options(which=options.dataset_selector, wait_for=options.wait_for, gateway=options.gateway)
def export_items(
    *,
    gateway: Gateway,
    which: pb.DatasetSelector,
    wait_for: WaitFor | None,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="`-` is standard output.")] = "-",
    file_format: Annotated[
        str, typer.Option("--format", metavar="csv|jsonl", help="If the file's name does not tell: jsonl.")
    ] = "",
    split: Annotated[list[str] | None, typer.Option(help="Of this split. Several: any of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export items as JSONL, which imports again to the letter, or as CSV for spreadsheets. --json tells what was written.

    Cells of CSV that a spreadsheet would take for formulas (= + - @) get a quote in front, which import takes off.

    \b
    Examples:
      lodestream datasets export questions -o questions.jsonl
      lodestream datasets export questions@12 --split hard -o hard.csv
    """  # noqa: D301, E501
    chosen = file_format or ("csv" if output.lower().endswith(".csv") else "jsonl")
    if chosen not in _WRITERS:
        raise typer.BadParameter("is csv or jsonl", param_hint="--format")
    if as_json and output == "-":
        raise typer.BadParameter("standard output can't hold both: name a file with -o", param_hint="--json")
    version = [0]
    items = _items(gateway, which, split or [], wait_for, version)
    first = next(items, None)  # before the file is touched: there may be no such dataset
    with _opened(output) as file:
        written = _WRITERS[chosen](_from(first, items), file)
    if as_json:
        console.show_json({"dataset": which.name, "version": version[0], "items": written, "file": output})
    else:
        console.remark(f"wrote {written:,} items of {inert(which.name)} version {version[0]:,}")


def _items(
    gateway: Gateway, which: pb.DatasetSelector, splits: list[str], wait_for: WaitFor | None, version: list[int]
) -> Iterator[pb.DatasetItem]:
    token = ""
    done = 0
    with progress(f"exporting {which.name}") as advance:
        while True:
            request = pb.ListItemsRequest(
                dataset=which, splits=splits, page_size=_AT_ONCE, page_token=token, wait_for=wait_for
            )
            answer = gateway.ask(gateway.datasets.ListItems, request, tries=3)
            version[0] = answer.version
            yield from answer.items
            done += len(answer.items)
            advance(done)
            token = answer.next_page_token
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
        yield cast("TextIO", InertWriter(sys.stdout)) if sys.stdout.isatty() else sys.stdout
        sys.stdout.flush()
        return
    try:
        with Path(output).open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise CliError(f"{output}: {error.strerror}", ExitCode.USAGE) from None


def write_jsonl(items: Iterable[DatasetItem], file: TextIO) -> int:
    """An object a line, with the JSON texts as they are: what is imported again is the same to the letter."""
    written = 0
    for item in items:
        file.write(json_line(item) + "\n")
        written += 1
    return written


def write_csv(items: Iterable[DatasetItem], file: TextIO) -> int:
    """A row an item. Strings stand plainly, other values as JSON: `--parse-json` reads them back."""
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180; and cells that have either character are quoted
    writer.writerow(COLUMNS)
    written = 0
    for item in items:
        writer.writerow([guarded(cell) for cell in _cells(item)])
        written += 1
    return written


_WRITERS = {"jsonl": write_jsonl, "csv": write_csv}


def json_line(item: DatasetItem) -> str:
    """Of texts that stay as they are; what an item does not have is left out."""
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
    """Line breaks in JSON stand between its parts only, where they mean nothing."""
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
