"""How a dataset is named on the command line: as it is, or as it was."""

import re
from datetime import datetime
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.datasets_pb2 import DatasetSelector

from services.edge.cli.options import instant_option

_VERSIONED = re.compile(r"(.+)@(\d{1,15})", re.DOTALL)


def selector(
    *,
    dataset: Annotated[str, typer.Argument(metavar="NAME[@VERSION]")],
    as_of: Annotated[datetime | None, instant_option("--as-of", "As it was at this time.")] = None,
) -> DatasetSelector:
    """A dataset at a version, at an instant, or as it is."""
    return selected(dataset, as_of)


def selected(text: str, as_of: datetime | None = None) -> DatasetSelector:
    """`questions`, `questions@12`. Raises typer.BadParameter."""
    match = _VERSIONED.fullmatch(text)
    if not text:
        raise typer.BadParameter("must not be empty", param_hint="NAME")
    if match and as_of is not None:
        raise typer.BadParameter("give either @VERSION or --as-of", param_hint="--as-of")
    if match:
        return DatasetSelector(name=match[1], version=int(match[2]))
    stamp = None
    if as_of is not None:
        stamp = Timestamp()
        stamp.FromDatetime(as_of)
    return DatasetSelector(name=text, as_of=stamp)
