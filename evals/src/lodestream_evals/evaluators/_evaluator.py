"""The contract of all evaluators: settings are read once, a case is judged, and a revision says by what."""

import copy
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lodestream_evals.evaluation import Evaluation
from lodestream_evals.evaluators._case import Case, Tools
from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._json import canonical
from lodestream_evals.evaluators._spec import Spec

ValueType = Literal["BOOLEAN", "NUMERIC", "CATEGORICAL"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says, before it has a name."""

    value: bool | float | str
    reason: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


Judge = Callable[[Case, Tools], Verdict | Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class Judging:
    """A judge with the settings of one spec."""

    judge: Judge
    value_type: ValueType
    categories: Sequence[str] = ()
    """That the value is one of, where it is a category."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of evaluator. `version` rises with every change of what it says of the same case and settings."""

    name: str
    version: int
    read: Callable[[Spec], Judging]
    judges_failures: bool = False
    """Also cases whose task failed, which have no output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Judges cases. Made by `evaluator_of`; pure but for its tools: the same case, the same evaluation."""

    kind: str
    name: str
    """Of its evaluations."""
    settings: Mapping[str, Any]
    """Those that are not what holds without them."""
    revision: str
    """A fingerprint of code and settings: the same in every process, another one when either changes."""
    value_type: ValueType
    categories: Sequence[str] = ()
    """That its values are of, where they are categories."""
    judges_failures: bool = False
    """Whether it can judge a case whose task failed."""
    _judge: Judge = field(repr=False, compare=False)

    @property
    def spec(self) -> dict[str, Any]:
        """What makes the same evaluator again."""
        return {"kind": self.kind, "name": self.name, **copy.deepcopy(dict(self.settings))}

    async def evaluate(self, case: Case, tools: Tools | None = None) -> Evaluation:
        """What it says of the case. Data of any shape get a value; raises EvaluatorError when none can be given."""
        if case.error and not self.judges_failures:
            raise EvaluatorError(f"there is no output to judge: the task failed with {case.error:.500}")
        try:
            verdict = self._judge(case.as_json(), tools or Tools())
            if inspect.isawaitable(verdict):
                verdict = await verdict
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


def revision_of(kind: str, version: int, settings: Mapping[str, Any]) -> str:
    """12 hex digits over the kind, the version of its code and the settings."""
    return hashlib.sha256(canonical([kind, version, settings]).encode()).hexdigest()[:12]
