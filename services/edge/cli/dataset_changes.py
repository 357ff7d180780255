"""`lodestream datasets create|archive`: changes of a dataset as a whole, and of items that go."""

import json
import os
from typing import Annotated, Any

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated
from rich.text import Text

from services.edge.cli import options, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.files import json_from
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson, Author
from services.edge.cli.render.text import inert

_AT_ONCE = 1_000
Name = Annotated[str, typer.Argument(metavar="NAME")]
_JSON = "JSON; @FILE reads a file."


@takes(gateway=options.gateway)
def create_dataset(
    *,
    gateway: Gateway,
    name: Name,
    description: Annotated[str, typer.Option("-d", "--description", help="For people.")] = "",
    metadata: Annotated[str, typer.Option(metavar="JSON", help=f"An object: {_JSON}")] = "",
    input_schema: Annotated[
        str, typer.Option(metavar="JSON", help=f"A JSON Schema that inputs must satisfy: {_JSON}")
    ] = "",
    expected_schema: Annotated[
        str, typer.Option(metavar="JSON", help=f"A JSON Schema that expected outputs must satisfy: {_JSON}")
    ] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Create a dataset, or describe it anew. Archived before, it is back.

    \b
    Examples:
      lodestream datasets create questions -d "What customers ask"
      lodestream datasets create questions --input-schema @input.schema.json
    """  # noqa: D301
    created = DatasetCreated(
        name=name, description=description, author=author or os.environ.get("USER", ""),
        metadata_json=_json(metadata, "--metadata"), input_schema_json=_json(input_schema, "--input-schema"),
        expected_output_schema_json=_json(expected_schema, "--expected-schema"),
    )  # fmt: skip
    made = gateway.ask(gateway.datasets.CreateDataset, pb.CreateDatasetRequest(dataset=created))
    done = {"name": name, "version": made.dataset.version, "position": made.position}
    _tell(done, f"created {inert(name)} (version {made.dataset.version:,})", as_json=as_json)


@takes(gateway=options.gateway)
def archive(
    *,
    gateway: Gateway,
    name: Name,
    items: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="This item, not the dataset. Several: all of them.")
    ] = None,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Archive a dataset, or items of it: later versions don't have them, former ones and their runs do.

    \b
    Examples:
      lodestream datasets archive questions --id refund-1 --id refund-2
      lodestream datasets archive questions
    """  # noqa: D301
    author = author or os.environ.get("USER", "")
    if not items:
        answer = gateway.ask(gateway.datasets.ArchiveDataset, pb.ArchiveDatasetRequest(name=name, author=author))
        done = {"name": name, "version": answer.version, "position": answer.position}
        _tell(done, f"archived {inert(name)} (version {answer.version:,})", as_json=as_json)
        return
    for begin in range(0, len(items), _AT_ONCE):
        ids = items[begin : begin + _AT_ONCE]
        request = pb.ArchiveItemsRequest(dataset_name=name, item_ids=ids, author=author)
        gone = gateway.ask(gateway.datasets.ArchiveItems, request)
    told = {"name": name, "item_ids": items, "version": gone.version, "position": gone.position}
    what = f"{len(items):,} items" if len(items) > 1 else inert(items[0])
    _tell(told, f"archived {what} of {inert(name)} (version {gone.version:,})", as_json=as_json)


def _json(text: str, where: str) -> str:
    return json.dumps(json_from(text, where), ensure_ascii=False) if text else ""


def _tell(done: dict[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        screen.show_json(done)
    else:
        screen.show([Text(said)])
