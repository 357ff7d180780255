"""Spans on their way into records of the log: checked, compressed once, and cut where one record would be too large."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import zstandard
from google.protobuf.message import DecodeError
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.write.gateway import metrics
from services.write.gateway.admission import Room, TooMuchError
from services.write.gateway.batching import SMALL_BYTES, Sharing, SmallRequest
from services.write.gateway.otlp_request import (
    MAX_MESSAGES,
    Layout,
    Place,
    RefusedSpan,
    TooManySpansError,
    WireError,
    cut,
    find_faults,
    laying_out,
    part_of,
    places_of,
    read_piece,
    read_request,
    reason_of,
    spans_of,
)
from services.write.gateway.records import MAX_BLOCK_BYTES, Envelope, numbered_event_id, split_records, too_large
from shared.event_log.append import Appender, LogUnavailableError, Record
from shared.event_log.position import Position
from shared.event_log.topics import Lane
from shared.runtime.failpoints import failpoint
from shared.runtime.fairness import Turn
from shared.runtime.refusal import Answer, Context, InvalidError, UnavailableError
from shared.runtime.settings import MIB, GatewaySettings
from shared.runtime.wire import TooManyMessagesError, checking_messages
from shared.spans.blocks import UnreadableBlockError, compress, count_spans, decompress, opened_bytes

PIECE_BYTES = 512 * 1024
"""A larger request is handled in pieces of this size, each of which becomes a record."""
PIECE_SPANS = 1_000
"""Also one of more spans: a piece takes some five milliseconds."""
_READ_AT_ONCE_BYTES = 4 * 1024
"""Of a request that is damaged: span by span takes thirty times as long as all together."""
_THREAD_BYTES = MIB
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

    def in_lane(self, lane: Lane) -> "Checked":
        """The same for this lane of the log."""
        records = [replace(record, lane=lane) for record in self.records]
        return replace(self, records=records, small=replace(self.small, lane=lane) if self.small else None)


async def check(
    otlp_request: bytes,
    envelope: Callable[[ExportTraceServiceRequest], Envelope],
    *,
    field: str,
    max_spans: int,
    turn: Turn,
    charge: Callable[[int], None] = lambda _: None,
    block: bytes | None = None,
    share: bool = False,
) -> Checked:
    """What can be kept of a request: its bytes as they came, compressed once, unless something must be taken out.

    A large one is parsed and kept in pieces, with a turn for others after each; what no request of that size holds
    (more spans, more attributes) is refused before it is parsed. `charge` is told the number of spans before they are
    looked at. `block` is the same request as it was sent compressed, if it was. With `share` a small one is not made a
    record yet.
    Raises InvalidError naming `field` when the bytes are no request, or one of too many spans.
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
                return _kept(request, refused, otlp_request, envelope(request), block=block, share=share)
        return await _check_pieces(
            otlp_request, envelope, block=block, fault=fault, max_spans=max_spans, turn=turn, charge=charge
        )
    except WireError as error:
        raise InvalidError(field, f"is no ExportTraceServiceRequest: {error}") from None
    except TooManySpansError:
        why = f"more than {max_spans} spans in one request; at most {max_spans} are taken"
        raise InvalidError(f"{field}.resource_spans", why) from None


def _read(otlp_request: bytes, max_spans: int) -> tuple[ExportTraceServiceRequest, list[RefusedSpan], str]:
    """A request, the spans of it that can't be read, and what is wrong where that is to be found out in pieces."""
    try:
        return ExportTraceServiceRequest.FromString(otlp_request), [], ""
    except DecodeError as error:
        if len(otlp_request) > _READ_AT_ONCE_BYTES:
            return ExportTraceServiceRequest(), [], reason_of(error)
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
) -> Checked:
    """What can be kept of a large request: a record for each piece of it. `fault`: what the parser said of it whole."""
    layout = Layout()
    for _ in laying_out(otlp_request, layout, max_spans=max_spans):
        await turn.give()
    charge(layout.spans)
    refused, unreadable = _with_too_much_around(layout), 0
    records: list[Record] = []
    its: Envelope | None = None
    for piece in cut(otlp_request, layout, max_bytes=PIECE_BYTES, max_spans=PIECE_SPANS):
        whole = piece.spans == layout.spans  # then nothing need be copied
        raw = otlp_request if whole else piece.otlp_request
        try:
            for _ in checking_messages(raw, ExportTraceServiceRequest, most=MAX_MESSAGES):
                await turn.give()
        except TooManyMessagesError as error:
            why = f"holds with its resource {error}"
            refused += [RefusedSpan(place, "", why) for place in piece.places()]
            continue
        if not whole or not block:
            block = await turn.in_thread(compress, raw) if len(raw) > _THREAD_BYTES else None
        request, spoiled = read_piece(raw, max_spans=max_spans)
        its = its or envelope(request)
        checked = _kept(request, spoiled, raw, its, block=block, first=len(records))
        records += checked.records
        unreadable += len(spoiled)
        refused += [replace(span, place=piece.place_of(span.place)) for span in checked.refused]
        await turn.give()
    refused.sort(key=lambda span: span.place)
    if fault and unreadable in (0, layout.spans):  # with none, no span is to blame: the damage is around them
        raise WireError(f"{refused[0].path} {refused[0].reason}" if unreadable else fault)
    return Checked(records, refused, layout.spans - len(refused))


