"""A real OTLP server in this process, that answers as it is told to."""

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EventResult, RecordRequest, RecordResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Answer = Callable[[ExportTraceServiceRequest, Any], ExportTraceServiceResponse]
"""Raises (by aborting the context) or answers."""
Verdict = Callable[[Event], EventResult]
_INGEST = "lodestream_proto.v1.IngestService"
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def taken(*, rejected: int = 0, message: str = "", position: str = "") -> Answer:
    """Take a request; `rejected` spans of it only in words."""

    def answer(_request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        if position:
            context.set_trailing_metadata((("lodestream-position", position),))
        partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
        return ExportTraceServiceResponse(partial_success=partial)

    return answer


def refused(code: grpc.StatusCode, *, retry_after: float | None = None) -> Answer:
    """Refuse a request, with RetryInfo if there is a time after which to come back."""

    def answer(_request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        if retry_after is None:
            context.abort(code, "as scripted")
        status = status_pb2.Status(code=code.value[0], message="as scripted")
        delay = Duration()
        delay.FromNanoseconds(int((retry_after or 0) * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("aborting raises")

    return answer


def refused_with(name: str, code: grpc.StatusCode) -> Answer:
    """Refuse requests that have a span of this name."""

    def answer(request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        return refused(code)(request, context) if name in names_of(request) else ExportTraceServiceResponse()

    return answer


class Collector:
    """`script` has the answers to come, one a request; after it, `otherwise` answers. It takes by default."""

    def __init__(self, port: int = 0) -> None:
        self.script: deque[Answer] = deque()
        self.otherwise: Answer = taken()
        self.requests: list[ExportTraceServiceRequest] = []
        """All that came, refused ones too."""
        self.arrived: list[float] = []
        """When, by time.monotonic."""
        self.metadata: list[dict[str, str]] = []
        self.delivered: Counter[str] = Counter()
        """How often a span of that name was taken."""
        self.ids: dict[str, set[bytes]] = defaultdict(set)
        """The ids of those: what the server keeps once, however often it is delivered."""
        self.events: list[Event] = []
        """All that came by Record."""
        self.verdict: Verdict = accepted
        """On each of them."""
        self.gone = threading.Event()
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        method: Any = grpc.unary_unary_rpc_method_handler(
            self._export, response_serializer=ExportTraceServiceResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": method}),))
        record: Any = grpc.unary_unary_rpc_method_handler(
            self._record,
            request_deserializer=RecordRequest.FromString,
            response_serializer=RecordResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_INGEST, {"Record": record}),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gone.set()
        self._server.stop(None).wait()

    def never(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        """An answer that does not come."""
        while context.is_active() and not self.gone.wait(0.02):
            pass
        return refused(grpc.StatusCode.UNAVAILABLE)(request, context)

    def lost(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        """Take the request, and say that it was not taken."""
        self._take(request)
        return refused(grpc.StatusCode.UNAVAILABLE)(request, context)

    def _export(self, data: bytes, context: Any) -> ExportTraceServiceResponse:
        request = ExportTraceServiceRequest.FromString(data)
        with self._lock:
            self.requests.append(request)
            self.arrived.append(time.monotonic())
            self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata()})
            answer = self.script.popleft() if self.script else self.otherwise
        response = answer(request, context)
        self._take(request)
        return response

    def _record(self, request: RecordRequest, context: Any) -> RecordResponse:
        with self._lock:
            self.events += request.events
            answer = self.script.popleft() if self.script else None
        if answer is not None:
            answer(ExportTraceServiceRequest(), context)
        return RecordResponse(results=map(self.verdict, request.events), position="lodestream.scores:0:7")

    @property
    def kept(self) -> dict[str, int]:
        """How many spans have a name, each counted once."""
        with self._lock:
            return {name: len(ids) for name, ids in self.ids.items()}

    def _take(self, request: ExportTraceServiceRequest) -> None:
        with self._lock:
            for span in spans_of(request):
                self.delivered[span.name] += 1
                self.ids[span.name].add(span.span_id)


def accepted(event: Event) -> EventResult:
    """The server has it."""
    return EventResult(event_id=event.event_id, outcome=EVENT_OUTCOME_ACCEPTED)


def names_of(request: ExportTraceServiceRequest) -> list[str]:
    """Of its spans, in order."""
    return [span.name for span in spans_of(request)]


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """In order."""
    return (span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans)
