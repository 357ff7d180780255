"""The items of runs: what a worker runs, what came of it, and the ids of the events that publish it. Pure.

All ids follow from project, run, item and repetition, so that whoever publishes a result publishes the same ids.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from lodestream_evals.evaluation import Evaluation

from services.write.evaluator.jobs import Run
from services.write.evaluator.providers.provider import Message, ModelReply

_NAMESPACE = uuid.UUID("6ce5c7ac-4d0b-5a52-9f6c-0f2d3b0f4a6e")


@dataclass(frozen=True, slots=True)
class RunItem:
    """An item of the dataset, as JSON texts, and which repetition of it."""

    item_id: str
    repetition: int
    input: str
    expected_output: str
    """Empty when the item has none."""
    metadata: str

    def names(self, run: Run) -> tuple[str | int, ...]:
        """What the ids of everything that is published of the item follow from."""
        return (*run, self.item_id, self.repetition)


@dataclass(frozen=True, slots=True)
class EvaluatorOutcome:
    """What came of one evaluator: an evaluation, or why there is none. Instants are Unix times in nanoseconds."""

    name: str
    revision: str
    evaluation: Evaluation | None
    error: str
    started_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What came of an item. Instants are Unix times in nanoseconds; they are of the task, without its evaluators."""

    messages: Sequence[Message] | None
    """None when the prompt could not be compiled."""
    reply: ModelReply | None
    error: str
    """Empty when there is a reply."""
    attempts: int
    started_ns: int
    ended_ns: int
    evaluators: Sequence[EvaluatorOutcome] = ()
    judges_picodollars: int = 0
    """What the calls of LLM judges cost."""

    @property
    def evaluated_ns(self) -> int:
        """When the task and all evaluators had ended."""
        return max([self.ended_ns, *(evaluator.ended_ns for evaluator in self.evaluators)])


def event_id(*names: str | int) -> str:
    """A UUIDv5 that follows from the names, be it of an event or of a score."""
    return str(uuid.uuid5(_NAMESPACE, _joined(names)))


def trace_id(*names: str | int) -> bytes:
    """The 16 bytes of a trace id that follows from the names."""
    return _digest(names)[:16]


def span_id(*names: str | int) -> bytes:
    """The 8 bytes of a span id that follows from the names."""
    return _digest(names)[:8]


def _digest(names: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(_joined(names).encode()).digest()


def _joined(names: tuple[str | int, ...]) -> str:
    return json.dumps(names, separators=(",", ":"), ensure_ascii=True)
