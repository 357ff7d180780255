"""Langfuse's SDKs. 4.x writes metadata's strings and integers as they are; since 5.x every value is JSON text."""

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.sdk_attributes import sdk_dialect
from shared.spans.dialects.values import parse, plain

_METADATA = ("langfuse.observation.metadata", "langfuse.trace.metadata", "langfuse.metadata")

_MAJOR_DIGITS = 9
_JSON_SINCE = {"python": 5, "langfuse-python": 5, "javascript": 6, "langfuse-javascript": 6}


def metadata_value(value: AnyValue, source: ReceivedSpan) -> Any:
    """An entry of metadata as it was before the SDK encoded it. Since 5.x strings are JSON too: `"123"` is a string."""
    decoded = plain(value)
    if not isinstance(decoded, str) or not _writes_json(source):
        return decoded
    parsed = parse(decoded)
    return decoded if parsed is None and decoded != "null" else parsed


def _writes_json(source: ReceivedSpan) -> bool:
    """The export's header decides, for spans of other scopes in it too; without one, the scope of the SDK."""
    origin = source.origin
    since = _JSON_SINCE.get(origin.sdk_name)
    version = origin.sdk_version
    if since is None and origin.scope.name == "langfuse-sdk":
        since, version = 5, origin.scope.version
    major = version.partition(".")[0][:_MAJOR_DIGITS]
    return since is not None and major.isdecimal() and int(major) >= since


LANGFUSE = sdk_dialect(
    "langfuse",
    metadata_value=metadata_value,
    more={
        "user_id": tuple(f"{key}.langfuse_user_id" for key in _METADATA),
        "session_id": tuple(f"{key}.langfuse_session_id" for key in _METADATA),
        "tags": tuple(f"{key}.langfuse_tags" for key in _METADATA),
    },
)
