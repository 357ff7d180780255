"""In an environment of the matrix, `record.py BACKEND PROGRAM` prints what a program answered and what was recorded.

BACKEND is `opentelemetry` (opentelemetry-sdk with its in-memory exporter) or `lodestream` (what we would have sent, and
beside it what the same in-memory exporter got from our tracer provider).
"""

import asyncio
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=127\.0\.0\.1:)\d+|gen\d+(?=@)")
VOLATILE = {
    "exception.stacktrace",
    "client.port",
    "net.host.port",
    "net.peer.port",
    "network.peer.port",
    "server.port",
    "thread.id",
    "thread.name",
}


def main() -> None:
    backend, program = sys.argv[1:]
    result = {"opentelemetry": under_opentelemetry, "lodestream": under_lodestream}[backend](Path(program))
    print(json.dumps(result))


def under_opentelemetry(program: Path) -> dict[str, Any]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return {"answer": run(program), "spans": exported(exporter)}


def under_lodestream(program: Path) -> dict[str, Any]:
    from lodestream.testing import captured

    exporter = InMemorySpanExporter()
    with captured() as told:
        provider: Any = trace.get_tracer_provider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        answer = run(program)
        sent = told_spans([(span.scope, span.otlp) for span in told.spans])
    return {"answer": answer, "spans": sent, "exported": exported(exporter)}


def run(program: Path) -> Any:
    """What the program's `main` returns."""
    spec = importlib.util.spec_from_file_location("program", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["program"] = module
    spec.loader.exec_module(module)
    answer = module.main()
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


def exported(exporter: InMemorySpanExporter) -> list[dict[str, Any]]:
    """As the OTLP exporter would have encoded them."""
    request = encode_spans(exporter.get_finished_spans())
    return told_spans(
        [
            (f"{scope.scope.name} {scope.scope.version}", span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    )


def told_spans(spans: Iterable[tuple[str, Span]]) -> list[dict[str, Any]]:
    """What has to be equal, in an order of its own."""
    spans = list(spans)
    names = {span.span_id: span.name for _, span in spans}
    told = [
        {
            "scope": scope,
            "name": span.name,
            "kind": span.kind,
            "parent": names.get(span.parent_span_id, "elsewhere") if span.parent_span_id else "",
            "status": [span.status.code, span.status.message],
            "attributes": attributes_of(span),
            "events": [[event.name, attributes_of(event)] for event in span.events],
            "links": [[names.get(link.span_id, "elsewhere"), attributes_of(link)] for link in span.links],
            "duration": span.end_time_unix_nano >= span.start_time_unix_nano > 0,
        }
        for scope, span in spans
    ]
    return sorted(told, key=lambda span: json.dumps(span, sort_keys=True))


def attributes_of(message: Any) -> dict[str, Any]:
    """Without what differs from run to run."""
    pairs = [MessageToDict(pair) for pair in message.attributes]
    told = {pair["key"]: "…" if pair["key"] in VOLATILE else pair.get("value", {}) for pair in pairs}
    return dict(json.loads(RANDOM.sub("…", json.dumps(told))))


if __name__ == "__main__":
    main()
