"""The options that say which columns of a file make which part of an item."""

import os
from typing import Annotated

import typer

from services.edge.cli.dataset_files.mapping import Mapping, Part, part
from services.edge.cli.options import Author

_Columns = list[str] | None


def mapping(
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
