"""The event spans_recorded: which of its spans can be taken."""

import zstandard
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded

from services.write.gateway.records import Envelope
from services.write.gateway.writing import Checked, check
from shared.read_model.blocks import UnreadableBlockError, decompress
from shared.runtime.refusal import InvalidError
from shared.runtime.settings import GatewaySettings

OTLP_REQUEST = "spans_recorded.otlp_request"


def check_spans(recorded: SpansRecorded, envelope: Envelope, settings: GatewaySettings) -> Checked:
    """What can be kept of its spans.

    Raises InvalidError when there is no request in it, or one without spans or of too many.
    """
    checked = check(
        _opened(recorded, settings.max_message_bytes),
        lambda _: envelope,
        field=OTLP_REQUEST,
        max_spans=settings.max_spans,
        block=recorded.otlp_request if recorded.compression == COMPRESSION_ZSTD else None,
    )
    if not checked.spans:
        raise InvalidError(OTLP_REQUEST, "has no spans")
    return checked


def _opened(recorded: SpansRecorded, max_bytes: int) -> bytes:
    """The OTLP request; what a frame says of itself is judged before anything is made room for."""
    block = recorded.otlp_request
    try:
        if recorded.compression == COMPRESSION_ZSTD:
            frame = zstandard.get_frame_parameters(block)
            if frame.window_size > max(max_bytes, 8 * 1024 * 1024):
                raise InvalidError(OTLP_REQUEST, f"needs a window of {frame.window_size} bytes")
        return decompress(recorded.compression, block, max_bytes=max_bytes)
    except zstandard.ZstdError as error:
        raise InvalidError(OTLP_REQUEST, f"is not zstd: {error}") from None
    except UnreadableBlockError as error:
        raise InvalidError(OTLP_REQUEST, str(error).removeprefix("otlp_request ")) from None
