"""What came of an item: plain values, made by `trying`, told by `telling` of results, spans and scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from lodestream import Evaluation
from lodestream.evaluators import Evaluator
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.evaluator.compiling import Prompt
from services.write.evaluator.fold import Run
from services.write.evaluator.providers.provider import Message, Reply
from services.write.evaluator.tasks import Task


@dataclass(frozen=True, slots=True)
class Opened:
    """A run with all that its items need."""

    run: Run
    request: ExperimentRequested
    dataset_name: str
    task: Task
    prompt: Prompt
    evaluators: Sequence[Evaluator]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the dataset, as JSON texts, and which repetition."""

    item_id: str
    repetition: int
    input: str
    expected_output: str
    """Empty: there is none."""
    metadata: str


@dataclass(frozen=True, slots=True)
class Said:
    """What an evaluator said: an evaluation, or why there is none."""

    name: str
    revision: str
    evaluation: Evaluation | None
    error: str
    started_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How an item ended. Instants are Unix times in nanoseconds."""

    messages: Sequence[Message] | None
    """None: there were none to ask with."""
    reply: Reply | None
    error: str
    """Empty: there is a reply."""
    attempts: int
    started_ns: int
    ended_ns: int
    """Of the task, without its evaluators."""
    said: Sequence[Said] = ()
    judges_picodollars: int = 0
