"""Spans on their way into records of the log: checked, compressed once, and cut where one record would be too large."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import zstandard
from google.protobuf.message import DecodeError
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.write.gateway.admission import Room, TooMuchError
from services.write.gateway.batching import SMALL_BYTES, SmallRequest
from services.write.gateway.otlp_request import (
    MAX_MESSAGES,
    Layout,
    RefusedSpan,
    SpanLocation,
    TooManySpansError,
    WireError,
    cut_pieces,
    find_faults,
    read_piece,
    read_request,
    scan_spans,
    select_spans,
    span_locations,
    spans_of,
)
from services.write.gateway.parsing import decode_reason
from services.write.gateway.records import MAX_BLOCK_BYTES, Envelope, numbered_event_id, span_record
from shared.event_log.append import Record
from shared.event_log.topics import Lane
from shared.runtime.fairness import Turn
from shared.runtime.refusal import InvalidError
from shared.runtime.settings import MIB, GatewaySettings
from shared.runtime.wire import TooManyMessagesError, checking_messages
from shared.spans.blocks import UnreadableBlockError, compress, count_spans, decompress, opened_bytes

OTLP_REQUEST = "spans_recorded.otlp_request"
"""The field of an event that holds an OTLP request."""
PIECE_BYTES = 512 * 1024
"""A larger request is handled in pieces of this size, each of which becomes a record."""
PIECE_SPANS = 1_000
"""A request of more spans is handled in pieces, too: a piece takes some five milliseconds."""
_READ_AT_ONCE_BYTES = 4 * 1024
"""A larger request that is damaged is read in pieces: span by span takes thirty times as long as all together."""
_THREAD_BYTES = MIB
_MIN_WINDOW_BYTES = 8 * MIB  # what every decoder of zstd has to support


@dataclass(frozen=True, slots=True)
class CheckedSpans:
    """A request's spans as records, those that were refused, and how many are kept."""

    records: Sequence[Record]
    refused: Sequence[RefusedSpan]
    kept: int
    small: SmallRequest | None = None
    """The request in place of records, where it may share one with others."""

    @property
    def spans(self) -> int:
        """The number of spans, kept or refused."""
        return self.kept + len(self.refused)

    def in_lane(self, lane: Lane) -> "CheckedSpans":
        """Return the spans for this lane of the log."""
        records = [replace(record, lane=lane) for record in self.records]
        return replace(self, records=records, small=replace(self.small, lane=lane) if self.small else None)


async def check_spans(
    otlp_request: bytes,
    envelope: Callable[[ExportTraceServiceRequest], Envelope],
    *,
    field: str,
    max_spans: int,
    turn: Turn,
    charge: Callable[[int], None] = lambda _: None,
    block: bytes | None = None,
    share: bool = False,
) -> CheckedSpans:
    """Make records of an OTLP request: of its bytes as they came, compressed once, unless spans must be taken out.

    A large request is parsed and kept in pieces, with a turn for others after each; what no request of that size holds
    (more spans, more attributes) is refused before it is parsed.

    Args:
        otlp_request: The bytes of an ExportTraceServiceRequest.
        envelope: Returns the envelope of the request, or of its first piece.
        field: The name of the request in refusals.
        max_spans: The most spans that are taken.
        turn: The share of the event loop that this takes.
        charge: Called with the number of spans before they are looked at; what it raises is passed on.
        block: The request as it was sent compressed, if it was.
        share: Whether a small request may share a record; it is returned as `small` then.

    Raises:
        InvalidError: The bytes are not such a request, or it has too many spans.
    """
    fault = ""
    try:
        if len(otlp_request) <= PIECE_BYTES:
            request, refused, fault = _read(otlp_request, max_spans)
            if (spans := count_spans(request)) > max_spans:
                why = f"{spans} spans in one request; at most {max_spans} are taken"
                raise InvalidError(f"{field}.resource_spans", why)
            if spans <= PIECE_SPANS and not fault:
                charge(spans)
                return _check_parsed(request, refused, otlp_request, envelope(request), block=block, share=share)
        return await _check_pieces(
            otlp_request, envelope, block=block, fault=fault, max_spans=max_spans, turn=turn, charge=charge
        )
    except WireError as error:
        raise InvalidError(field, f"is no ExportTraceServiceRequest: {error}") from None
    except TooManySpansError:
        why = f"more than {max_spans} spans in one request; at most {max_spans} are taken"
        raise InvalidError(f"{field}.resource_spans", why) from None


