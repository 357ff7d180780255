"""A gateway seen from outside: a project with a key, requests, refusals, and what is then in the log."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import urlopen

import asyncpg
import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from shared.auth.keys import NewKey, create_key, create_project
from shared.event_log.codec import LogRecord
from shared.event_log.position import from_token
from shared.spans.blocks import open_block
from shared.storage.postgres import SEARCH_PATH
from tests.support.log_access import read_at

MODULE = "services.write.gateway"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Metadata = tuple[tuple[str, str], ...]


async def new_key(database: str, project_id: str = "acme") -> NewKey:
    """A key of a project, both made."""
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    try:
        await create_project(connection, project_id, project_id)
        return await create_key(connection, project_id)
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Door:
    """A gateway and the key of a project."""

    channel: grpc.aio.Channel
    key: NewKey
    dsn: str
    kafka: str

    def with_key(self, key: NewKey) -> "Door":
        """The same for another key."""
        return replace(self, key=key)

    @property
    def bearer(self) -> Metadata:
        """The key as metadata."""
        return bearer(self.key)

    @property
    def ingest(self) -> Any:
        """The native service's stub."""
        return IngestServiceStub(self.channel)

    async def export(self, request: ExportTraceServiceRequest, **options: Any) -> tuple[Any, str]:
        """The answer and the position token."""
        stub: Any = TraceServiceStub(self.channel)  # type: ignore[no-untyped-call]
        call = stub.Export(request, **{"metadata": self.bearer, "timeout": 15, **options})
        answer = await call
        trailing = dict(await call.trailing_metadata() or ())
        return answer, str(trailing.get("lodestream-position", ""))

    async def export_bytes(self, request: bytes, **options: Any) -> bytes:
        """The answer's bytes to any bytes."""
        call: Any = self.channel.unary_unary(EXPORT)
        answer: bytes = await call(request, **{"metadata": self.bearer, "timeout": 15, **options})
        return answer

    async def at(self, token: str) -> list[LogRecord]:
        """The records that a position names."""
        return [await read_at(self.kafka, position) for position in from_token(token)]


@asynccontextmanager
async def opened(address: str, key: NewKey, *, dsn: str = "", kafka: str = "") -> AsyncIterator[Door]:
    """A connection to a gateway."""
    options = (("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Door(channel, key, dsn, kafka)


def bearer(key: NewKey) -> Metadata:
    """A key as metadata."""
    return (("authorization", f"Bearer {key.secret_key}"),)


def request_of(*spans: Span) -> ExportTraceServiceRequest:
    """One resource, one scope, these spans."""
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


def spans_in(record: LogRecord) -> list[Span]:
    """The spans of a record."""
    assert record.event is not None
    recorded = record.event.spans_recorded
    request = open_block(recorded.compression, recorded.otlp_request)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """The error a call ends with; fails when it ends well."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    """Seconds, from RetryInfo; fails when there is none."""
    trailing = dict(error.trailing_metadata() or ())
    info = RetryInfo()
    status = trailing["grpc-status-details-bin"]
    assert isinstance(status, bytes)
    assert Status.FromString(status).details[0].Unpack(info)
    return float(info.retry_delay.ToMilliseconds()) / 1000


def metric(address: str, name: str, *, missing: float | None = None) -> float:
    """The value of a metric, or `missing`; `name` is a pattern, labels included."""
    with urlopen(f"http://{address}/metrics") as page:
        found = re.search(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)
    if found is None and missing is not None:
        return missing
    assert found, name
    return float(found[1])
