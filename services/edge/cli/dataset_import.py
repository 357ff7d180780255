"""`lodestream datasets import`: the rows of a file become items."""

import io
import os
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
from services.edge.cli.dataset_files import FORMATS, NotReadableError, Refused, Row, format_of, read_rows
from services.edge.cli.dataset_items import (
    Mapping,
    MappingError,
    Part,
    Placed,
    Seen,
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
from services.edge.cli.render.text import inert

_Columns = list[str] | None
_MOST_TOLD = 50  # rows that were refused
_SAMPLE = 3
_SHOWN = ("item_id", "input_json", "expected_output_json", "metadata_json", "splits")


def mapping_options(
    *,
    input_columns: Annotated[
        _Columns, typer.Option("--input", metavar="COLUMN", help="Makes up the input, an object. NAME=COLUMN renames.")
    ] = None,
    bare_input: Annotated[
        bool, typer.Option("--bare-input", help="The one --input column is the input itself, not an object of one.")
    ] = False,
    expected: Annotated[
        _Columns, typer.Option(metavar="COLUMN", help="Is the expected output; of several, an object.")
    ] = None,
    metadata: Annotated[_Columns, typer.Option(metavar="COLUMN", help="Goes into the metadata.")] = None,
    item_id: Annotated[
        str, typer.Option("--id", metavar="COLUMN", help="Is the id; without, it follows from the content.")
    ] = "",
    split: Annotated[str, typer.Option(metavar="COLUMN", help="Names splits; commas between several.")] = "",
    into_split: Annotated[_Columns, typer.Option(metavar="SPLIT", help="All rows are of this split.")] = None,
    author: Author = "",
) -> Mapping:
    """From columns to items."""
    if bare_input and len(input_columns or ()) != 1:
        raise typer.BadParameter("needs one --input", param_hint="--bare-input")
    return Mapping(
        input=_parts(input_columns), expected=_parts(expected), metadata=_parts(metadata), item_id=item_id,
        split=split, bare_input=bare_input, splits=into_split or (), author=author or os.environ.get("USER", ""),
    )  # fmt: skip


def _parts(columns: _Columns) -> list[Part]:
    return [part(column) for column in columns or ()]


@with_options(mapping=mapping_options, gateway=options.gateway)
def import_items(
    *,
    gateway: Gateway,
    mapping: Mapping,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="`-` is standard input.")],
    file_format: Annotated[
        str, typer.Option("--format", metavar="csv|jsonl|json", help="If the file's name does not tell.")
    ] = "",
    encoding: Annotated[str, typer.Option(help="By default UTF-8, or as a byte order mark says.")] = "",
    delimiter: Annotated[str, typer.Option(metavar="CHAR", help="Of CSV; by default as the header shows.")] = "",
    parse_json: Annotated[
        bool, typer.Option("--parse-json", help="Cells of CSV that are JSON become what they say: 5, true, {…}.")
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Create the dataset if there is none.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check the file, and store nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import items from CSV, JSONL or JSON. Good rows are stored; refused ones are told with their line, and end it with 1.

    Without --input, columns are what they are called: input, expected_output, metadata, id, splits. With it, the
    columns named make up each item. An item without an id gets one from its content, so that importing a file again
    changes nothing.

    \b
    Examples:
      lodestream datasets import questions faq.csv --input question --expected answer --metadata topic
      lodestream datasets import questions faq.csv --input question --input context --id key --split test
      lodestream datasets import questions items.jsonl --dry-run
      lodestream datasets export other -o - | lodestream datasets import copy - --create
    """  # noqa: D301, E501
    if file_format and file_format not in FORMATS:
        raise typer.BadParameter(f"is one of {', '.join(FORMATS)}", param_hint="--format")
    if delimiter and len(delimiter) != 1:
        raise typer.BadParameter("is one character", param_hint="--delimiter")
    tally = Tally()
    sample: list[Placed] = []
    with _opened(file) as source, progress(f"importing {file}", _size(file)) as advance:
        if not dry_run:
            _dataset_there(gateway, name, mapping.author, create=create)
        chosen = file_format or format_of(file, source.peek(64))
        try:
            read = read_rows(source, chosen, encoding=encoding, delimiter=delimiter, parse_json=parse_json)
            with closing(read) as rows:
                for batch in batches(_items(rows, mapping, tally, file, as_json=as_json)):
                    sample += batch[: _SAMPLE - len(sample)]
                    _store(gateway, name, batch, tally, file, dry_run=dry_run, as_json=as_json)
                    advance(_told(source))
        except (NotReadableError, MappingError, LookupError) as error:
            _stopped(file, str(error), tally, dry_run=dry_run)
        except CliError as failure:
            stored = f"; up to line {tally.line:,} all is stored: importing again goes on" if tally.line else ""
            raise CliError(f"{failure}{stored}", failure.code) from None
    _tell(name, file, tally, sample, dry_run=dry_run, as_json=as_json)
    if tally.refused:
        raise typer.Exit(ExitCode.FAILED)


def _items(
    rows: Iterator[Row | Refused], mapping: Mapping, tally: Tally, file: str, *, as_json: bool
) -> Iterator[Placed]:
    """The items of good rows, each once; the others are told."""
    seen = Seen()
    checked = False
    for row in rows:
        if isinstance(row, Row) and not checked:
            checked = True
            if unknown := check_columns(mapping, row.fields):
                hint = "--metadata with_options one"
                console.remark(inert(f"{file}: not taken: {', '.join(unknown)} ({hint})"))
        item = row if isinstance(row, Refused) else item_of(row, mapping)
        earlier = item if isinstance(item, Refused) else seen.earlier(Placed(row.line, item))
        if isinstance(earlier, Refused):
            _refuse(tally, earlier, file, as_json=as_json)
        elif not earlier and not isinstance(item, Refused):
            yield Placed(row.line, item)


def _store(
    gateway: Gateway, name: str, batch: list[Placed], tally: Tally, file: str, *, dry_run: bool, as_json: bool
) -> None:
    if dry_run:
        tally.stored += len(batch)
        return
    for refused in record(gateway, name, batch, tally):
        _refuse(tally, refused, file, as_json=as_json)


def _refuse(tally: Tally, refused: Refused, file: str, *, as_json: bool) -> None:
    tally.refused.append(refused)
    if as_json:
        return
    if len(tally.refused) <= _MOST_TOLD:
        console.remark(inert(f"{file}:{refused.line}: {refused.reason}"))
    elif len(tally.refused) == _MOST_TOLD + 1:
        console.remark("… more rows are refused; --json tells them all")


def _stopped(file: str, why: str, tally: Tally, *, dry_run: bool) -> None:
    """Raises CliError: a file that can't be read any further is half in, which has to be said."""
    place = f"{file}:{why}" if why[:1].isdigit() else f"{file}: {why}"
    done = f"; {tally.stored:,} items before it are stored" if tally.stored and not dry_run else ""
    raise CliError(place + done, ExitCode.FAILED if tally.stored else ExitCode.USAGE)


def _dataset_there(gateway: Gateway, name: str, author: str, *, create: bool) -> None:
    request = pb.GetDatasetRequest(dataset=pb.DatasetSelector(name=name))
    try:
        gateway.ask(gateway.datasets.GetDataset, request)
    except CliError as failure:
        if not failure.not_found:
            raise
        if not create:
            raise CliError(f"{failure}; --create creates it") from None
        created = DatasetCreated(name=name, author=author)
        gateway.ask(gateway.datasets.CreateDataset, pb.CreateDatasetRequest(dataset=created))


def _tell(name: str, file: str, tally: Tally, sample: list[Placed], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        refused = [{"file": file, "line": its.line, "reason": its.reason} for its in tally.refused]
        version = None if dry_run else tally.version
        told = {"dataset": name, "stored": 0 if dry_run else tally.stored, "good": tally.stored, "refused": refused}
        console.show_json({**told, "version": version, "position": tally.position or None, "dry_run": dry_run})
        return
    if dry_run:
        shown = [pb.DatasetItem(**{key: getattr(its.item, key) for key in _SHOWN}) for its in sample]
        console.show(item_contents(shown, width=console.width()))
    did = "would store" if dry_run else "stored"
    where = f" in {inert(name)} version {tally.version:,}" if tally.version else ""
    refused_words = f"; refused {len(tally.refused):,}" if tally.refused else ""
    console.show([Text(f"{did} {tally.stored:,} items{where}{refused_words}")])


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


def _told(source: BinaryIO) -> int:
    try:
        return source.tell()
    except (OSError, ValueError):
        return 0
