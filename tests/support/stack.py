"""The whole way of a span, as processes on real servers, and how tests speak to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub
from lodestream_proto.v1.ingest_pb2 import RecordRequest, RecordResponse
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.all_in_one.processes import Process
from shared.auth.keys import NewKey

if TYPE_CHECKING:  # a name of the type stubs only
    from lodestream_proto.v1.query_pb2_grpc import QueryServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Stack:
    """A gateway with a projection and a query service behind it, and the keys of two projects."""

    dsn: str
    """The owner's, of the database."""
    channel: grpc.aio.Channel
    keys: dict[str, NewKey]
    """By what tests call their projects."""
    gateway: Process
    query_service: Process

    @property
    def address(self) -> str:
        """The gateway's host:port."""
        return self.gateway.command.address

    def metadata(self, project: str = "acme") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[project].secret_key}"),)

    @property
    def query(self) -> "QueryServiceAsyncStub":
        return QueryServiceStub(self.channel)

    @property
    def scores(self) -> Any:
        return ScoreServiceStub(self.channel)

    @property
    def prompts(self) -> Any:
        return PromptServiceStub(self.channel)

    @property
    def datasets(self) -> Any:
        return DatasetServiceStub(self.channel)

    @property
    def experiments(self) -> Any:
        return ExperimentServiceStub(self.channel)

    async def ask(self, method: Any, request: Any, *, project: str = "acme") -> Any:
        """What a method of any stub answers to the project."""
        return await method(request, metadata=self.metadata(project), timeout=15)

    async def record(self, *events: Event, project: str = "acme") -> RecordResponse:
        stub: Any = IngestServiceStub(self.channel)
        answer: RecordResponse = await stub.Record(
            RecordRequest(events=events), metadata=self.metadata(project), timeout=15
        )
        return answer

    async def export(self, *spans: Span, project: str = "acme") -> str:
        request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
        stub: Any = TraceServiceStub(self.channel)  # type: ignore[no-untyped-call]
        call = stub.Export(request, metadata=self.metadata(project), timeout=15)
        answer = await call
        assert not answer.partial_success.rejected_spans
        return str(dict(await call.trailing_metadata() or ())["lodestream-position"])

    async def get(self, number: int, *, project: str = "acme", **options) -> pb.GetTraceResponse:
        request = pb.GetTraceRequest(trace_id=number.to_bytes(16, "big").hex(), **options)
        return await self.query.GetTrace(request, metadata=self.metadata(project), timeout=15)

    async def list(self, *, project: str = "acme", **options) -> pb.ListTracesResponse:
        return await self.query.ListTraces(pb.ListTracesRequest(**options), metadata=self.metadata(project), timeout=15)


def waiting(token: str) -> pb.WaitFor:
    return pb.WaitFor(position=token, timeout_ms=10_000)
