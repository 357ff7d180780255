"""An event of the contract, encoded: it takes the way of spans, through the spool and by IngestService.Record."""

from dataclasses import dataclass, field

EVENT = b"\x00"
"""Begins the payload of a frame that holds an Event. No message of protobuf's begins so, no span's either."""
_WEIGHT = 400  # bytes of an event without its texts, roughly


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """Ready to be sent."""

    event: bytes = field(repr=False)

    @property
    def weight(self) -> int:
        """Bytes in memory, roughly."""
        return _WEIGHT + len(self.event)

    @property
    def payload(self) -> bytes:
        """Of a frame."""
        return EVENT + self.event
