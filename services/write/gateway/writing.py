"""From a request's bytes to the log's acknowledgement: the way every span takes, by OTLP or by Record."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.write.gateway import metrics
from services.write.gateway.records import MAX_BLOCK_BYTES, Envelope, split_records
from services.write.gateway.sharing import SMALL_BYTES, Sharing, SmallRequest
from services.write.gateway.validation import RefusedSpan, count_spans, find_faults, part_of, places_of, spans_of
from services.write.gateway.wire import WireError, read_request
from shared.event_log.append import Appender, LogUnavailableError, Record
from shared.event_log.position import Position
from shared.read_model.blocks import compress
from shared.runtime.failpoints import failpoint
from shared.runtime.refusal import Answer, Context, InvalidError, UnavailableError

_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in


@dataclass(frozen=True, slots=True)
class Checked:
    """A request's spans as records, what had to be refused of them, and how many are kept."""

    records: Sequence[Record]
    refused: Sequence[RefusedSpan]
    kept: int
    small: SmallRequest | None = None
    """The request instead of its records, where it may share one."""

    @property
    def spans(self) -> int:
        """All of them."""
        return self.kept + len(self.refused)


def check(
    otlp_request: bytes,
    envelope: Callable[[ExportTraceServiceRequest], Envelope],
    *,
    field: str,
    max_spans: int,
    block: bytes | None = None,
    share: bool = False,
) -> Checked:
    """What can be kept of a request: its bytes as they came, compressed once, unless something must be taken out.

    `block` is the same request as it was sent compressed, if it was. With `share` a small one is not made a record yet.
    Raises InvalidError naming `field` when the bytes are no request, or one of too many spans.
    """
    try:
        request, refused = read_request(otlp_request, max_spans=max_spans)
    except WireError as error:
        raise InvalidError(field, f"is no ExportTraceServiceRequest: {error}") from None
    if (spans := count_spans(request)) > max_spans:
        raise InvalidError(f"{field}.resource_spans", f"{spans} spans in one request; at most {max_spans} are taken")
    if faults := find_faults(request):
        known = {span.place for span in refused}
        refused = sorted([*refused, *(span for span in faults if span.place not in known)], key=lambda span: span.place)
    if len(refused) == spans:
        return Checked((), refused, 0)
    its, whole, left = envelope(request), request, spans - len(refused)
    if refused:
        kept = places_of(request, without={span.place for span in refused})
        whole, block = part_of(request, kept), None
        otlp_request = whole.SerializeToString()
    trace_id = next(spans_of(whole)).trace_id
    if share and len(otlp_request) <= SMALL_BYTES:
        return Checked((), refused, left, SmallRequest(its, otlp_request, left, trace_id))
    block = block or compress(otlp_request)
    if len(block) <= MAX_BLOCK_BYTES:
        return Checked([its.record(trace_id, block, left)], refused, left)
    records, too_large = split_records(request, places_of(request, without={span.place for span in refused}), its)
    refused = sorted([*refused, *too_large], key=lambda span: span.place)
    return Checked(records, refused, spans - len(refused))


async def append_all(appender: Appender, records: Sequence[Record], context: Context, *, most: float) -> list[Position]:
    """Where the records are, once the log has all of them; waits `most` seconds, less if the caller does.

    Raises UnavailableError when it has not: nothing is known to be stored.
    """
    return await _acknowledged(lambda within: appender.append(records, within=within), context, most=most)


async def append_shared(sharing: Sharing, request: SmallRequest, context: Context, *, most: float) -> Position:
    """Where the request is, in a record that it may share; else as `append_all`."""
    return await _acknowledged(lambda within: sharing.append(request, within=within), context, most=most)


async def _acknowledged(append: Callable[[float], Awaitable[Answer]], context: Context, *, most: float) -> Answer:
    remaining = context.time_remaining()
    within = most if remaining is None else min(most, remaining - _ANSWER_SECONDS)
    if within <= 0:
        raise UnavailableError("the call's deadline is too near")
    await failpoint("gateway.checked")
    started = time.perf_counter()
    try:
        answer = await append(within)
    except LogUnavailableError as error:
        raise UnavailableError(str(error)) from error
    metrics.APPEND_SECONDS.observe(time.perf_counter() - started)
    await failpoint("gateway.acked")
    return answer
