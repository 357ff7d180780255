"""What an evaluator is given: the case it judges, and what it may use of the outside world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._json import plain
from lodestream_evals.evaluators._schema_process import schema_problems
from lodestream_evals.prompt import ChatPrompt, TextPrompt

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
