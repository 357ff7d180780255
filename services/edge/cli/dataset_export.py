"""`lodestream datasets export`: the items of a version as a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor

from services.edge.cli import dataset_names, options, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.dataset_files.writing import write_csv, write_jsonl
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.progress import progress
from services.edge.cli.render.text import InertWriter, inert

_AT_ONCE = 500
_WRITERS = {"jsonl": write_jsonl, "csv": write_csv}


@takes(which=dataset_names.selector, wait_for=options.wait_for, gateway=options.gateway)
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
        screen.show_json({"dataset": which.name, "version": version[0], "items": written, "file": output})
    else:
        screen.remark(f"wrote {written:,} items of {inert(which.name)} version {version[0]:,}")


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
        raise Failure(f"{output}: {error.strerror}", ExitCode.USAGE) from None
