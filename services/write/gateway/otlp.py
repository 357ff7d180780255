"""OTLP's TraceService/Export (opentelemetry-proto, collector/trace/v1)."""

from collections.abc import Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.refusal import Context, RefusedError, answering
from services.write.gateway.validation import RefusedSpan
from services.write.gateway.writing import append_all, check, producer_of, time_left
from shared.event_log.append import Appender
from shared.event_log.position import to_token

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
POSITION = "lodestream-position"
"""Trailing metadata of the answer: where the spans are in the log."""
_REASONS_SHOWN = 5


class TraceService:
    """Answers OK when the log has every span that is not refused one by one in partial_success."""

    def __init__(self, admission: Admission, appender: Appender, *, append_seconds: float) -> None:
        self._admission = admission
        self._appender = appender
        self._append_seconds = append_seconds

    async def export(self, request: bytes, context: Context) -> bytes:
        """Export, bytes to bytes: what is no request is refused by us, with a reason."""
        return await answering(context, lambda: self._export(request, context))

    async def _export(self, request: bytes, context: Context) -> bytes:
        try:
            project_id = await self._admission.project_of(context)
            with self._admission.hold(project_id, len(request)):
                checked = check(request, project_id, producer_of(context), field="ExportTraceServiceRequest")
                within = time_left(context, self._append_seconds)
                positions = await append_all(self._appender, checked.records, within=within)
        except RefusedError as refused:
            metrics.CALLS.labels("Export", refused.code.name).inc()
            raise
        metrics.CALLS.labels("Export", "OK").inc()
        metrics.SPANS.labels("accepted").inc(checked.kept)
        metrics.SPANS.labels("refused").inc(len(checked.refused))
        if positions:
            context.set_trailing_metadata(((POSITION, to_token(positions)),))
        return ExportTraceServiceResponse(partial_success=_partial(checked.refused)).SerializeToString()


def _partial(refused: Sequence[RefusedSpan]) -> ExportTracePartialSuccess | None:
    if not refused:
        return None
    return ExportTracePartialSuccess(rejected_spans=len(refused), error_message=reasons(refused))


def reasons(refused: Sequence[RefusedSpan]) -> str:
    """The first reasons, each with its field, and how many more there are."""
    shown = "; ".join(f"{span.field}: {span.reason}" for span in refused[:_REASONS_SHOWN])
    more = len(refused) - _REASONS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown
