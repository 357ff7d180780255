"""A program that knows only OpenTelemetry: an OTLP exporter pointed at the gateway is all that Lodestream needs.

    make up                                             # in another terminal
    .venv/bin/python examples/plain_opentelemetry.py

The spans follow OpenTelemetry's conventions for generative AI, so models, tokens and costs are understood. At the end
the command line shows what has arrived.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ENDPOINT = os.environ.get("LODESTREAM_ENDPOINT", "127.0.0.1:4317")
SECRET_KEY = os.environ.get("LODESTREAM_SECRET_KEY", "sk-ls-local")  # the key of a stack that `make up` started


def main() -> None:
    """Trace one question, deliver it, and say where to look."""
    exporter = OTLPSpanExporter(
        endpoint=f"http://{ENDPOINT}", headers={"authorization": f"Bearer {SECRET_KEY}"}, insecure=True
    )
    provider = TracerProvider(resource=Resource({"service.name": "travel-guide", "service.version": "1.4.0"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("examples.plain_opentelemetry")

    with tracer.start_as_current_span(
        "travel-question", attributes={"user.id": "grace", "session.id": "trip-7"}
    ) as root:
        answer(tracer, "What should I see in Lisbon in one day?")

    provider.shutdown()  # exports what is left
    show(f"{root.get_span_context().trace_id:032x}")


def answer(tracer: trace.Tracer, question: str) -> str:
    """A call of a model, told in the conventions for generative AI."""
    request: dict[str, str | float] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.input.messages": f'[{{"role": "user", "parts": [{{"type": "text", "content": "{question}"}}]}}]',
    }
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT, attributes=request) as span:
        text = "Belém in the morning, the Alfama in the afternoon, fado in the evening."
        span.set_attribute(
            "gen_ai.output.messages",
            f'[{{"role": "assistant", "parts": [{{"type": "text", "content": "{text}"}}], "finish_reason": "stop"}}]',
        )
        span.set_attribute("gen_ai.usage.input_tokens", 17)
        span.set_attribute("gen_ai.usage.output_tokens", 19)
        return text


def show(trace_id: str) -> None:
    """Let the command line draw the trace, as soon as the projection has it."""
    command = [str(Path(sys.executable).with_name("lodestream")), "traces", "get", trace_id, "--content"]
    print("$ lodestream", *command[1:], flush=True)
    deadline = time.monotonic() + 10
    while subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode and time.monotonic() < deadline:  # noqa: S603
        time.sleep(0.1)


if __name__ == "__main__":
    main()
