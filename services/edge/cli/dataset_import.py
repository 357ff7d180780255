"""`lodestream datasets import`: the rows of a file become items."""

import io
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated
from rich.text import Text

from services.edge.cli import console, options
from services.edge.cli.connection import Gateway
from services.edge.cli.console import progress
from services.edge.cli.dataset_files import FORMATS, NotReadableError, RefusedRow, Row, format_of, read_rows
from services.edge.cli.dataset_items import (
    Mapping,
    MappingError,
    NumberedItem,
    Part,
    SeenItems,
    Tally,
    batches,
    check_columns,
    item_of,
    part,
    record,
)
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, Author, with_options
from services.edge.cli.render.datasets import item_contents
from services.edge.cli.render.text import escape_control

_Columns = list[str] | None
_MOST_REPORTED = 50  # rows that were refused
_SAMPLE = 3
_SHOWN = ("item_id", "input_json", "expected_output_json", "metadata_json", "splits")


def mapping_options(
    *,
    input_columns: Annotated[
        _Columns,
        typer.Option(
            "--input",
            metavar="COLUMN",
            help="Column for the input, which is an object; NAME=COLUMN renames it. Repeatable.",
        ),
    ] = None,
    bare_input: Annotated[
        bool, typer.Option("--bare-input", help="Use the only --input column as the input itself, not as an object.")
    ] = False,
    expected: Annotated[
        _Columns, typer.Option(metavar="COLUMN", help="Column for the expected output; several make an object.")
    ] = None,
    metadata: Annotated[_Columns, typer.Option(metavar="COLUMN", help="Column for the metadata; repeatable.")] = None,
    item_id: Annotated[
        str,
        typer.Option("--id", metavar="COLUMN", help="Column with the id; by default it is derived from the content."),
    ] = "",
    split: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the splits, separated by commas.")] = "",
    into_split: Annotated[
        _Columns, typer.Option(metavar="SPLIT", help="Put all rows into this split; repeatable.")
    ] = None,
    author: Author = "",
) -> Mapping:
    """From columns to items."""
    if bare_input and len(input_columns or ()) != 1:
        raise typer.BadParameter("needs one --input", param_hint="--bare-input")
    return Mapping(
        input=_parts(input_columns), expected=_parts(expected), metadata=_parts(metadata), item_id=item_id,
        split=split, bare_input=bare_input, splits=into_split or (), author=author,
    )  # fmt: skip


def _parts(columns: _Columns) -> list[Part]:
    return [part(column) for column in columns or ()]


