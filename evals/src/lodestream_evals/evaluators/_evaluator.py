"""The contract of all evaluators: what they are given, how their settings become one, and what their revision says."""

import copy
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from lodestream_evals.evaluation import Evaluation
from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._json import canonical, plain
from lodestream_evals.evaluators._schema_process import schema_problems
from lodestream_evals.evaluators._spec import Spec
from lodestream_evals.prompt import ChatPrompt, TextPrompt

# --- Cases and tools --------------------------------------------------------------------------------------------------

Message = Mapping[str, str]
"""With "role" and "content"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One output of a task, with all that is known of it."""

    input: Any = None
    output: Any = None
    expected_output: Any = None
    """None: there is none."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """Why the task failed; empty when it did not."""
    latency_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    """None where it is not known."""

    def as_json(self) -> "Case":
        """The same with values that JSON has; objects of the program's become their fields.

        Raises EvaluatorError for values that are nested too deeply.
        """
        return replace(
            self,
            input=plain(self.input, "the input"),
            output=plain(self.output, "the output"),
            expected_output=plain(self.expected_output, "the expected output"),
            metadata=plain(self.metadata, "the metadata"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model answered, and what that took."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


class Ask(Protocol):
    """Asks a model. May raise anything; the evaluator then fails with an EvaluatorError that is caused by it."""

    async def __call__(
        self, messages: Sequence[Message], *, provider: str, model: str, settings: Mapping[str, Any]
    ) -> Answer: ...


class FindPrompt(Protocol):
    """Finds a prompt by its version, or by the label where that is None. May raise anything, as Ask may."""

    async def __call__(self, name: str, version: int | None, label: str | None) -> TextPrompt | ChatPrompt: ...


class FindSchemaProblems(Protocol):
    """Holds a value against a JSON Schema, both JSON texts; the problems are those of SchemaFindings."""

    async def __call__(self, schema: str, value: str, *, formats: bool) -> list[dict[str, str]]: ...


async def _no_model(*_: Any, **__: Any) -> Answer:
    raise EvaluatorError("there is no model to ask: evaluate() was given no tools with `ask`")


async def _no_prompts(name: str, *_: Any, **__: Any) -> TextPrompt | ChatPrompt:
    raise EvaluatorError(f"the prompt {name!r} can't be had: evaluate() was given no tools with `prompt`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The outside world, for the evaluators that need it. Without them those fail, and say so."""

    ask: Ask = _no_model
    prompt: FindPrompt = _no_prompts
    schema_problems: FindSchemaProblems = schema_problems
    """By default in one process beside this program, one output after the other."""


# --- Evaluators of items ----------------------------------------------------------------------------------------------

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


# --- Evaluators of runs -----------------------------------------------------------------------------------------------


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
