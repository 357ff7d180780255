"""OTLP's TraceService/Export (opentelemetry-proto, collector/trace/v1)."""

from collections.abc import Sequence

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from services.write.gateway import metrics
from services.write.gateway.batching import RequestBatcher
from services.write.gateway.otlp_request import RefusedSpan
from services.write.gateway.records import Envelope, new_event_id, producer_of
from services.write.gateway.spans import CheckedSpans, check_spans
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.event_log.position import to_token
from shared.event_log.topics import Lane

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
POSITION = "lodestream-position"
"""Trailing metadata of the response: the position of the spans in the log."""
_REASONS_SHOWN = 5


class TraceService:
    """Answers OK when the log has every span that is not refused by itself in partial_success."""

    def __init__(self, rpcs: WriteRpcs) -> None:
        self._rpcs = rpcs
        self._batcher = RequestBatcher(rpcs.appender, ack_seconds=rpcs.settings.ack_seconds)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return every method of the service, from bytes to bytes: our reasons stand beside protobuf's refusals."""
        # OTLP's clients drop the data on a bare RESOURCE_EXHAUSTED, and send it again on UNAVAILABLE with RetryInfo.
        export = self._rpcs.unary("Export", self._export, over_quota=grpc.StatusCode.UNAVAILABLE)
        return grpc.method_handlers_generic_handler(SERVICE, {"Export": export})

    async def _export(self, call: WriteCall) -> ExportTraceServiceResponse:
        """Record spans.

        Args:
            call: An ExportTraceServiceRequest of at most `max_spans` spans.

        Returns:
            The number of refused spans and the first reasons; the trailing metadata `lodestream-position` names the
            position of the others.

        Raises:
            InvalidError: The bytes are not such a request, or it has too many spans.
            UnavailableError: The gateway or the log takes nothing now: nothing is known to be stored.
        """
        admission, settings = self._rpcs.admission, self._rpcs.settings
        with call.hold_room() as room:
            received_at = Timestamp()
            received_at.GetCurrentTime()

            def envelope(request: ExportTraceServiceRequest) -> Envelope:
                producer = producer_of(call.context, request)
                return Envelope(call.project_id, producer, new_event_id(), received_at, received_at)

            async with admission.turns.of(call.project_id) as turn:
                checked = await check_spans(
                    call.request,
                    envelope,
                    field="request",
                    max_spans=settings.max_spans,
                    turn=turn,
                    charge=room.charge_spans,
                    share=True,
                )
            lane = admission.lane(call.project_id, size=room.size, spans=checked.spans)
            checked = checked.in_lane(lane) if lane is Lane.BULK else checked
            position = await self._append(call, checked)
        metrics.SPANS.labels("accepted").inc(checked.kept)
        metrics.SPANS.labels("refused").inc(len(checked.refused))
        if position:
            call.context.set_trailing_metadata(((POSITION, position),))
        return ExportTraceServiceResponse(partial_success=_partial_success(checked.refused))

    async def _append(self, call: WriteCall, checked: CheckedSpans) -> str:
        small = checked.small
        if small is None:
            return await call.append(checked.records)
        return to_token([await call.acknowledged(lambda within: self._batcher.append(small, within=within))])


def _partial_success(refused: Sequence[RefusedSpan]) -> ExportTracePartialSuccess | None:
    if not refused:
        return None
    reasons = "; ".join(f"{span.path}: {span.reason}" for span in refused[:_REASONS_SHOWN])
    more = f"; and {len(refused) - _REASONS_SHOWN} more" if len(refused) > _REASONS_SHOWN else ""
    return ExportTracePartialSuccess(rejected_spans=len(refused), error_message=reasons + more)
