"""What is delivered at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lodestream._delivery.orphans import Orphan
from lodestream._delivery.segment import Frame, Segment
from lodestream._settings import MIB

BATCH_SPANS, BATCH_BYTES = 500, 2 * MIB
"""What is delivered at once, at most, but for a single frame that is larger."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring frames of one segment and one kind, to be delivered together."""

    segment: Segment
    frames: Sequence[Frame]
    payloads: Sequence[bytes]
    orphan: Orphan | None

    @property
    def spans(self) -> int:
        return sum(frame.spans for frame in self.frames)


def first_frames(frames: Iterable[Frame]) -> list[Frame]:
    """As many as are delivered at once, at least one if there is one; all of the first one's kind."""
    taken: list[Frame] = []
    spans = size = 0
    for frame in frames:
        spans += frame.spans
        size += frame.end - frame.begin
        if taken and (spans > BATCH_SPANS or size > BATCH_BYTES or frame.event != taken[0].event):
            break
        taken.append(frame)
    return taken
