"""The program that sends, by its own word: an SDK's headers, else OpenTelemetry's resource, else the user agent."""

from lodestream_proto.v1.event_pb2 import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.runtime.refusal import Context

_MAX_TEXT = 128
_SDK = {"telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"}


def producer_of(context: Context, request: ExportTraceServiceRequest | None = None) -> Producer:
    """For example "langfuse-python" 5.0.4, "opentelemetry-python" 1.45.2; empty when nothing is told."""
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if name := metadata.get("x-langfuse-sdk-name"):
        return _producer(f"langfuse-{name.removeprefix('langfuse-')}", metadata.get("x-langfuse-sdk-version", ""))
    if name := metadata.get("lodestream-sdk-name"):
        return _producer(name, metadata.get("lodestream-sdk-version", ""))
    if request and request.resource_spans:
        attributes = request.resource_spans[0].resource.attributes
        sdk = {attribute.key: attribute.value.string_value for attribute in attributes if attribute.key in _SDK}
        if name := sdk.get("telemetry.sdk.name"):
            language = sdk.get("telemetry.sdk.language")
            return _producer(f"{name}-{language}" if language else name, sdk.get("telemetry.sdk.version", ""))
    name, _, version = metadata.get("user-agent", "").partition(" ")[0].partition("/")
    return _producer(name, version)


def limited(producer: Producer) -> Producer:
    """With texts of a bearable length."""
    return _producer(producer.name, producer.version)


def _producer(name: str, version: str) -> Producer:
    return Producer(name=name[:_MAX_TEXT], version=version[:_MAX_TEXT])
