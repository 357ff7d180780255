"""`lodestream datasets`: look at datasets, their items and their history."""

from datetime import datetime
from typing import Annotated

import typer
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import (
    dataset_changes,
    dataset_export,
    dataset_from_traces,
    dataset_import,
    dataset_names,
    options,
    paging,
    screen,
)
from services.edge.cli.connection import Gateway
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.paging import Pages
from services.edge.cli.render import datasets as pictures
from services.edge.cli.render.documents import document
from services.edge.cli.render.tables import footer, list_footer

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@takes(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
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
        screen.show_json(document(found))
        return
    zone = screen.zone()
    today = datetime.now(zone).date()
    if found.datasets:
        screen.show(pictures.dataset_table(found.datasets, width=screen.width(), zone=zone, today=today))
    else:
        screen.show([Text("no such datasets")])
    screen.show(list_footer(len(found.datasets), found.freshness, found.next_page_token, zone))


@app.command("get")
@takes(which=dataset_names.selector, wait_for=options.wait_for, gateway=options.gateway)
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
        screen.show_json(document(found))
    else:
        screen.show(pictures.dataset_head(found.dataset, width=screen.width(), zone=screen.zone()))
        screen.show([footer(found.freshness, screen.zone())])


@app.command("items")
@takes(which=dataset_names.selector, wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
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
        screen.show_json(document(found))
        return
    width = screen.width()
    if not found.items:
        screen.show([Text("no such items")])
    elif content:
        screen.show(pictures.item_contents(found.items, width=width))
    else:
        screen.show(pictures.item_table(found.items, width=width))
    screen.show([Text(f"version {found.version:,}", style="dim")])
    screen.show(list_footer(len(found.items), found.freshness, found.next_page_token, screen.zone()))


@app.command("history")
@takes(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
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
        screen.show_json(document(found))
        return
    zone = screen.zone()
    today = datetime.now(zone).date()
    if found.changes:
        screen.show(pictures.change_table(found.changes, width=screen.width(), zone=zone, today=today))
    else:
        screen.show([Text("no such changes")])
    screen.show(list_footer(len(found.changes), found.freshness, found.next_page_token, zone))


app.command("create")(dataset_changes.create_dataset)
app.command("import")(dataset_import.import_items)
app.command("export")(dataset_export.export_items)
app.command("add-from-traces")(dataset_from_traces.add_from_traces)
app.command("archive")(dataset_changes.archive)