def _with_too_much_around(layout: Layout) -> list[RefusedSpan]:
    """Take the spans out of a layout whose resource and scope are too large to be repeated in each piece."""
    refused, kept = [], []
    for scope in layout.scopes:
        if (size := sum(map(len, scope.around))) <= PIECE_BYTES:
            kept.append(scope)
            continue
        why = f"its resource and scope have {size} bytes; at most {PIECE_BYTES} are taken"
        refused += [RefusedSpan(Place(scope.resource, scope.scope, n), "", why) for n in range(len(scope.spans))]
    layout.scopes = kept
    return refused


def _kept(
    request: ExportTraceServiceRequest,
    unreadable: Sequence[RefusedSpan],
    otlp_request: bytes,
    its: Envelope,
    *,
    block: bytes | None = None,
    share: bool = False,
    first: int = 0,
) -> Checked:
    """What can be kept of a parsed request; `first` is the number of its first record among those of its event."""
    spans, refused = count_spans(request), list(unreadable)
    if faults := find_faults(request):
        known = {span.place for span in refused}
        refused = sorted([*refused, *(span for span in faults if span.place not in known)], key=lambda span: span.place)
    if len(refused) == spans:
        return Checked((), refused, 0)
    whole, left = request, spans - len(refused)
    if refused:
        kept = places_of(request, without={span.place for span in refused})
        whole, block = part_of(request, kept), None
        otlp_request = whole.SerializeToString()
    trace_id = next(spans_of(whole)).trace_id
    if share and len(otlp_request) <= SMALL_BYTES:
        return Checked((), refused, left, SmallRequest(its, otlp_request, left, trace_id))
    block = block or compress(otlp_request)
    if len(block) <= MAX_BLOCK_BYTES:
        one = replace(its, event_id=numbered_event_id(its.event_id, first))
        return Checked([one.record(trace_id, block, left, len(otlp_request))], refused, left)
    places = places_of(request, without={span.place for span in refused})
    if left == 1:
        return Checked((), sorted([*refused, too_large(places[0], block)], key=lambda span: span.place), 0)
    records, alone = split_records(request, places, its, first=first)
    refused = sorted([*refused, *alone], key=lambda span: span.place)
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


OTLP_REQUEST = "spans_recorded.otlp_request"
_MIN_WINDOW_BYTES = 8 * MIB  # what every decoder of zstd has to support


def opened_total(events: Iterable[object], *, max_bytes: int) -> int:
    """How many bytes the spans of a request's events have when they are decompressed; nothing is kept of them.

    What can't be opened, or is too large alone, counts nothing: it is refused alone, and not opened.
    Raises TooMuchError when they are more than `max_bytes` together.
    """
    total = 0
    for event in events:
        if isinstance(event, Event) and event.WhichOneof("payload") == "spans_recorded":
            total += _size_of_block(event.spans_recorded, max_bytes)
            if total > max_bytes:
                raise TooMuchError(f"more than {max_bytes} bytes in one request when they are decompressed")
    return total


async def check_recorded(
    recorded: SpansRecorded, envelope: Envelope, settings: GatewaySettings, *, turn: Turn, room: Room
) -> Checked:
    """What can be kept of its spans.

    Raises InvalidError when there is no request in it, or one without spans or of too many; TooMuchError when there are
    too many with those of the events before.
    """
    checked = await check(
        await _opened(recorded, settings.max_message_bytes, turn),
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


async def _opened(recorded: SpansRecorded, max_bytes: int, turn: Turn) -> bytes:
    """The OTLP request; what a frame says of itself is judged before anything is made room for."""
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


def _size_of_block(recorded: SpansRecorded, max_bytes: int) -> int:
    """How many bytes have to be opened; 0 where that can be refused without opening any."""
    block = recorded.otlp_request
    try:
        _check_frame(recorded, max_bytes)
        return opened_bytes(recorded.compression, block, max_bytes=max_bytes)
    except UnreadableBlockError:  # of what does not say its size so many bytes were read to find out
        unsaid = recorded.compression == COMPRESSION_ZSTD and zstandard.frame_content_size(block) < 0
        return max_bytes if unsaid else 0
    except (InvalidError, zstandard.ZstdError):
        return 0
