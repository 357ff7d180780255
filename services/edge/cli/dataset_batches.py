"""Items on their way into a dataset: in requests that a gateway takes, told again when it can't answer now."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from services.edge.cli.connection import Gateway
from services.edge.cli.dataset_files.rows import Refused

MOST_ITEMS = 1_000
MOST_BYTES = 4 * 1024 * 1024
_TRIES = 6


@dataclass(frozen=True, slots=True)
class Placed:
    """An item, and the line it comes from."""

    line: int
    item: DatasetItemRecorded


@dataclass(slots=True)
class Tally:
    """What came of the items so far."""

    stored: int = 0
    refused: list[Refused] = field(default_factory=list)
    version: int = 0
    """Of the dataset, with the last ones."""
    position: str = ""
    line: int = 0
    """The last one whose item is in."""


def batches(items: Iterable[Placed]) -> Iterator[list[Placed]]:
    """At most 1,000 items and 4 MiB each."""
    batch: list[Placed] = []
    size = 0
    for placed in items:
        more = placed.item.ByteSize()
        if batch and (len(batch) == MOST_ITEMS or size + more > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(placed)
        size += more
    if batch:
        yield batch


def record(gateway: Gateway, dataset: str, batch: Sequence[Placed], tally: Tally) -> list[Refused]:
    """Store a batch; gives what the dataset refused of it. Raises Failure."""
    request = pb.RecordItemsRequest(dataset_name=dataset, items=[placed.item for placed in batch])
    answer = gateway.ask(gateway.datasets.RecordItems, request, tries=_TRIES)
    refused = [
        Refused(placed.line, f"{outcome.field} {outcome.reason}")
        for placed, outcome in zip(batch, answer.outcomes, strict=True)
        if outcome.field or outcome.reason
    ]
    tally.stored += len(batch) - len(refused)
    tally.version, tally.position = answer.version, answer.position or tally.position
    tally.line = batch[-1].line
    return refused


class Seen:
    """The items of this run of the command by id: one that was there already is no other one."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, int]] = {}

    def earlier(self, placed: Placed) -> Refused | bool:
        """False for a new one, True for the same said again, else why it can't be both."""
        digest = hash(placed.item.SerializeToString(deterministic=True))
        line, known = self._first.setdefault(placed.item.item_id, (placed.line, digest))
        if line == placed.line:
            return False
        if known == digest:
            return True
        return Refused(placed.line, f"has the id {placed.item.item_id!r} of line {line}, and says something else")
