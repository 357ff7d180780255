"""What is recorded of a run while it runs: a trace an item, its scores, that it finished, and the end of it all."""

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lodestream._diagnostics import report_internal_error
from lodestream._experiments.messages import event_of, finished_message, result_message, storable_object
from lodestream._experiments.plan import Plan
from lodestream._experiments.rows import Row
from lodestream._experiments.session import Session
from lodestream._ids import seeded_trace_id
from lodestream._recording.attributes import ObservationType
from lodestream._recording.span import CurrentObservation, Observation
from lodestream._results import EvaluatorOutcome, ItemResult
from lodestream._scores import Target
from lodestream._wire.payloads import EncodedEvent

_USAGE, _COST = "lodestream.observation.usage_details", "lodestream.observation.cost_details"
_INPUT = ("input", "input_tokens", "prompt_tokens", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = (
    "output", "output_tokens", "completion_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens",
)  # fmt: skip


class Usage:
    """Tokens and dollars. Observations may end in any thread."""

    def __init__(self) -> None:
        self.input_tokens = self.output_tokens = 0
        self.cost_usd: float | None = None
        self._lock = threading.Lock()

    def add(self, attributes: Mapping[str, Any]) -> None:
        """An observation's. What is no number counts nothing."""
        usage = {**attributes, **_object(attributes.get(_USAGE))}
        costs = _object(attributes.get(_COST))
        cost = _number(costs["total"]) if "total" in costs else sum(map(_number, costs.values()))
        with self._lock:
            self.input_tokens += int(_first(usage, _INPUT))
            self.output_tokens += int(_first(usage, _OUTPUT))
            if costs:
                self.cost_usd = (self.cost_usd or 0.0) + cost


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return next((_number(usage[name]) for name in names if name in usage), 0.0)


def _number(value: Any) -> float:
    """Return a number that can be counted: 0 for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) and value > 0 else 0.0


def _object(text: Any) -> dict[str, Any]:
    try:
        parsed = json.loads(text) if text else {}
    except (TypeError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


@dataclass(frozen=True, slots=True)
class ItemTrace:
    """The trace of an item, while it is current."""

    trace_id: str
    """"" when none is kept."""
    root: Observation
    usage: Usage


class RunRecorder:
    """Goes the way of observations: spooled, delivered in its order, by another process if need be."""

    def __init__(self, client: Session, plan: Plan, run_id: str, *, from_dataset: bool) -> None:
        self._client, self._plan, self._run_id, self._from_dataset = client, plan, run_id, from_dataset

    @contextmanager
    def item(self, row: Row, repetition: int) -> Iterator[ItemTrace]:
        """The item's trace. Run again after a crash it is the same one: there is one trace an item."""
        recorder = self._client._recorder
        seed = self._seed(row.id, repetition)
        number = recorder.kept_trace_id(int(seeded_trace_id(seed), 16))
        fields = {
            "input": row.input,
            "metadata": {
                "experiment": self._plan.name,
                "run_name": self._plan.run_name,
                "run_id": self._run_id,
                "item_id": row.id,
                "repetition": repetition,
            },
        }
        root = recorder.observe(
            "experiment-item",
            "span",
            fields,
            where=(f"{number:032x}", None),
            span_id=_seeded_number(f"{seed}/item", 16),
        )
        kept = root.is_recording()
        with recorder.current(root):
            yield ItemTrace(f"{number:032x}" if kept else "", root, Usage())

    @contextmanager
    def task(self, trace: ItemTrace, row: Row) -> Iterator[Observation]:
        """The task within it: what it uses is counted, what it raises is recorded."""
        listeners, number = self._client._recorder.listeners, trace.root._trace_number
        listeners[number] = trace.usage.add
        try:
            with self.observed(self._plan.task_name, "span", input=row.input) as observation:
                yield observation
        finally:
            listeners.pop(number, None)

    def observed(self, name: str, as_type: ObservationType, **fields: Any) -> CurrentObservation:
        """A part of what is current; what is raised in it is recorded."""
        return self._client._recorder.observe_as_current(name, as_type, fields)

    def finished(self, result: ItemResult) -> ItemResult:
        """Tell an item's scores and that it is done; gives it with what was told. Raises nothing."""
        if not self._client._recorder.enabled:
            return result
        try:
            seed = self._seed(result.item_id, result.repetition)
            target = Target(trace_id=result.trace_id)
            judgements = self._scored(seed, target, result.judgements) if result.trace_id else result.judgements
            result = replace(result, judgements=judgements)
            message = result_message(
                result, self._run_id, self._client._recorder.shown, with_item=not self._from_dataset
            )
            self._emit(event_of(experiment_item_finished=message))
        except Exception as error:
            report_internal_error("recording an experiment's item", error)
        return result

    def ended(self, judgements: Sequence[EvaluatorOutcome]) -> Sequence[EvaluatorOutcome]:
        """Tell what was said of the run, and that it is complete. Raises nothing."""
        if not self._client._recorder.enabled:
            return judgements
        try:
            judgements = self._scored(self._run_id, Target(run_id=self._run_id), judgements)
            message = finished_message(self._run_id, judgements, self._client._recorder.shown)
            self._emit(event_of(experiment_finished=message))
        except Exception as error:
            report_internal_error("recording an experiment's end", error)
        return judgements

    @property
    def has_room(self) -> bool:
        """Whether more can be told without anything being dropped."""
        return self._client._pipeline.has_room

    def _scored(self, seed: str, target: Target, judgements: Sequence[EvaluatorOutcome]) -> list[EvaluatorOutcome]:
        return [self._score(seed, target, each) for each in judgements]

    def _score(self, seed: str, target: Target, judgement: EvaluatorOutcome) -> EvaluatorOutcome:
        evaluation = judgement.evaluation
        if evaluation is None:
            return judgement
        fields = {
            "score_id": hashlib.sha256(f"{seed}/{judgement.name}".encode()).hexdigest()[:32],
            "data_type": evaluation.data_type,
            "comment": evaluation.comment,
            "config_id": evaluation.config_id,
            "metadata": json.loads(storable_object(evaluation.metadata) or "null"),
            "source": "EVALUATOR",
            "evaluator_version": judgement.revision,
        }
        score_id = self._client._recorder.score(target, evaluation.name, evaluation.value, fields)
        return replace(judgement, score_id=score_id or "")

    def _emit(self, event: bytes) -> None:
        self._client._recorder.sink.emit(EncodedEvent(event))

    def _seed(self, item_id: str, repetition: int) -> str:
        return f"{self._run_id}/{item_id}/{repetition}"


def _seeded_number(seed: str, digits: int) -> int:
    return int(seeded_trace_id(seed)[:digits], 16)
