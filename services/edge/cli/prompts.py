"""`lodestream prompts`: look at prompts and their history."""

from datetime import datetime
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import options, paging, prompt_changes, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson, instant_option
from services.edge.cli.paging import Pages
from services.edge.cli.render import prompts as pictures
from services.edge.cli.render.documents import document
from services.edge.cli.render.tables import footer, list_footer

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
@takes(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_prompts(
    *,
    gateway: Gateway,
    wanted: Pages,
    wait_for: WaitFor | None,
    label: Annotated[str, typer.Option(help="With a version that has this label.")] = "",
    tag: Annotated[str, typer.Option(help="With this tag.")] = "",
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, in any case.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List prompts by name.

    \b
    Examples:
      lodestream prompts list --label production
      lodestream prompts list --json | jq -r '.prompts[].name'
    """  # noqa: D301

    def fetch(size: int, token: str) -> pb.ListPromptsResponse:
        request = pb.ListPromptsRequest(
            label=label, tag=tag, name_contains=contains, with_archived=archived,
            page_size=size, page_token=token, wait_for=wait_for,
        )  # fmt: skip
        return gateway.ask(gateway.prompts.ListPrompts, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.prompts)
    if as_json:
        screen.show_json(document(found))
        return
    zone = screen.zone()
    today = datetime.now(zone).date()
    if found.prompts:
        screen.show(pictures.prompt_table(found.prompts, width=screen.width(), zone=zone, today=today))
    else:
        screen.show([Text("no such prompts")])
    screen.show(list_footer(len(found.prompts), found.freshness, found.next_page_token, zone))


@app.command("get")
@takes(wait_for=options.wait_for, gateway=options.gateway)
def get_prompt(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    name: Name,
    which: Annotated[str, typer.Argument(metavar="[VERSION|LABEL]", show_default="production")] = "",
    as_of: Annotated[datetime | None, instant_option("--as-of", "As it was at this time.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Only the text, or the messages as JSON: for pipes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a version of a prompt: by number or label, now or as it was.

    \b
    Examples:
      lodestream prompts get support-answer
      lodestream prompts get support-answer 7
      lodestream prompts get support-answer staging --as-of 2026-03-01T12:00
      lodestream prompts get support-answer --raw > prompt.txt
    """  # noqa: D301
    version = _get(gateway, name, which, wait_for=wait_for, as_of=as_of)
    if as_json:
        screen.show_json(document(version))
    elif raw:
        typer.echo(pictures.plain_content(version))
    else:
        screen.show(pictures.version_head(version, width=screen.width(), zone=screen.zone()))
        screen.show([Text(), *pictures.version_content(version, width=screen.width())])


@app.command("history")
@takes(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def history(
    *,
    gateway: Gateway,
    wanted: Pages,
    wait_for: WaitFor | None,
    name: Name,
    label: Annotated[str, typer.Option(help="Only moves of this label.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show a prompt's versions, and who moved which label when; the newest first.

    \b
    Examples:
      lodestream prompts history support-answer
      lodestream prompts history support-answer --label production --json
    """  # noqa: D301

    def fetch_moves(size: int, token: str) -> pb.LabelHistoryResponse:
        request = pb.LabelHistoryRequest(
            name=name, label=label, page_size=size, page_token=token, wait_for=wait_for
        )  # fmt: skip
        return gateway.ask(gateway.prompts.LabelHistory, request)

    request = pb.ListVersionsRequest(name=name, page_size=wanted.limit or 1_000, wait_for=wait_for)
    versions = gateway.ask(gateway.prompts.ListVersions, request)
    moves = paging.gather(wanted, fetch_moves, lambda answer: answer.moves)
    if as_json:
        screen.show_json({"versions": document(versions)["versions"], **document(moves)})
        return
    zone, width = screen.zone(), screen.width()
    today = datetime.now(zone).date()
    if not label:
        screen.show([*pictures.version_table(versions.versions, width=width, zone=zone, today=today), Text()])
    if moves.moves:
        screen.show(pictures.move_table(moves.moves, width=width, zone=zone, today=today))
    else:
        screen.show([Text("no label was moved")])
    screen.show(list_footer(len(moves.moves), moves.freshness, moves.next_page_token, zone))


@app.command("diff")
@takes(wait_for=options.wait_for, gateway=options.gateway)
def diff(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    name: Name,
    old: Annotated[str, typer.Argument(metavar="[OLD]", show_default="production")] = "production",
    new: Annotated[str, typer.Argument(metavar="[NEW]", show_default="latest")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Compare two versions, by number or label. Ends with 1 when they differ, as diff does.

    \b
    Examples:
      lodestream prompts diff support-answer
      lodestream prompts diff support-answer 7 8
    """  # noqa: D301
    before, after = (_get(gateway, name, which, wait_for=wait_for) for which in (old, new))
    lines = pictures.difference(before, after)
    if as_json:
        screen.show_json({"name": name, "old": before.version, "new": after.version, "diff": lines})
    elif lines:
        screen.show(pictures.coloured(lines))
    else:
        screen.remark(f"versions {before.version} and {after.version} are the same")
    if lines:
        raise typer.Exit(1)


@app.command("metrics")
@takes(wait_for=options.wait_for, gateway=options.gateway)
def metrics(*, gateway: Gateway, wait_for: WaitFor | None, name: Name, as_json: AsJson = False) -> None:
    """Show what generations made with each version were like: latency, tokens, cost, scores.

    \b
    Examples:
      lodestream prompts metrics support-answer
    """  # noqa: D301
    found = gateway.ask(gateway.prompts.PromptMetrics, pb.PromptMetricsRequest(name=name, wait_for=wait_for))
    if as_json:
        screen.show_json(document(found))
        return
    if found.versions:
        screen.show(pictures.metrics_table(found.versions, width=screen.width()))
    else:
        screen.show([Text("no generation was made with it yet")])
    screen.show([footer(found.freshness, screen.zone())])


def _get(
    gateway: Gateway, name: str, which: str, *, wait_for: WaitFor | None, as_of: datetime | None = None
) -> pb.PromptVersion:
    selector = pb.PromptSelector(name=name)
    if which.isdecimal():
        selector.version = int(which)
    elif which:
        selector.label = which
    request = pb.GetPromptRequest(prompt=selector, wait_for=wait_for)
    if as_of is not None:
        stamp = Timestamp()
        stamp.FromDatetime(as_of)
        request.as_of.CopyFrom(stamp)
    return gateway.ask(gateway.prompts.GetPrompt, request).prompt


app.command("create")(prompt_changes.create_prompt)
app.command("label")(prompt_changes.move_labels)
app.command("rollback")(prompt_changes.roll_back)
app.command("archive")(prompt_changes.archive_prompt)