async def check_spans_recorded(
    recorded: SpansRecorded, envelope: Envelope, settings: GatewaySettings, *, turn: Turn, room: Room
) -> CheckedSpans:
    """Make records of the OTLP request in an event.

    Raises InvalidError when there is no request in it, or one without spans or of too many; TooMuchError when there are
    too many with those of the events before.
    """
    checked = await check_spans(
        await _decompress(recorded, settings.max_message_bytes, turn),
        lambda _: envelope,
        field=OTLP_REQUEST,
        max_spans=settings.max_spans,
        turn=turn,
        charge=room.charge_spans,
        block=recorded.otlp_request if recorded.compression == COMPRESSION_ZSTD else None,
    )
    if not checked.spans:
        raise InvalidError(OTLP_REQUEST, "has no spans")
    return checked


def opened_total(events: Iterable[object], *, max_bytes: int) -> int:
    """Return how many bytes the spans of a request's events have when they are decompressed, without keeping them.

    What can't be decompressed, or is too large alone, counts nothing: it is refused alone, and not decompressed.
    Raises TooMuchError when they are more than `max_bytes` together.
    """
    total = 0
    for event in events:
        if isinstance(event, Event) and event.WhichOneof("payload") == "spans_recorded":
            total += _opened_size(event.spans_recorded, max_bytes)
            if total > max_bytes:
                raise TooMuchError(f"more than {max_bytes} bytes in one request when they are decompressed")
    return total


def _read(otlp_request: bytes, max_spans: int) -> tuple[ExportTraceServiceRequest, list[RefusedSpan], str]:
    """Return a request, its unreadable spans, and the parser's objection where these are to be found in pieces."""
    try:
        return ExportTraceServiceRequest.FromString(otlp_request), [], ""
    except DecodeError as error:
        if len(otlp_request) > _READ_AT_ONCE_BYTES:
            return ExportTraceServiceRequest(), [], decode_reason(error)
        return *read_request(otlp_request, max_spans=max_spans), ""


async def _check_pieces(
    otlp_request: bytes,
    envelope: Callable[[ExportTraceServiceRequest], Envelope],
    *,
    block: bytes | None,
    fault: str,
    max_spans: int,
    turn: Turn,
    charge: Callable[[int], None],
) -> CheckedSpans:
    """Make a record of each piece of a large request; `fault` is the parser's objection to it as a whole, if any."""
    layout = Layout()
    for _ in scan_spans(otlp_request, layout, max_spans=max_spans):
        await turn.give()
    charge(layout.spans)
    refused, unreadable = _take_out_wrapped_in_too_much(layout), 0
    records: list[Record] = []
    event: Envelope | None = None
    for piece in cut_pieces(otlp_request, layout, max_bytes=PIECE_BYTES, max_spans=PIECE_SPANS):
        is_whole = piece.spans == layout.spans  # then nothing need be copied
        raw = otlp_request if is_whole else piece.otlp_request
        try:
            for _ in checking_messages(raw, ExportTraceServiceRequest, most=MAX_MESSAGES):
                await turn.give()
        except TooManyMessagesError as error:
            why = f"holds with its resource {error}"
            refused += [RefusedSpan(location, "", why) for location in piece.locations()]
            continue
        if not is_whole or not block:
            block = await turn.in_thread(compress, raw) if len(raw) > _THREAD_BYTES else None
        request, spoiled = read_piece(raw, max_spans=max_spans)
        event = event or envelope(request)
        checked = _check_parsed(request, spoiled, raw, event, block=block, first=len(records))
        records += checked.records
        unreadable += len(spoiled)
        refused += [replace(span, location=piece.in_whole(span.location)) for span in checked.refused]
        await turn.give()
    refused.sort(key=_location)
    if fault and unreadable in (0, layout.spans):  # with none, no span is to blame: the damage is around them
        raise WireError(f"{refused[0].path} {refused[0].reason}" if unreadable else fault)
    return CheckedSpans(records, refused, layout.spans - len(refused))


def _take_out_wrapped_in_too_much(layout: Layout) -> list[RefusedSpan]:
    """Take the spans out of a layout whose resource and scope are too large to be repeated in each piece."""
    refused, kept = [], []
    for scope in layout.scopes:
        if (size := sum(map(len, scope.around))) <= PIECE_BYTES:
            kept.append(scope)
            continue
        why = f"its resource and scope have {size} bytes; at most {PIECE_BYTES} are taken"
        refused += [RefusedSpan(SpanLocation(scope.resource, scope.scope, n), "", why) for n in range(len(scope.spans))]
    layout.scopes = kept
    return refused