@with_options(mapping=mapping_options, gateway=options.gateway)
def import_items(
    *,
    gateway: Gateway,
    mapping: Mapping,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to import; `-` reads standard input.")],
    file_format: Annotated[
        str, typer.Option("--format", metavar="csv|jsonl|json", help="Format, where the file's name does not tell.")
    ] = "",
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="Encoding; by default UTF-8, or what a byte order mark says.")
    ] = "",
    delimiter: Annotated[
        str, typer.Option(metavar="CHAR", help="Delimiter of CSV; by default detected in the header.")
    ] = "",
    parse_json: Annotated[
        bool, typer.Option("--parse-json", help="Parse cells of CSV that are JSON: 5, true, {…}.")
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Create the dataset if it does not exist.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check the file without storing anything.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import items from CSV, JSONL or JSON. Valid rows are stored; invalid ones are reported by line, with exit code 1.

    Without --input, columns are taken by name: input, expected_output, metadata, id, splits. With it, the named columns
    make up each item. An item without an id gets one derived from its content, so that importing a file again changes
    nothing.

    \b
    Examples:
      lodestream datasets import questions faq.csv --input question --expected answer --metadata topic
      lodestream datasets import questions faq.csv --input question --input context --id key --split test
      lodestream datasets import questions items.jsonl --dry-run
      lodestream datasets export other -o - | lodestream datasets import copy - --create
    """  # noqa: D301
    if file_format and file_format not in FORMATS:
        raise typer.BadParameter(f"is one of {', '.join(FORMATS)}", param_hint="--format")
    if delimiter and len(delimiter) != 1:
        raise typer.BadParameter("is one character", param_hint="--delimiter")
    tally = Tally()
    sample: list[NumberedItem] = []
    with _opened(file) as source, progress(f"importing {file}", _size(file)) as advance:
        if not dry_run:
            _dataset_there(gateway, name, mapping.author, create=create)
        format_name = file_format or format_of(file, source.peek(64))
        try:
            read = read_rows(source, format_name, encoding=encoding, delimiter=delimiter, parse_json=parse_json)
            with closing(read) as rows:
                for batch in batches(_items(rows, mapping, tally, file, as_json=as_json)):
                    sample += batch[: _SAMPLE - len(sample)]
                    _store(gateway, name, batch, tally, file, dry_run=dry_run, as_json=as_json)
                    advance(_bytes_read(source))
        except (NotReadableError, MappingError, LookupError) as error:
            _stopped(file, str(error), tally, dry_run=dry_run)
        except CliError as failure:
            stored = f"; all up to line {tally.line:,} is stored, importing again continues" if tally.line else ""
            raise CliError(f"{failure}{stored}", failure.code) from None
    _show_result(name, file, tally, sample, dry_run=dry_run, as_json=as_json)
    if tally.refused:
        raise typer.Exit(ExitCode.FAILED)


def _items(
    rows: Iterator[Row | RefusedRow], mapping: Mapping, tally: Tally, file: str, *, as_json: bool
) -> Iterator[NumberedItem]:
    """The items of good rows, each once; the others are told."""
    seen = SeenItems()
    checked = False
    for row in rows:
        if isinstance(row, Row) and not checked:
            checked = True
            if unknown := check_columns(mapping, row.fields):
                console.remark(escape_control(f"{file}: ignored columns: {', '.join(unknown)} (--metadata keeps one)"))
        item = row if isinstance(row, RefusedRow) else item_of(row, mapping)
        earlier = item if isinstance(item, RefusedRow) else seen.earlier(NumberedItem(row.line, item))
        if isinstance(earlier, RefusedRow):
            _refuse(tally, earlier, file, as_json=as_json)
        elif not earlier and not isinstance(item, RefusedRow):
            yield NumberedItem(row.line, item)


def _store(
    gateway: Gateway, name: str, batch: list[NumberedItem], tally: Tally, file: str, *, dry_run: bool, as_json: bool
) -> None:
    if dry_run:
        tally.stored += len(batch)
        return
    for refused in record(gateway, name, batch, tally):
        _refuse(tally, refused, file, as_json=as_json)


def _refuse(tally: Tally, refused: RefusedRow, file: str, *, as_json: bool) -> None:
    tally.refused.append(refused)
    if as_json:
        return
    if len(tally.refused) <= _MOST_REPORTED:
        console.remark(escape_control(f"{file}:{refused.line}: {refused.reason}"))
    elif len(tally.refused) == _MOST_REPORTED + 1:
        console.remark("… more rows were refused; --json lists them all")


def _stopped(file: str, why: str, tally: Tally, *, dry_run: bool) -> None:
    """Raise CliError for a file that can't be read any further, and say how much of it is stored."""
    place = f"{file}:{why}" if why[:1].isdigit() else f"{file}: {why}"
    done = f"; {tally.stored:,} items before it are stored" if tally.stored and not dry_run else ""
    raise CliError(place + done, ExitCode.FAILED if tally.stored else ExitCode.USAGE)


def _dataset_there(gateway: Gateway, name: str, author: str, *, create: bool) -> None:
    request = pb.GetDatasetRequest(dataset=pb.DatasetSelector(name=name))
    try:
        gateway.call(gateway.datasets.GetDataset, request)
    except CliError as failure:
        if not failure.not_found:
            raise
        if not create:
            raise CliError(f"{failure}; --create creates it") from None
        created = DatasetCreated(name=name, author=author)
        gateway.call(gateway.datasets.CreateDataset, pb.CreateDatasetRequest(dataset=created))


def _show_result(
    name: str, file: str, tally: Tally, sample: list[NumberedItem], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        refused = [{"file": file, "line": row.line, "reason": row.reason} for row in tally.refused]
        version = None if dry_run else tally.version
        result = {"dataset": name, "stored": 0 if dry_run else tally.stored, "good": tally.stored, "refused": refused}
        console.show_json({**result, "version": version, "position": tally.position or None, "dry_run": dry_run})
        return
    if dry_run:
        items = [pb.DatasetItem(**{key: getattr(placed.item, key) for key in _SHOWN}) for placed in sample]
        console.show(item_contents(items, width=console.width()))
    action = "would store" if dry_run else "stored"
    where = f" in {escape_control(name)} version {tally.version:,}" if tally.version else ""
    refusals = f"; refused {len(tally.refused):,}" if tally.refused else ""
    console.show([Text(f"{action} {tally.stored:,} items{where}{refusals}")])


@contextmanager
def _opened(file: str) -> Iterator[io.BufferedReader]:
    if file == "-":
        yield cast("io.BufferedReader", sys.stdin.buffer)
        return
    try:
        with Path(file).open("rb") as source:
            yield source
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}", ExitCode.USAGE) from None


def _size(file: str) -> int | None:
    try:
        return None if file == "-" else Path(file).stat().st_size
    except OSError:
        return None


def _bytes_read(source: BinaryIO) -> int:
    try:
        return source.tell()
    except (OSError, ValueError):
        return 0
