"""Tool calls: those that rules say, else of each tool that the question speaks of, once, with its numbers and texts."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lodestream_evals.mock_model import answer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.mock_llm.messages import Question, Tool

_STEM = 5  # characters that tell words apart, whatever their ending


class ScriptedCall(BaseModel):
    """A tool call that a rule says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: Mapping[str, Any] = {}


class ScriptedReply(BaseModel):
    """One turn of the model: a text, or tool calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content: str | None = None
    calls: Sequence[ScriptedCall] = ()


class Rule(BaseModel):
    """What is said to a question: the first reply at once, the next after the first tools were called, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contains: str = ""
    """A part of the last thing that the user said; letters' case does not matter."""
    replies: Sequence[ScriptedReply] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, its arguments as JSON."""

    id: str
    name: str
    arguments: str

    def as_message(self) -> dict[str, Any]:
        """Return it as OpenAI's messages have it."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said where it is not an answer in the mock's own words."""

    content: str | None = None
    calls: Sequence[ToolCall] = ()


def rules_from(path: Path | None) -> Sequence[Rule]:
    """Read a file of rules, a JSON list; none without a file.

    Raises ValueError naming the file and what is wrong in it, or with it.
    """
    if path is None:
        return ()
    try:
        return TypeAdapter(list[Rule]).validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {place or 'rules'}: {first['msg']}") from None


def reply_to(question: Question, rules: Sequence[Rule]) -> Reply:
    """Decide what is said: by the first rule that fits, else tools are called, else their results are told.

    A reply of neither is an answer in the mock's own words.
    """
    said = question.last_said.lower()
    for rule in rules:
        if rule.contains.lower() in said:
            scripted = rule.replies[min(question.turns, len(rule.replies) - 1)]
            calls = [_call(question, place, each.name, each.arguments) for place, each in enumerate(scripted.calls)]
            return Reply(scripted.content, calls)
    if calls := _calls_for(question):
        return Reply(calls=calls)
    asks_json = (question.response_format or {}).get("type", "text") != "text"
    return Reply(None if asks_json or not question.results else " ".join(question.results))


def _calls_for(question: Question) -> list[ToolCall]:
    """One of each tool that was not called yet and that the question speaks of, or that is required."""
    words = _words(question.last_said)
    left = [tool for tool in question.tools if tool.name not in question.called]
    if question.required_tool is not None:
        named = [tool for tool in left if question.required_tool in ("", tool.name)]
        chosen = [] if question.called else named[:1]
    else:
        chosen = [tool for tool in left if words & _words(f"{tool.name.replace('_', ' ')} {tool.description}")]
    if not question.parallel:
        chosen = chosen[:1]
    return [
        _call(question, place, tool.name, _arguments(tool, question.last_said)) for place, tool in enumerate(chosen)
    ]


def _call(question: Question, place: int, name: str, arguments: Mapping[str, Any]) -> ToolCall:
    return ToolCall(f"call_{question.turns}_{place}", name, json.dumps(arguments, ensure_ascii=False))


def _arguments(tool: Tool, said: str) -> dict[str, Any]:
    """Numbers are those of the question, in order; texts the question itself; anything else follows its schema."""
    numbers = iter(re.findall(r"-?\d+(?:\.\d+)?", said))
    properties = tool.parameters.get("properties", {})
    arguments: dict[str, Any] = {}
    for name, schema in properties.items():
        kind = schema.get("type") if isinstance(schema, dict) else None
        if kind in ("integer", "number"):
            number = float(next(numbers, "1"))
            arguments[name] = int(number) if kind == "integer" else number
        elif kind == "string" and "enum" in schema:
            arguments[name] = next((each for each in schema["enum"] if str(each) in said), schema["enum"][0])
        elif kind == "string":
            arguments[name] = said
        else:
            asked = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {name: schema}}}}
            arguments |= json.loads(answer([{"role": "user", "content": said}], asked))
    return arguments


def _words(text: str) -> set[str]:
    return {word[:_STEM] for word in re.findall(r"[^\W\d_]{4,}", text.lower())}
