"""Our own SDK's attributes. Every value of metadata is JSON text."""

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.sdk_attributes import sdk_dialect
from shared.spans.dialects.values import parse, plain


def metadata_value(value: AnyValue, _source: ReceivedSpan) -> Any:
    """An entry of metadata as it was before it was encoded; what is no JSON stays as it is."""
    encoded = plain(value)
    if not isinstance(encoded, str):
        return encoded
    decoded = parse(encoded)
    return encoded if decoded is None and encoded != "null" else decoded


LODESTREAM = sdk_dialect("lodestream", metadata_value=metadata_value)
