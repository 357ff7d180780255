"""What went into each span and what came out, as text."""

import json
from collections.abc import Iterator, Sequence

from lodestream_proto.v1.trace_pb2 import Span, SpanContent
from rich.text import Text

from services.edge.cli.render.looks import named, type_word
from services.edge.cli.render.quantities import duration, micros
from services.edge.cli.render.text import clipped, folded, inert, inert_lines
from services.edge.cli.render.tree import branches

_MARGIN = "  "


def contents(spans: Sequence[Span], *, width: int, most_lines: int | None) -> Iterator[Text]:
    """The content of every span that has any, in the order of the tree, folded at `width`.

    Of each value at most `most_lines` lines; None: all.
    """
    for branch in branches(spans):
        span = branch.span
        body = [*_facts(span, width), *_blocks(span.content, width, most_lines)]
        if body:
            heading = Text.assemble(type_word(span), " ", named(span.name, span.level), (f"  {span.span_id}", "dim"))
            yield from (Text(), clipped(heading, width), *body)


def _blocks(content: SpanContent, width: int, most_lines: int | None) -> Iterator[Text]:
    for label, text in _values(content):
        yield Text(f"{_MARGIN}{label}", style="dim")
        yield from _shown(text, width - 2 * len(_MARGIN), most_lines)


def _facts(span: Span, width: int) -> Iterator[Text]:
    facts = [f"model {span.model}" if span.model else "", span.provider]
    if span.HasField("time_to_first_token_us"):
        facts.append(f"first token after {duration(span.time_to_first_token_us)}")
    if span.prompt_name:
        facts.append(f"prompt {span.prompt_name} version {span.prompt_version}")
    facts += [f"{name} {number:,}" for name, number in sorted(span.usage.items())]
    if line := " · ".join(inert(fact) for fact in facts if fact):
        yield clipped(Text(_MARGIN + line), width)


def _values(content: SpanContent) -> Iterator[tuple[str, str]]:
    """Label and text of everything that was sent."""
    if content.HasField("input"):
        yield "input", content.input
    if content.HasField("output"):
        yield "output", content.output
    for label, text in (
        ("metadata", content.metadata_json),
        ("model parameters", content.model_parameters_json),
        ("attributes", content.attributes_json),
    ):
        if text not in {"", "{}"}:
            yield label, text
    if content.unreadable:
        yield "not read", content.unreadable
    for event in content.events:
        yield f"event {inert(event.name)} at {micros(event.time) / 1e6:.6f}", event.attributes_json


def _shown(text: str, width: int, most_lines: int | None) -> Iterator[Text]:
    lines = [line for written in inert_lines(_readable(text)) for line in folded(written, max(width, 8))]
    for line in lines[:most_lines]:
        yield Text(2 * _MARGIN + line)
    if most_lines is not None and len(lines) > most_lines:
        yield Text(f"{2 * _MARGIN}… {len(lines) - most_lines:,} more lines (--full shows all)", style="dim")


def _readable(text: str) -> str:
    """JSON objects and arrays indented; a JSON string as what it says; anything else as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else text
