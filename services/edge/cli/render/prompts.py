"""Prompts as pictures: tables of prompts, versions and moves; one version in full; two of them compared."""

import difflib
import json
from collections.abc import Iterator, Sequence
from datetime import date, tzinfo

from lodestream_proto.v1.prompts_pb2 import LabelMove, PromptSummary, PromptVersion, PromptVersionMetrics
from rich.text import Text

from services.edge.cli.render.columns import Column, lay_out
from services.edge.cli.render.quantities import cost, count, date_and_time, duration, instants
from services.edge.cli.render.text import clipped, folded, inert, inert_lines

_MARGIN = "  "


def prompt_table(prompts: Sequence[PromptSummary], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a prompt."""
    updated = instants([prompt.updated_at for prompt in prompts], zone, today)
    return lay_out(
        [
            Column(title="name", cells=[Text(inert(prompt.name)) for prompt in prompts], least=20),
            Column(title="type", cells=[Text("chat" if prompt.is_chat else "text") for prompt in prompts], rank=4),
            Column(title="latest", cells=[Text(str(prompt.latest_version)) for prompt in prompts], right=True, rank=1),
            Column(title="labels", cells=[_holders(prompt) for prompt in prompts], rank=2, least=12),
            Column(title="tags", cells=[Text(inert(", ".join(prompt.tags))) for prompt in prompts], rank=5, least=8),
            Column(title="updated", cells=[Text(each, style="dim") for each in updated], rank=3),
            Column(title="", cells=[Text("archived" if its.archived else "", style="yellow") for its in prompts]),
        ],
        width,
    )


def version_table(versions: Sequence[PromptVersion], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a version."""
    created = instants([version.created_at for version in versions], zone, today)
    return lay_out(
        [
            Column(title="version", cells=[Text(str(version.version)) for version in versions], right=True),
            Column(title="created", cells=[Text(each, style="dim") for each in created], rank=3),
            Column(title="by", cells=[Text(inert(version.author)) for version in versions], rank=4, least=8),
            Column(title="labels", cells=[_labels(version) for version in versions], rank=1, least=12),
            Column(title="message", cells=[Text(inert(its.commit_message)) for its in versions], rank=2, least=16),
        ],
        width,
    )


def move_table(moves: Sequence[LabelMove], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a move of a label."""
    moved = instants([move.moved_at for move in moves], zone, today)
    return lay_out(
        [
            Column(title="revision", cells=[Text(str(move.revision)) for move in moves], right=True, rank=3),
            Column(title="label", cells=[Text(inert(move.label), style="green") for move in moves]),
            Column(title="from", cells=[_version(move.from_version) for move in moves], right=True),
            Column(title="to", cells=[_version(move.to_version) for move in moves], right=True),
            Column(title="moved", cells=[Text(each, style="dim") for each in moved], rank=1),
            Column(title="by", cells=[Text(inert(move.author)) for move in moves], rank=2, least=8),
        ],
        width,
    )


def metrics_table(versions: Sequence[PromptVersionMetrics], *, width: int) -> list[Text]:
    """A line a version that was used."""
    scores = sorted({score.name for version in versions for score in version.scores})
    return lay_out(
        [
            Column(title="version", cells=[Text(str(its.version)) for its in versions], right=True),
            Column(title="used", cells=[Text(count(its.generations)) for its in versions], right=True),
            Column(title="errors", cells=[_errors(its.errors) for its in versions], right=True, rank=2),
            Column(title="p50", cells=[Text(duration(its.latency_p50_us)) for its in versions], right=True, rank=3),
            Column(title="p95", cells=[Text(duration(its.latency_p95_us)) for its in versions], right=True, rank=1),
            Column(title="tokens", cells=[_tokens(its) for its in versions], right=True, rank=5),
            Column(title="cost each", cells=[Text(cost(its.cost_usd_avg)) for its in versions], right=True, rank=4),
            *(
                Column(title=inert(name), cells=[_average(its, name) for its in versions], right=True, rank=6 + rank)
                for rank, name in enumerate(scores)
            ),
        ],
        width,
    )


def version_head(version: PromptVersion, *, width: int, zone: tzinfo) -> list[Text]:
    """What is known of a version beside its content."""
    title = Text.assemble((inert(version.name), "bold"), f" version {version.version}  ", _labels(version))
    facts = [
        f"revision {version.revision}" if version.revision else "",
        f"created {date_and_time(version.created_at, zone)}" if version.HasField("created_at") else "",
        f"by {version.author}" if version.author else "",
        f"tags {', '.join(version.tags)}" if version.tags else "",
    ]
    lines = [title, Text(_MARGIN + inert(" · ".join(fact for fact in facts if fact)), style="dim")]
    if version.commit_message:
        lines.append(Text(_MARGIN + inert(version.commit_message)))
    return [clipped(line, width) for line in lines]


def version_content(version: PromptVersion, *, width: int) -> Iterator[Text]:
    """The text or the messages, then the config, folded at `width`."""
    if version.WhichOneof("content") == "chat":
        for item in version.chat.items:
            if item.WhichOneof("kind") == "placeholder":
                yield Text.assemble((f"{_MARGIN}[{inert(item.placeholder)}]", "cyan"), ("  messages go here", "dim"))
            else:
                yield Text(f"{_MARGIN}{inert(item.message.role)}", style="dim")
                yield from _folded(item.message.content, width)
    else:
        yield from _folded(version.text, width)
    if version.config_json not in {"", "{}", "null"}:
        yield Text(f"{_MARGIN}config", style="dim")
        yield from _folded(_config(version), width)


def plain_content(version: PromptVersion) -> str:
    """As a text to be compared or piped: a chat prompt as a JSON array."""
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
    before, after = (f"{its.name} version {its.version}" for its in (old, new))
    return list(difflib.unified_diff(_compared(old), _compared(new), before, after, lineterm=""))


def coloured(diff: Sequence[str]) -> Iterator[Text]:
    """A diff's lines in the usual colours."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for number, line in enumerate(diff):
        yield Text(inert(line), style="bold" if number < 2 else styles.get(line[:1], ""))


def _compared(version: PromptVersion) -> list[str]:
    lines = plain_content(version).splitlines()
    return lines if version.config_json in {"", "{}"} else [*lines, "", "config:", *_config(version).splitlines()]


def _config(version: PromptVersion) -> str:
    try:
        return json.dumps(json.loads(version.config_json), indent=2, ensure_ascii=False, sort_keys=True)
    except ValueError:
        return version.config_json


def _folded(text: str, width: int) -> Iterator[Text]:
    for written in inert_lines(text):
        for line in folded(written, max(width - 2 * len(_MARGIN), 8)):
            yield Text(2 * _MARGIN + line)


def _labels(version: PromptVersion) -> Text:
    return Text(inert(", ".join(version.labels)), style="green")


def _holders(prompt: PromptSummary) -> Text:
    held = [f"{its.label} → {its.version}" for its in prompt.labels if its.label != "latest"]
    return Text(inert(", ".join(held)), style="green")


def _version(number: int) -> Text:
    return Text(str(number)) if number else Text("none", style="dim")


def _errors(number: int) -> Text:
    return Text(count(number), style="red") if number else Text("")


def _tokens(version: PromptVersionMetrics) -> Text:
    return Text(f"{version.input_tokens_avg:,.0f}→{version.output_tokens_avg:,.0f}")


def _average(version: PromptVersionMetrics, name: str) -> Text:
    found = [score.average for score in version.scores if score.name == name]
    return Text(f"{found[0]:.3g}") if found else Text("")
