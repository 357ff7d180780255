"""Traceloop's OpenLLMetry: `traceloop.*` beside the GenAI attributes."""

from lodestream_proto.v1.trace_pb2 import SPAN_TYPE_AGENT, SPAN_TYPE_CHAIN, SPAN_TYPE_SPAN, SPAN_TYPE_TOOL

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.dialect import Attributes, Dialect, Extractor
from shared.spans.dialects.values import Cleaner, text_of

_KIND = "traceloop.span.kind"
_KINDS = {"workflow": SPAN_TYPE_CHAIN, "task": SPAN_TYPE_SPAN, "agent": SPAN_TYPE_AGENT, "tool": SPAN_TYPE_TOOL}
_PROPERTIES = "traceloop.association.properties"


def _type_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> int | None:
    return _KINDS.get(text_of(found[_KIND], clean) or "")


TRACELOOP = Dialect(
    name="traceloop",
    type=Extractor(read=_type_of, keys=(_KIND,)),
    span_name=("traceloop.entity.name",),
    trace_name=("traceloop.workflow.name",),
    user_id=(f"{_PROPERTIES}.user_id",),
    session_id=(f"{_PROPERTIES}.session_id",),
    prompt_name=("traceloop.prompt.key",),
    prompt_version=("traceloop.prompt.version",),
    input=("traceloop.entity.input",),
    output=("traceloop.entity.output",),
    metadata=(_PROPERTIES,),
)
