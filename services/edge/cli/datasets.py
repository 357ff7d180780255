"""`lodestream datasets`: datasets, their items and their history."""

import json
from datetime import datetime
from typing import Annotated

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
from services.edge.cli.render.text import escape_control

app = typer.Typer(no_args_is_help=True)
_AT_ONCE = 1_000
Name = Annotated[str, typer.Argument(metavar="NAME")]
_AT_FILE = "@FILE reads a file."


@app.command("list")
@with_options(pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_datasets(
    *,
    gateway: Gateway,
    pages: Pages,
    wait_for: WaitFor | None,
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, ignoring case.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Include archived datasets.")] = False,
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
        return gateway.call(gateway.datasets.ListDatasets, request)

    response = paging.gather(pages, fetch, lambda response: response.datasets)
    if as_json:
        console.show_json(document(response))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if response.datasets:
        console.show(pictures.dataset_table(response.datasets, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no matching datasets")])
    console.show(list_footer(len(response.datasets), response.freshness, response.next_page_token, zone))


@app.command("get")
@with_options(selector=options.dataset_selector, wait_for=options.wait_for, gateway=options.gateway)
def get_dataset(
    *, gateway: Gateway, selector: pb.DatasetSelector, wait_for: WaitFor | None, as_json: AsJson = False
) -> None:
    """Show a dataset, now or at an earlier version or time.

    \b
    Examples:
      lodestream datasets get questions
      lodestream datasets get questions@12
      lodestream datasets get questions --as-of 2026-03-01T12:00 --json
    """  # noqa: D301
    request = pb.GetDatasetRequest(dataset=selector, wait_for=wait_for)
    response = gateway.call(gateway.datasets.GetDataset, request)
    if as_json:
        console.show_json(document(response))
    else:
        console.show(pictures.dataset_summary(response.dataset, width=console.width(), zone=console.zone()))
        console.show([footer(response.freshness, console.zone())])


@app.command("items")
@with_options(selector=options.dataset_selector, pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_items(
    *,
    gateway: Gateway,
    selector: pb.DatasetSelector,
    pages: Pages,
    wait_for: WaitFor | None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="In this split; repeat to match any of several.")
    ] = None,
    item: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only this item; repeat for several.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Include archived items.")] = False,
    content: Annotated[bool, typer.Option("--content", help="Show items in full instead of a table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the items of a dataset, in the order they were first recorded.

    \b
    Examples:
      lodestream datasets items questions --split hard
      lodestream datasets items questions@12 --all --json
      lodestream datasets items questions --id refund-1 --content
    """  # noqa: D301

    def fetch(size: int, token: str) -> pb.ListItemsResponse:
        request = pb.ListItemsRequest(
            dataset=selector, splits=split, item_ids=item, with_archived=archived,
            page_size=size, page_token=token, wait_for=wait_for,
        )  # fmt: skip
        return gateway.call(gateway.datasets.ListItems, request)

    response = paging.gather(pages, fetch, lambda response: response.items)
    if as_json:
        console.show_json(document(response))
        return
    width = console.width()
    if not response.items:
        console.show([Text("no matching items")])
    elif content:
        console.show(pictures.item_contents(response.items, width=width))
    else:
        console.show(pictures.item_table(response.items, width=width))
    console.show([Text(f"version {response.version:,}", style="dim")])
    console.show(list_footer(len(response.items), response.freshness, response.next_page_token, console.zone()))


@app.command("history")
@with_options(pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def history(
    *,
    gateway: Gateway,
    pages: Pages,
    wait_for: WaitFor | None,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    item: Annotated[str, typer.Option("--id", metavar="ID", help="Only changes of this item.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the changes of a dataset or of one of its items, newest first.

    \b
    Examples:
      lodestream datasets history questions
      lodestream datasets history questions --id refund-1 --json
    """  # noqa: D301

    def fetch(size: int, token: str) -> pb.DatasetHistoryResponse:
        request = pb.DatasetHistoryRequest(name=name, item_id=item, page_size=size, page_token=token, wait_for=wait_for)
        return gateway.call(gateway.datasets.DatasetHistory, request)

    response = paging.gather(pages, fetch, lambda response: response.changes)
    if as_json:
        console.show_json(document(response))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if response.changes:
        console.show(pictures.change_table(response.changes, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no matching changes")])
    console.show(list_footer(len(response.changes), response.freshness, response.next_page_token, zone))


@app.command("create")
@with_options(gateway=options.gateway)
def create_dataset(
    *,
    gateway: Gateway,
    name: Name,
    description: Annotated[
        str, typer.Option("-d", "--description", metavar="TEXT", help="Description of the dataset.")
    ] = "",
    metadata: Annotated[str, typer.Option(metavar="JSON", help=f"Metadata, an object; {_AT_FILE}")] = "",
    input_schema: Annotated[
        str, typer.Option(metavar="JSON", help=f"JSON Schema that inputs must satisfy; {_AT_FILE}")
    ] = "",
    expected_schema: Annotated[
        str, typer.Option(metavar="JSON", help=f"JSON Schema that expected outputs must satisfy; {_AT_FILE}")
    ] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Create a dataset, or change its description. An archived dataset comes back.

    \b
    Examples:
      lodestream datasets create questions -d "What customers ask"
      lodestream datasets create questions --input-schema @input.schema.json
    """  # noqa: D301
    created = DatasetCreated(
        name=name, description=description, author=author,
        metadata_json=_json(metadata, "--metadata"), input_schema_json=_json(input_schema, "--input-schema"),
        expected_output_schema_json=_json(expected_schema, "--expected-schema"),
    )  # fmt: skip
    response = gateway.call(gateway.datasets.CreateDataset, pb.CreateDatasetRequest(dataset=created))
    result = {"name": name, "version": response.dataset.version, "position": response.position}
    console.show_result(
        result, f"created {escape_control(name)} (version {response.dataset.version:,})", as_json=as_json
    )


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
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Archive this item, not the dataset; repeat for several."),
    ] = None,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Archive a dataset or some of its items. Earlier versions and their runs keep them.

    \b
    Examples:
      lodestream datasets archive questions --id refund-1 --id refund-2
      lodestream datasets archive questions
    """  # noqa: D301
    if not items:
        archived = gateway.call(gateway.datasets.ArchiveDataset, pb.ArchiveDatasetRequest(name=name, author=author))
        result = {"name": name, "version": archived.version, "position": archived.position}
        console.show_result(result, f"archived {escape_control(name)} (version {archived.version:,})", as_json=as_json)
        return
    for begin in range(0, len(items), _AT_ONCE):
        ids = items[begin : begin + _AT_ONCE]
        request = pb.ArchiveItemsRequest(dataset_name=name, item_ids=ids, author=author)
        response = gateway.call(gateway.datasets.ArchiveItems, request)
    result = {"name": name, "item_ids": items, "version": response.version, "position": response.position}
    what = f"{len(items):,} items" if len(items) > 1 else escape_control(items[0])
    console.show_result(
        result, f"archived {what} of {escape_control(name)} (version {response.version:,})", as_json=as_json
    )


def _json(text: str, where: str) -> str:
    return json.dumps(json_from(text, where), ensure_ascii=False) if text else ""