def _check_parsed(
    request: ExportTraceServiceRequest,
    unreadable: Sequence[RefusedSpan],
    otlp_request: bytes,
    envelope: Envelope,
    *,
    block: bytes | None = None,
    share: bool = False,
    first: int = 0,
) -> CheckedSpans:
    """Make records of a parsed request, the first of which has the number `first` among those of its event."""
    spans, refused = count_spans(request), list(unreadable)
    if faults := find_faults(request):
        spoiled = {span.location for span in refused}
        refused = sorted([*refused, *(span for span in faults if span.location not in spoiled)], key=_location)
    if len(refused) == spans:
        return CheckedSpans((), refused, 0)
    whole, left = request, spans - len(refused)
    if refused:
        kept = span_locations(request, without={span.location for span in refused})
        whole, block = select_spans(request, kept), None
        otlp_request = whole.SerializeToString()
    trace_id = next(spans_of(whole)).trace_id
    if share and len(otlp_request) <= SMALL_BYTES:
        return CheckedSpans((), refused, left, SmallRequest(envelope, otlp_request, left, trace_id))
    block = block or compress(otlp_request)
    if len(block) <= MAX_BLOCK_BYTES:
        numbered = replace(envelope, event_id=numbered_event_id(envelope.event_id, first))
        record = span_record(numbered, trace_id, block, spans=left, opened_bytes=len(otlp_request))
        return CheckedSpans([record], refused, left)
    locations = span_locations(request, without={span.location for span in refused})
    if left == 1:
        return CheckedSpans((), sorted([*refused, _too_large(locations[0], block)], key=_location), 0)
    records, alone = _split_records(request, locations, envelope, first=first)
    refused = sorted([*refused, *alone], key=_location)
    return CheckedSpans(records, refused, spans - len(refused))


def _split_records(
    request: ExportTraceServiceRequest, locations: Sequence[SpanLocation], envelope: Envelope, *, first: int
) -> tuple[list[Record], list[RefusedSpan]]:
    """Halve these spans of a request until each record has room; also return those that are too large even alone."""
    records: list[Record] = []
    refused: list[RefusedSpan] = []
    waiting = [locations] if locations else []
    while waiting:
        selected = waiting.pop()
        part = select_spans(request, selected)
        opened = part.SerializeToString()
        block = compress(opened)
        if len(block) <= MAX_BLOCK_BYTES:
            numbered = replace(envelope, event_id=numbered_event_id(envelope.event_id, first + len(records)))
            trace_id = next(spans_of(part)).trace_id
            records.append(span_record(numbered, trace_id, block, spans=len(selected), opened_bytes=len(opened)))
        elif len(selected) == 1:
            refused.append(_too_large(selected[0], block))
        else:
            middle = len(selected) // 2
            waiting += [selected[middle:], selected[:middle]]
    return records, refused


def _too_large(location: SpanLocation, block: bytes) -> RefusedSpan:
    reason = f"has {len(block)} bytes with its resource, compressed; a record takes {MAX_BLOCK_BYTES}"
    return RefusedSpan(location, "", reason)


def _location(span: RefusedSpan) -> SpanLocation:
    return span.location


async def _decompress(recorded: SpansRecorded, max_bytes: int, turn: Turn) -> bytes:
    """Return the OTLP request; what a zstd frame says of itself is checked before memory is allocated for it."""
    try:
        _check_frame(recorded, max_bytes)
        size = opened_bytes(recorded.compression, recorded.otlp_request, max_bytes=max_bytes)
        open_it = partial(decompress, recorded.compression, max_bytes=max_bytes)
        if size > _THREAD_BYTES:
            return await turn.in_thread(open_it, recorded.otlp_request)
        return open_it(recorded.otlp_request)
    except zstandard.ZstdError as error:
        raise InvalidError(OTLP_REQUEST, f"is not zstd: {error}") from None
    except UnreadableBlockError as error:
        raise InvalidError(OTLP_REQUEST, str(error).removeprefix("otlp_request ")) from None


def _check_frame(recorded: SpansRecorded, max_bytes: int) -> None:
    if recorded.compression == COMPRESSION_ZSTD:
        window = zstandard.get_frame_parameters(recorded.otlp_request).window_size
        if window > max(max_bytes, _MIN_WINDOW_BYTES):
            raise InvalidError(OTLP_REQUEST, f"needs a window of {window} bytes")


def _opened_size(recorded: SpansRecorded, max_bytes: int) -> int:
    """Return how many bytes have to be decompressed; 0 where that can be refused without doing so."""
    block = recorded.otlp_request
    try:
        _check_frame(recorded, max_bytes)
        return opened_bytes(recorded.compression, block, max_bytes=max_bytes)
    except UnreadableBlockError:  # to find out the size of a frame without one, so many bytes were read
        has_no_size = recorded.compression == COMPRESSION_ZSTD and zstandard.frame_content_size(block) < 0
        return max_bytes if has_no_size else 0
    except (InvalidError, zstandard.ZstdError):
        return 0
