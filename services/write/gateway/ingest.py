"""IngestService: events in, a result for each; on single calls or on one open stream."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TypeVar

from google.protobuf.message import DecodeError
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import (
    EVENT_OUTCOME_ACCEPTED,
    EVENT_OUTCOME_REFUSED,
    EventResult,
    RecordRequest,
    RecordResponse,
    StreamRequest,
    StreamResponse,
    StreamRetry,
)

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.records import SpansRecord
from services.write.gateway.refusal import Context, RefusedError, answering, invalid
from services.write.gateway.writing import append_all, check, producer_of, time_left
from shared.event_log.append import Appender
from shared.event_log.position import to_token
from shared.read_model.blocks import UnreadableBlockError, decompress

SERVICE = "lodestream_proto.v1.IngestService"
Parsed = TypeVar("Parsed", RecordRequest, StreamRequest)
_MAX_EVENT_ID = 128
_OTLP_REQUEST = "spans_recorded.otlp_request"


class IngestService:
    """Answers when the log has every accepted event."""

    def __init__(
        self, admission: Admission, appender: Appender, *, append_seconds: float, max_opened_bytes: int
    ) -> None:
        """`max_opened_bytes` bounds an event's spans when decompressed."""
        self._admission = admission
        self._appender = appender
        self._append_seconds = append_seconds
        self._max_opened_bytes = max_opened_bytes

    async def record(self, request: bytes, context: Context) -> bytes:
        """Record, bytes to bytes."""

        async def answer() -> bytes:
            parsed = _parse(RecordRequest, request)
            project_id = await self._admission.project_of(context)
            return (await self._record(parsed, len(request), project_id, context)).SerializeToString()

        return await answering(context, answer)

    async def stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Stream, bytes to bytes: one request after the other, so what is under way is one request a stream."""
        async for request in requests:
            yield await answering(context, partial(self._answer, request, context))

    async def _answer(self, request: bytes, context: Context) -> bytes:
        parsed = _parse(StreamRequest, request)
        project_id = await self._admission.project_of(context)
        try:
            recorded = await self._record(parsed.record, len(request), project_id, context)
        except RefusedError as refused:
            if refused.retry_seconds is None:
                raise
            retry = StreamRetry(reason=refused.reason, retry_after_ms=int(refused.retry_seconds * 1000))
            return StreamResponse(retry=retry).SerializeToString()
        return StreamResponse(recorded=recorded).SerializeToString()

    async def _record(self, request: RecordRequest, size: int, project_id: str, context: Context) -> RecordResponse:
        try:
            with self._admission.hold(project_id, size):
                checked = [self._check(event, project_id, context) for event in request.events]
                records = [record for _, its in checked for record in its]
                within = time_left(context, self._append_seconds)
                positions = await append_all(self._appender, records, within=within)
        except RefusedError as refused:
            metrics.CALLS.labels("Record", refused.code.name).inc()
            raise
        metrics.CALLS.labels("Record", "OK").inc()
        return RecordResponse(results=[result for result, _ in checked], position=to_token(positions))

    def _check(self, event: Event, project_id: str, context: Context) -> tuple[EventResult, Sequence[SpansRecord]]:
        """The result an event will have once its records are in the log."""
        try:
            if len(event.event_id) > _MAX_EVENT_ID:
                raise invalid("event_id", f"has more than {_MAX_EVENT_ID} characters")
            kind = event.WhichOneof("payload")
            if kind != "spans_recorded":
                raise invalid(kind or "payload", "this server takes spans_recorded by Record, and no other kind yet")
            checked = check(
                self._opened(event),
                project_id,
                event.producer if event.HasField("producer") else producer_of(context),
                field=_OTLP_REQUEST,
                event_id=event.event_id,
                occurred_at=event.occurred_at if event.HasField("occurred_at") else None,
            )
        except RefusedError as refused:
            field, _, reason = refused.reason.partition(": ")
            return EventResult(event_id=event.event_id, outcome=EVENT_OUTCOME_REFUSED, field=field, reason=reason), ()
        metrics.SPANS.labels("accepted").inc(checked.kept)
        metrics.SPANS.labels("refused").inc(len(checked.refused))
        first = checked.refused[0] if checked.refused else None
        return EventResult(
            event_id=checked.records[0].event.event_id if checked.records else event.event_id,
            outcome=EVENT_OUTCOME_ACCEPTED if checked.records else EVENT_OUTCOME_REFUSED,
            field=f"{_OTLP_REQUEST}.{first.field}" if first else "",
            reason=first.reason if first else "" if checked.records else "there are no spans in it",
            rejected_spans=len(checked.refused),
        ), checked.records

    def _opened(self, event: Event) -> bytes:
        recorded = event.spans_recorded
        try:
            return decompress(recorded.compression, recorded.otlp_request, max_bytes=self._max_opened_bytes)
        except UnreadableBlockError as error:
            raise invalid(_OTLP_REQUEST, str(error)) from None


def _parse(message: type[Parsed], request: bytes) -> Parsed:
    try:
        return message.FromString(request)
    except DecodeError as error:
        raise invalid(message.__name__, f"the bytes are not one: {error}") from None
