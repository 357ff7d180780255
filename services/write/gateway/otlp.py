"""OTLP's TraceService/Export (opentelemetry-proto, collector/trace/v1)."""

from collections.abc import AsyncIterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.batching import Sharing
from services.write.gateway.otlp_request import RefusedSpan
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.spans import Checked, append_all, append_shared, check
from services.write.gateway.write_rpc import producer_of, the_request
from shared.event_log.append import Appender
from shared.event_log.position import Position, to_token
from shared.event_log.topics import Lane
from shared.runtime.refusal import Context, answering
from shared.runtime.settings import GatewaySettings

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
POSITION = "lodestream-position"
"""Trailing metadata of the answer: where the spans are in the log."""
_REASONS_SHOWN = 5


class TraceService:
    """Answers OK when the log has every span that is not refused one by one in partial_success."""

    def __init__(self, settings: GatewaySettings, admission: Admission, appender: Appender) -> None:
        self._settings, self._admission, self._appender = settings, admission, appender
        self._sharing = Sharing(appender, ack_seconds=settings.ack_seconds)

    async def export(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Export, bytes to bytes: what is no request is refused by us, with a reason."""
        return await answering("Export", context, lambda: self._export(requests, context))

    async def _export(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        project_id = await self._admission.admit(context)
        otlp_request = await the_request(requests)
        with self._admission.hold(project_id, len(otlp_request)) as room:
            received_at = Timestamp()
            received_at.GetCurrentTime()

            def envelope(request: ExportTraceServiceRequest) -> Envelope:
                producer = producer_of(context, request)
                return Envelope(project_id, producer, new_event_id(), received_at, received_at)

            async with self._admission.turns.of(project_id) as turn:
                checked = await check(
                    otlp_request,
                    envelope,
                    field="request",
                    max_spans=self._settings.max_spans,
                    turn=turn,
                    charge=room.charge_spans,
                    share=True,
                )
            lane = self._admission.lane(project_id, size=room.size, spans=checked.spans)
            checked = checked.in_lane(lane) if lane is Lane.BULK else checked
            positions = await self._append(checked, context)
        metrics.SPANS.labels("accepted").inc(checked.kept)
        metrics.SPANS.labels("refused").inc(len(checked.refused))
        if positions:
            context.set_trailing_metadata(((POSITION, to_token(positions)),))
        return ExportTraceServiceResponse(partial_success=_partial(checked.refused)).SerializeToString()

    async def _append(self, checked: Checked, context: Context) -> list[Position]:
        most = self._settings.ack_seconds
        if checked.small:
            return [await append_shared(self._sharing, checked.small, context, most=most)]
        return await append_all(self._appender, checked.records, context, most=most)


def _partial(refused: Sequence[RefusedSpan]) -> ExportTracePartialSuccess | None:
    if not refused:
        return None
    reasons = "; ".join(f"{span.path}: {span.reason}" for span in refused[:_REASONS_SHOWN])
    more = f"; and {len(refused) - _REASONS_SHOWN} more" if len(refused) > _REASONS_SHOWN else ""
    return ExportTracePartialSuccess(rejected_spans=len(refused), error_message=reasons + more)
