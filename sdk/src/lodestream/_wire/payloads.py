"""Payloads of the spool's frames: ResourceSpans, or an Event of the contract."""

from dataclasses import dataclass, field

from lodestream._wire.protobuf import delimited, fields, submessages

EVENT = b"\x00"
"""Begins the payload of a frame that holds an Event. No message of protobuf's begins so, no span's either."""
_WEIGHT = 400  # bytes of an event without its texts, roughly


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """Ready to be sent."""

    event: bytes = field(repr=False)

    @property
    def _weight(self) -> int:
        """Bytes in memory, roughly."""
        return _WEIGHT + len(self.event)

    @property
    def payload(self) -> bytes:
        """The payload of a frame that holds the event."""
        return EVENT + self.event


_SCOPE_SPANS, _SPANS = 2, 2  # the numbers of these fields in ResourceSpans and in ScopeSpans


def halves(payloads: list[bytes]) -> list[tuple[list[bytes], int]]:
    """Split payloads into two requests of ResourceSpans, each with its number of spans, or into two of events."""
    events = payloads[0].startswith(EVENT)
    if len(payloads) == 1 and not events:
        payloads = _singles(payloads[0])
    middle = (len(payloads) + 1) // 2
    both = [half for half in (payloads[middle:], payloads[:middle]) if half]
    return [(half, len(half) if events else sum(map(count_spans, half))) for half in both]


def count_spans(payload: bytes) -> int:
    """Count the spans of a ResourceSpans. Raises ValueError when it is none."""
    return sum(1 for scope in submessages(payload, _SCOPE_SPANS) for _ in submessages(scope, _SPANS))


def _singles(payload: bytes) -> list[bytes]:
    """A ResourceSpans as one for each of its spans."""
    parts = list(fields(payload))
    frame = b"".join(part.raw for part in parts if part.number < _SCOPE_SPANS)
    rest = b"".join(part.raw for part in parts if part.number > _SCOPE_SPANS)
    singles = []
    for scope in (part.value for part in parts if part.number == _SCOPE_SPANS and isinstance(part.value, bytes)):
        inner = list(fields(scope))
        around = b"".join(part.raw for part in inner if part.number != _SPANS)
        singles += [frame + delimited(b"\x12", around + part.raw) + rest for part in inner if part.number == _SPANS]
    return singles
