"""The short word and the colour of each span type and level."""

from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.trace_pb2 import Level, Span, SpanType
from rich.text import Text

from services.edge.cli.render.text import escape_control

_TYPES: dict[SpanType.ValueType, tuple[str, str]] = {
    trace_pb2.SPAN_TYPE_GENERATION: ("llm", "magenta"),
    trace_pb2.SPAN_TYPE_RETRIEVER: ("retr", "cyan"),
    trace_pb2.SPAN_TYPE_TOOL: ("tool", "green"),
    trace_pb2.SPAN_TYPE_AGENT: ("agent", "blue"),
    trace_pb2.SPAN_TYPE_EMBEDDING: ("embed", "cyan"),
    trace_pb2.SPAN_TYPE_CHAIN: ("chain", "blue"),
    trace_pb2.SPAN_TYPE_EVALUATOR: ("eval", "yellow"),
    trace_pb2.SPAN_TYPE_GUARDRAIL: ("guard", "yellow"),
    trace_pb2.SPAN_TYPE_EVENT: ("event", "dim"),
}
_LEVELS: dict[Level.ValueType, tuple[str, str]] = {
    trace_pb2.LEVEL_ERROR: ("error", "red"),
    trace_pb2.LEVEL_WARNING: ("warning", "yellow"),
    trace_pb2.LEVEL_DEBUG: ("debug", "dim"),
}


def type_word(span: Span) -> Text:
    """The word of a span's type, at most five letters, in its colour."""
    word, style = _TYPES.get(span.type, ("span", "dim"))
    return Text(word, style=style)


def type_style(span_type: SpanType.ValueType) -> str:
    """The colour of a type's word and bars."""
    return _TYPES.get(span_type, ("", ""))[1]


def level_word(level: Level.ValueType) -> Text:
    """The word of a level in its colour; empty for the default level."""
    return Text(*_LEVELS.get(level, ("", "")))


def styled_name(name: str, level: Level.ValueType) -> Text:
    """A name in its level's colour, or a dim placeholder where there is none yet."""
    return (
        Text(escape_control(name), style=_LEVELS.get(level, ("", ""))[1])
        if name
        else Text("(no name yet)", style="dim")
    )
