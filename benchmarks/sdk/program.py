"""The traced program: `program.py SDK CALLS RATE` calls an observed function and prints what it cost.

RATE is calls a second, 0 as many as can be.

Imports nothing of ours but the SDK that is measured: it also runs in interpreters that have only a peer's.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

ARGUMENT, RESULT = "a" * 1_500, "b" * 800
PER_TRACE = 5
Prepared = tuple[Callable[[str], str], Callable[[], Any], Callable[[], float]]
"""The traced function; what delivers all so far; what delivers all, ends, and tells how many were delivered."""


def work(_text: str) -> str:
    return RESULT


def prepare_none() -> Prepared:
    return work, lambda: None, lambda: 0.0


def prepare_lodestream() -> Prepared:
    from lodestream import get_client, observe

    client = get_client()

    def finish() -> float:
        receipt = client.shutdown()
        return receipt.delivered

    return observe(work), client.flush, finish


def prepare_opentelemetry() -> Prepared:
    """The API by hand, with both payloads as attributes."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"http://{os.environ['LODESTREAM_ENDPOINT']}", insecure=True, timeout=2)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("benchmark")

    def traced(text: str) -> str:
        with tracer.start_as_current_span("work") as span:
            span.set_attribute("input", json.dumps({"text": text}))
            result = work(text)
            span.set_attribute("output", json.dumps(result))
            return result

    def finish() -> float:
        provider.shutdown()
        return float("nan")

    return traced, provider.force_flush, finish


def prepare_langfuse() -> Prepared:
    from langfuse import get_client, observe

    client = get_client()

    def finish() -> float:
        client.shutdown()
        return float("nan")

    return observe(work), client.flush, finish


def main() -> None:
    name, calls, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    call, flush, finish = globals()[f"prepare_{name}"]()
    for _ in range(50):
        call(ARGUMENT)
    if not os.environ["LODESTREAM_ENDPOINT"].endswith(":1"):  # there is a server
        flush()  # what is imported and connected once is not of the calls
    cpu_before, in_calls = time.process_time(), 0.0
    begun = time.perf_counter()
    for number in range(0, calls, PER_TRACE):
        ahead = begun + number / rate - time.perf_counter() if rate else 0
        if ahead > 0:
            time.sleep(ahead)
        before = time.perf_counter()
        for _ in range(PER_TRACE):
            call(ARGUMENT)
        in_calls += time.perf_counter() - before
    delivered = finish()
    cpu = time.process_time() - cpu_before
    print(
        json.dumps(
            {
                "caller_us": 1e6 * in_calls / calls,
                "process_us": 1e6 * cpu / calls,
                "delivered": delivered,
            }
        )
    )


if __name__ == "__main__":
    main()
