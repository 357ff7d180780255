"""The contract of evaluators of whole runs: they see all that came of the items, and say one thing."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lodestream_evals.evaluation import Evaluation
from lodestream_evals.evaluators._case import Case
from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import ValueType, Verdict
from lodestream_evals.evaluators._spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A case of a run (an item, one repetition of it), and what was said of it."""

    case: Case
    evaluations: Sequence[Evaluation] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    """Of evaluators that failed, by the name of what they would have said."""
    item_id: str = ""
    repetition: int = 0


RunJudge = Callable[[Sequence[Judged]], Verdict]


@dataclass(frozen=True, slots=True)
class RunJudging:
    """A judge of runs with the settings of one spec."""

    judge: RunJudge
    value_type: ValueType


@dataclass(frozen=True, slots=True)
class RunKind:
    """A kind of evaluator of runs. `version` as for Kind."""

    name: str
    version: int
    read: Callable[[Spec], RunJudging]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvaluator:
    """Judges runs. Made by `run_evaluator_of`; pure: the same items in any order, the same evaluation."""

    kind: str
    name: str
    settings: Mapping[str, Any]
    revision: str
    value_type: ValueType
    _judge: RunJudge = field(repr=False, compare=False)

    @property
    def spec(self) -> dict[str, Any]:
        """What makes the same evaluator again."""
        return {"kind": self.kind, "name": self.name, **copy.deepcopy(dict(self.settings))}

    async def evaluate(self, results: Sequence[Judged]) -> Evaluation:
        """What it says of the run. Raises EvaluatorError when it can say nothing: no item has what it looks at."""
        in_order = sorted(results, key=lambda result: (result.item_id, result.repetition))
        try:
            verdict = self._judge(in_order)
        except EvaluatorError:
            raise
        except Exception as error:
            raise EvaluatorError(f"{self.kind} failed with {type(error).__name__}: {error!s:.500}") from error
        return Evaluation(
            name=self.name,
            value=verdict.value,
            comment=verdict.reason,
            metadata=verdict.metadata or None,
            data_type=self.value_type,
        )
