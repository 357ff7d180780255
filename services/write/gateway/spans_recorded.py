"""The event spans_recorded: how large its requests are when they are opened, and which of their spans can be taken."""

from collections.abc import Iterable
from functools import partial

import zstandard
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded

from services.write.gateway.admission import Room
from services.write.gateway.records import Envelope
from services.write.gateway.refusal import TooMuchError
from services.write.gateway.writing import Checked, check
from shared.runtime.fairness import Turn
from shared.runtime.refusal import InvalidError
from shared.runtime.settings import MIB, GatewaySettings
from shared.spans.blocks import UnreadableBlockError, decompress, opened_bytes

OTLP_REQUEST = "spans_recorded.otlp_request"
_THREAD_BYTES = MIB
_MIN_WINDOW_BYTES = 8 * MIB  # what every decoder of zstd has to support


def opened_total(events: Iterable[object], *, max_bytes: int) -> int:
    """How many bytes the spans of a request's events have when they are decompressed; nothing is kept of them.

    What can't be opened, or is too large alone, counts nothing: it is refused alone, and not opened.
    Raises TooMuchError when they are more than `max_bytes` together.
    """
    total = 0
    for event in events:
        if isinstance(event, Event) and event.WhichOneof("payload") == "spans_recorded":
            total += _size(event.spans_recorded, max_bytes)
            if total > max_bytes:
                raise TooMuchError(f"more than {max_bytes} bytes in one request when they are decompressed")
    return total


async def check_spans(
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


def _size(recorded: SpansRecorded, max_bytes: int) -> int:
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
