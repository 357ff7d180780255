"""Lack of memory is told apart from bad data, whatever a library calls it."""

import subprocess
import sys

import pytest
from google.protobuf.message import DecodeError, EncodeError

from shared.runtime.memory import raise_if_out_of_memory

SCARCE = """
import resource
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from shared.event_log.codec import read
from shared.runtime.memory import raise_if_out_of_memory

spans = [Span(name="x" * 1_000_000) for _ in range(100)]
request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 32 * 1024 * 1024,) * 2)
try:
    request.SerializeToString()
except Exception as error:
    try:
        raise_if_out_of_memory(error)
    except MemoryError:
        print("out of memory:", type(error).__name__)
"""


def chained(cause: Exception) -> Exception:
    error = ValueError("the block can't be opened")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        EncodeError("Failed to serialize proto"),
        chained(MemoryError()),
        chained(RuntimeError("could not allocate: Allocation error : not enough memory")),
    ],
    ids=["itself", "protobuf", "as a cause", "zstd"],
)
def test_an_error_that_comes_from_lack_of_memory_is_raised_as_such(error: Exception) -> None:
    with pytest.raises(MemoryError):
        raise_if_out_of_memory(error)


@pytest.mark.parametrize("error", [DecodeError("Error parsing message"), ValueError("is no UUID"), KeyError("x")])
def test_bad_data_stays_bad_data_while_there_is_memory(error: Exception) -> None:
    raise_if_out_of_memory(error)


def test_a_process_at_its_limit_does_not_blame_the_data() -> None:
    program = subprocess.run([sys.executable, "-c", SCARCE], capture_output=True, text=True, timeout=60, check=False)
    assert program.stdout.startswith("out of memory:"), program.stderr
