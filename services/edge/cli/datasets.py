"""`lodestream datasets`: datasets, their items and their history."""

import json
import os
from datetime import datetime
from typing import Annotated, Any

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import console, dataset_export, dataset_from_traces, dataset_import, options, paging
from services.edge.cli.connection import Gateway
from services.edge.cli.console import json_from
from services.edge.cli.options import AsJson, Author, with_options
from services.edge.cli.paging import Pages
from services.edge.cli.render import datasets as pictures
from services.edge.cli.render.json_output import document
from services.edge.cli.render.tables import footer, list_footer
from services.edge.cli.render.text import inert

app = typer.Typer(no_args_is_help=True)
_AT_ONCE = 1_000
Name = Annotated[str, typer.Argument(metavar="NAME")]
_JSON = "JSON; @FILE reads a file."


@app.command("list")
@with_options(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_datasets(
    *,
    gateway: Gateway,
    wanted: Pages,
    wait_for: WaitFor | None,
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, in any case.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List datasets by name.

    \b
    Examples:
      lodestream datasets list
      lodestream datasets list --json | jq -r '.datasets[].name'
    """  # noqa: D301

    def fetch(size: int, token: str) -> pb.ListDatasetsResponse:
        request = pb.ListDatasetsRequest(
            name_contains=contains, with_archived=archived, page_size=size, page_token=token, wait_for=wait_for
        )
        return gateway.ask(gateway.datasets.ListDatasets, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.datasets)
    if as_json:
        console.show_json(document(found))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if found.datasets:
        console.show(pictures.dataset_table(found.datasets, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no such datasets")])
    console.show(list_footer(len(found.datasets), found.freshness, found.next_page_token, zone))


@app.command("get")
@with_options(which=options.dataset_selector, wait_for=options.wait_for, gateway=options.gateway)
def get_dataset(
    *, gateway: Gateway, which: pb.DatasetSelector, wait_for: WaitFor | None, as_json: AsJson = False
) -> None:
    """Show what is known of a dataset, now or as it was.

    \b
    Examples:
      lodestream datasets get questions
      lodestream datasets get questions@12
      lodestream datasets get questions --as-of 2026-03-01T12:00 --json
    """  # noqa: D301
    request = pb.GetDatasetRequest(dataset=which, wait_for=wait_for)
    found = gateway.ask(gateway.datasets.GetDataset, request)
    if as_json:
        console.show_json(document(found))
    else:
        console.show(pictures.dataset_head(found.dataset, width=console.width(), zone=console.zone()))
        console.show([footer(found.freshness, console.zone())])


@app.command("items")
@with_options(which=options.dataset_selector, wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_items(
    *,
    gateway: Gateway,
    which: pb.DatasetSelector,
    wanted: Pages,
    wait_for: WaitFor | None,
    split: Annotated[list[str] | None, typer.Option(help="Of this split. Several: any of them.")] = None,
    item: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="This item. Several: all.")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    content: Annotated[bool, typer.Option("--content", help="In full, not as a table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the items of a dataset, in the order in which they were first recorded.

    \b
    Examples:
      lodestream datasets items questions --split hard
      lodestream datasets items questions@12 --all --json
      lodestream datasets items questions --id refund-1 --content
    """  # noqa: D301

    def fetch(size: int, token: str) -> pb.ListItemsResponse:
        request = pb.ListItemsRequest(
            dataset=which, splits=split, item_ids=item, with_archived=archived,
            page_size=size, page_token=token, wait_for=wait_for,
        )  # fmt: skip
        return gateway.ask(gateway.datasets.ListItems, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.items)
    if as_json:
        console.show_json(document(found))
        return
    width = console.width()
    if not found.items:
        console.show([Text("no such items")])
    elif content:
        console.show(pictures.item_contents(found.items, width=width))
    else:
        console.show(pictures.item_table(found.items, width=width))
    console.show([Text(f"version {found.version:,}", style="dim")])
    console.show(list_footer(len(found.items), found.freshness, found.next_page_token, console.zone()))


@app.command("history")
@with_options(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def history(
    *,
    gateway: Gateway,
    wanted: Pages,
    wait_for: WaitFor | None,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    item: Annotated[str, typer.Option("--id", metavar="ID", help="Only of this item.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the changes of a dataset, or of one of its items; the newest first.

    \b
    Examples:
      lodestream datasets history questions
      lodestream datasets history questions --id refund-1 --json
    """  # noqa: D301

    def fetch(size: int, token: str) -> pb.DatasetHistoryResponse:
        request = pb.DatasetHistoryRequest(name=name, item_id=item, page_size=size, page_token=token, wait_for=wait_for)
        return gateway.ask(gateway.datasets.DatasetHistory, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.changes)
    if as_json:
        console.show_json(document(found))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if found.changes:
        console.show(pictures.change_table(found.changes, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no such changes")])
    console.show(list_footer(len(found.changes), found.freshness, found.next_page_token, zone))


@app.command("create")
@with_options(gateway=options.gateway)
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


app.command("import")(dataset_import.import_items)
app.command("export")(dataset_export.export_items)
app.command("add-from-traces")(dataset_from_traces.add_from_traces)


@app.command("archive")
@with_options(gateway=options.gateway)
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
        console.show_json(done)
    else:
        console.show([Text(said)])
