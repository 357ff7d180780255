"""`lodestream prompts`: prompts, their versions and labels."""

import difflib
import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import date, datetime, tzinfo
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import prompt_event_pb2 as events
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompts_pb2 import LabelMove, PromptSummary, PromptVersion, PromptVersionMetrics
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import console, options, paging
from services.edge.cli.connection import Gateway
from services.edge.cli.console import json_from, parse_json, text_from
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, Author, instant_option, with_options
from services.edge.cli.paging import Pages
from services.edge.cli.render.json_output import document
from services.edge.cli.render.quantities import cost, count, date_and_time, duration, instants
from services.edge.cli.render.tables import Column, footer, lay_out, list_footer
from services.edge.cli.render.text import clip, escape_control, escape_control_lines, wrap

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]
Expected = Annotated[
    int | None,
    typer.Option("--expect-revision", min=0, metavar="N", help="Fail unless the prompt is at this revision."),
]
_MARGIN = "  "


@app.command("list")
@with_options(pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_prompts(
    *,
    gateway: Gateway,
    pages: Pages,
    wait_for: WaitFor | None,
    label: Annotated[str, typer.Option(metavar="LABEL", help="With a version that has this label.")] = "",
    tag: Annotated[str, typer.Option(metavar="TAG", help="With this tag.")] = "",
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, ignoring case.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Include archived prompts.")] = False,
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
        return gateway.call(gateway.prompts.ListPrompts, request)

    response = paging.gather(pages, fetch, lambda response: response.prompts)
    if as_json:
        console.show_json(document(response))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if response.prompts:
        console.show(prompt_table(response.prompts, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no matching prompts")])
    console.show(list_footer(len(response.prompts), response.freshness, response.next_page_token, zone))


@app.command("get")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def get_prompt(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    name: Name,
    selected: Annotated[str, typer.Argument(metavar="[VERSION|LABEL]", show_default="production")] = "",
    as_of: Annotated[datetime | None, instant_option("--as-of", "As of this time.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print only the text, or the messages as JSON, for pipes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a version of a prompt, by number or label, now or at an earlier time.

    \b
    Examples:
      lodestream prompts get support-answer
      lodestream prompts get support-answer 7
      lodestream prompts get support-answer staging --as-of 2026-03-01T12:00
      lodestream prompts get support-answer --raw > prompt.txt
    """  # noqa: D301
    version = _get(gateway, name, selected, wait_for=wait_for, as_of=as_of)
    if as_json:
        console.show_json(document(version))
    elif raw:
        typer.echo(plain_content(version))
    else:
        console.show(version_summary(version, width=console.width(), zone=console.zone()))
        console.show([Text(), *version_content(version, width=console.width())])


@app.command("history")
@with_options(pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def history(
    *,
    gateway: Gateway,
    pages: Pages,
    wait_for: WaitFor | None,
    name: Name,
    label: Annotated[str, typer.Option(metavar="LABEL", help="Only moves of this label.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show a prompt's versions, and who moved which label when, newest first.

    \b
    Examples:
      lodestream prompts history support-answer
      lodestream prompts history support-answer --label production --json
    """  # noqa: D301

    def fetch_moves(size: int, token: str) -> pb.LabelHistoryResponse:
        request = pb.LabelHistoryRequest(
            name=name, label=label, page_size=size, page_token=token, wait_for=wait_for
        )  # fmt: skip
        return gateway.call(gateway.prompts.LabelHistory, request)

    request = pb.ListVersionsRequest(name=name, page_size=pages.limit or 1_000, wait_for=wait_for)
    versions = gateway.call(gateway.prompts.ListVersions, request)
    response = paging.gather(pages, fetch_moves, lambda response: response.moves)
    if as_json:
        console.show_json({"versions": document(versions)["versions"], **document(response)})
        return
    zone, width = console.zone(), console.width()
    today = datetime.now(zone).date()
    if not label:
        console.show([*version_table(versions.versions, width=width, zone=zone, today=today), Text()])
    if response.moves:
        console.show(move_table(response.moves, width=width, zone=zone, today=today))
    else:
        console.show([Text("no label moves")])
    console.show(list_footer(len(response.moves), response.freshness, response.next_page_token, zone))


@app.command("diff")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def diff(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    name: Name,
    old: Annotated[str, typer.Argument(metavar="[OLD]", show_default="production")] = "production",
    new: Annotated[str, typer.Argument(metavar="[NEW]", show_default="latest")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Compare two versions, by number or label. Exits with 1 when they differ, as diff does.

    \b
    Examples:
      lodestream prompts diff support-answer
      lodestream prompts diff support-answer 7 8
    """  # noqa: D301
    before, after = (_get(gateway, name, selected, wait_for=wait_for) for selected in (old, new))
    lines = difference(before, after)
    if as_json:
        console.show_json({"name": name, "old": before.version, "new": after.version, "diff": lines})
    elif lines:
        console.show(coloured_diff(lines))
    else:
        console.remark(f"versions {before.version} and {after.version} are identical")
    if lines:
        raise typer.Exit(1)


@app.command("metrics")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def metrics(*, gateway: Gateway, wait_for: WaitFor | None, name: Name, as_json: AsJson = False) -> None:
    """Show latency, tokens, cost and scores of the generations made with each version.

    \b
    Examples:
      lodestream prompts metrics support-answer
    """  # noqa: D301
    response = gateway.call(gateway.prompts.PromptMetrics, pb.PromptMetricsRequest(name=name, wait_for=wait_for))
    if as_json:
        console.show_json(document(response))
        return
    if response.versions:
        console.show(metrics_table(response.versions, width=console.width()))
    else:
        console.show([Text("no generations yet")])
    console.show([footer(response.freshness, console.zone())])


def _get(
    gateway: Gateway, name: str, selected: str, *, wait_for: WaitFor | None, as_of: datetime | None = None
) -> pb.PromptVersion:
    selector = pb.PromptSelector(name=name)
    if selected.isdecimal():
        selector.version = int(selected)
    elif selected:
        selector.label = selected
    request = pb.GetPromptRequest(prompt=selector, wait_for=wait_for)
    if as_of is not None:
        stamp = Timestamp()
        stamp.FromDatetime(as_of)
        request.as_of.CopyFrom(stamp)
    return gateway.call(gateway.prompts.GetPrompt, request).prompt


@app.command("create")
@with_options(gateway=options.gateway)
def create_prompt(
    *,
    gateway: Gateway,
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="File with the content; `-` reads standard input.")],
    chat: Annotated[
        bool, typer.Option("--chat", help="The file is a JSON array of messages and placeholders.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Label to point to the new version; repeat for several.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Tag to find the prompt by; repeat for several.")
    ] = None,
    config: Annotated[
        str, typer.Option(metavar="JSON", help="Configuration stored with the version; @FILE reads a file.")
    ] = "",
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="What changed.")] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Create a version of a prompt; the first one creates the prompt.

    \b
    Examples:
      lodestream prompts create support-answer prompt.txt -m "shorter" --label staging
      lodestream prompts create support-chat messages.json --chat --config '{"model": "gpt-5"}' --label production
      echo "Answer: {{question}}" | lodestream prompts create support-answer -
    """  # noqa: D301
    created = events.PromptVersionCreated(
        prompt_name=name, labels=label, tags=tag, commit_message=message, author=author,
        config_json=json.dumps(json_from(config, "--config")) if config else "",
    )  # fmt: skip
    content = text_from(file)
    if chat:
        created.chat.items.extend(_items(parse_json(content, file)))
    else:
        created.text = content.removesuffix("\n")
    request = pb.CreatePromptRequest(command_id=str(uuid.uuid4()), prompt=created)
    response = gateway.call(gateway.prompts.CreatePrompt, request)
    result = {"name": name, "version": response.version, "revision": response.revision, "position": response.position}
    console.show_result(result, f"created {escape_control(name)} version {response.version}", as_json=as_json)


@app.command("label")
@with_options(gateway=options.gateway)
def move_labels(
    *,
    gateway: Gateway,
    name: Name,
    version: Annotated[int, typer.Argument(min=0, metavar="VERSION", help="0 removes the labels.")],
    labels: Annotated[list[str], typer.Argument(metavar="LABEL...")],
    expected: Expected = None,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Point labels to a version. Running programs that watch the prompt see it within milliseconds.

    \b
    Examples:
      lodestream prompts label support-answer 8 production
      lodestream prompts label support-answer 8 production --expect-revision 12
      lodestream prompts label support-answer 0 staging      # removes it
    """  # noqa: D301
    move = events.PromptLabelsMoved(
        prompt_name=name, version=version, labels=labels, expected_revision=expected, author=author
    )
    response = gateway.call(gateway.prompts.MoveLabels, pb.MoveLabelsRequest(command_id=str(uuid.uuid4()), move=move))
    result = {
        "name": name,
        "version": version,
        "labels": labels,
        "revision": response.revision,
        "position": response.position,
    }
    change = (
        f"now points to {escape_control(name)} version {version}" if version else f"removed from {escape_control(name)}"
    )
    console.show_result(
        result, f"{escape_control(', '.join(labels))} {change} (revision {response.revision})", as_json=as_json
    )


@app.command("rollback")
@with_options(gateway=options.gateway)
def roll_back(
    *,
    gateway: Gateway,
    name: Name,
    label: Annotated[str, typer.Option(metavar="LABEL", help="Label to move back.")] = "production",
    expected: Expected = None,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Point a label back to the version that had it before its last move.

    \b
    Examples:
      lodestream prompts rollback support-answer
      lodestream prompts rollback support-answer --label staging
    """  # noqa: D301
    rollback = events.PromptLabelRolledBack(prompt_name=name, label=label, expected_revision=expected, author=author)
    request = pb.RollBackLabelRequest(command_id=str(uuid.uuid4()), roll_back=rollback)
    response = gateway.call(gateway.prompts.RollBackLabel, request)
    result = {"name": name, "label": label, "version": response.version, "revision": response.revision}
    target = f"{escape_control(name)} version {response.version}"
    summary = f"{escape_control(label)} points to {target} again (revision {response.revision})"
    console.show_result({**result, "position": response.position}, summary, as_json=as_json)


@app.command("archive")
@with_options(gateway=options.gateway)
def archive_prompt(*, gateway: Gateway, name: Name, author: Author = "", as_json: AsJson = False) -> None:
    """Archive a prompt: programs no longer find it, but its history stays. A new version brings it back.

    \b
    Examples:
      lodestream prompts archive support-answer
    """  # noqa: D301
    archive = events.PromptArchived(prompt_name=name, author=author)
    request = pb.ArchivePromptRequest(command_id=str(uuid.uuid4()), archive=archive)
    response = gateway.call(gateway.prompts.ArchivePrompt, request)
    result = {"name": name, "revision": response.revision, "position": response.position}
    console.show_result(result, f"archived {escape_control(name)} (revision {response.revision})", as_json=as_json)


def _items(messages: Any) -> list[events.ChatPromptItem]:
    if not isinstance(messages, list):
        raise CliError("a chat prompt is a JSON array of messages and placeholders", ExitCode.USAGE)
    return [_item(index, message) for index, message in enumerate(messages)]


def _item(index: int, message: Any) -> events.ChatPromptItem:
    match message:
        case {"type": "placeholder", "name": str(name)}:
            return events.ChatPromptItem(placeholder=name)
        case {"role": str(role), "content": str(content)}:
            return events.ChatPromptItem(message=events.ChatMessage(role=role, content=content))
    expected = '{"role": …, "content": …} or {"type": "placeholder", "name": …}'
    raise CliError(f"item {index} of the messages is not {expected}", ExitCode.USAGE)


def prompt_table(prompts: Sequence[PromptSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per prompt."""
    updated = instants([prompt.updated_at for prompt in prompts], zone, today)
    return lay_out(
        [
            Column(title="name", cells=[Text(escape_control(prompt.name)) for prompt in prompts], min_width=20),
            Column(title="type", cells=[Text("chat" if prompt.is_chat else "text") for prompt in prompts], rank=4),
            Column(title="latest", cells=[Text(str(prompt.latest_version)) for prompt in prompts], right=True, rank=1),
            Column(title="labels", cells=[_holders(prompt) for prompt in prompts], rank=2, min_width=12),
            Column(
                title="tags",
                cells=[Text(escape_control(", ".join(prompt.tags))) for prompt in prompts],
                rank=5,
                min_width=8,
            ),
            Column(title="updated", cells=[Text(each, style="dim") for each in updated], rank=3),
            Column(title="", cells=[Text("archived" if prompt.archived else "", style="yellow") for prompt in prompts]),
        ],
        width,
    )


def version_table(versions: Sequence[PromptVersion], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per version."""
    created = instants([version.created_at for version in versions], zone, today)
    return lay_out(
        [
            Column(title="version", cells=[Text(str(version.version)) for version in versions], right=True),
            Column(title="created", cells=[Text(each, style="dim") for each in created], rank=3),
            Column(
                title="by", cells=[Text(escape_control(version.author)) for version in versions], rank=4, min_width=8
            ),
            Column(title="labels", cells=[_labels(version) for version in versions], rank=1, min_width=12),
            Column(
                title="message",
                cells=[Text(escape_control(version.commit_message)) for version in versions],
                rank=2,
                min_width=16,
            ),
        ],
        width,
    )


def move_table(moves: Sequence[LabelMove], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per move of a label."""
    times = instants([move.moved_at for move in moves], zone, today)
    return lay_out(
        [
            Column(title="revision", cells=[Text(str(move.revision)) for move in moves], right=True, rank=3),
            Column(title="label", cells=[Text(escape_control(move.label), style="green") for move in moves]),
            Column(title="from", cells=[_version(move.from_version) for move in moves], right=True),
            Column(title="to", cells=[_version(move.to_version) for move in moves], right=True),
            Column(title="moved", cells=[Text(each, style="dim") for each in times], rank=1),
            Column(title="by", cells=[Text(escape_control(move.author)) for move in moves], rank=2, min_width=8),
        ],
        width,
    )


def metrics_table(versions: Sequence[PromptVersionMetrics], *, width: int) -> list[Text]:
    """A table with one line per version that was used."""
    scores = sorted({score.name for version in versions for score in version.scores})
    return lay_out(
        [
            Column(title="version", cells=[Text(str(version.version)) for version in versions], right=True),
            Column(title="used", cells=[Text(count(version.generations)) for version in versions], right=True),
            Column(title="errors", cells=[_errors(version.errors) for version in versions], right=True, rank=2),
            Column(
                title="p50", cells=[Text(duration(version.latency_p50_us)) for version in versions], right=True, rank=3
            ),
            Column(
                title="p95", cells=[Text(duration(version.latency_p95_us)) for version in versions], right=True, rank=1
            ),
            Column(title="tokens", cells=[_tokens(version) for version in versions], right=True, rank=5),
            Column(
                title="cost each", cells=[Text(cost(version.cost_usd_avg)) for version in versions], right=True, rank=4
            ),
            *(
                Column(
                    title=escape_control(name),
                    cells=[_average(version, name) for version in versions],
                    right=True,
                    rank=6 + rank,
                )
                for rank, name in enumerate(scores)
            ),
        ],
        width,
    )


def version_summary(version: PromptVersion, *, width: int, zone: tzinfo) -> list[Text]:
    """The lines that describe a version, without its content."""
    title = Text.assemble((escape_control(version.name), "bold"), f" version {version.version}  ", _labels(version))
    facts = [
        f"revision {version.revision}" if version.revision else "",
        f"created {date_and_time(version.created_at, zone)}" if version.HasField("created_at") else "",
        f"by {version.author}" if version.author else "",
        f"tags {', '.join(version.tags)}" if version.tags else "",
    ]
    lines = [title, Text(_MARGIN + escape_control(" · ".join(fact for fact in facts if fact)), style="dim")]
    if version.commit_message:
        lines.append(Text(_MARGIN + escape_control(version.commit_message)))
    return [clip(line, width) for line in lines]


def version_content(version: PromptVersion, *, width: int) -> Iterator[Text]:
    """The text or the messages, then the config, folded at `width`."""
    if version.WhichOneof("content") == "chat":
        for item in version.chat.items:
            if item.WhichOneof("kind") == "placeholder":
                yield Text.assemble(
                    (f"{_MARGIN}[{escape_control(item.placeholder)}]", "cyan"), ("  messages go here", "dim")
                )
            else:
                yield Text(f"{_MARGIN}{escape_control(item.message.role)}", style="dim")
                yield from _folded(item.message.content, width)
    else:
        yield from _folded(version.text, width)
    if version.config_json not in {"", "{}", "null"}:
        yield Text(f"{_MARGIN}config", style="dim")
        yield from _folded(_config(version), width)


def plain_content(version: PromptVersion) -> str:
    """The content as plain text, to compare or pipe; a chat prompt is a JSON array."""
    if version.WhichOneof("content") != "chat":
        return version.text
    items = [
        {"type": "placeholder", "name": item.placeholder}
        if item.WhichOneof("kind") == "placeholder"
        else {"role": item.message.role, "content": item.message.content}
        for item in version.chat.items
    ]
    return json.dumps(items, indent=2, ensure_ascii=False)


def difference(old: PromptVersion, new: PromptVersion) -> list[str]:
    """The lines of a unified diff of content and config; empty when both are the same."""
    before, after = (f"{version.name} version {version.version}" for version in (old, new))
    return list(difflib.unified_diff(_diff_source(old), _diff_source(new), before, after, lineterm=""))


def coloured_diff(diff: Sequence[str]) -> Iterator[Text]:
    """A diff's lines in the usual colours."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for number, line in enumerate(diff):
        yield Text(escape_control(line), style="bold" if number < 2 else styles.get(line[:1], ""))


def _diff_source(version: PromptVersion) -> list[str]:
    lines = plain_content(version).splitlines()
    return lines if version.config_json in {"", "{}"} else [*lines, "", "config:", *_config(version).splitlines()]


def _config(version: PromptVersion) -> str:
    try:
        return json.dumps(json.loads(version.config_json), indent=2, ensure_ascii=False, sort_keys=True)
    except ValueError:
        return version.config_json


def _folded(text: str, width: int) -> Iterator[Text]:
    for written in escape_control_lines(text):
        for line in wrap(written, max(width - 2 * len(_MARGIN), 8)):
            yield Text(2 * _MARGIN + line)


def _labels(version: PromptVersion) -> Text:
    return Text(escape_control(", ".join(version.labels)), style="green")


def _holders(prompt: PromptSummary) -> Text:
    held = [f"{label.label} → {label.version}" for label in prompt.labels if label.label != "latest"]
    return Text(escape_control(", ".join(held)), style="green")


def _version(number: int) -> Text:
    return Text(str(number)) if number else Text("none", style="dim")


def _errors(number: int) -> Text:
    return Text(count(number), style="red") if number else Text("")


def _tokens(version: PromptVersionMetrics) -> Text:
    return Text(f"{version.input_tokens_avg:,.0f}→{version.output_tokens_avg:,.0f}")


def _average(version: PromptVersionMetrics, name: str) -> Text:
    averages = [score.average for score in version.scores if score.name == name]
    return Text(f"{averages[0]:.3g}") if averages else Text("")
