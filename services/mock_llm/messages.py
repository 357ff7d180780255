"""What a chat request says, checked as far as it is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.mock_llm.behaviour import FIELDS
from services.mock_llm.errors import wrong

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_DELIVERY = {"model", "messages", "stream", "stream_options"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """Its JSON Schema."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request for a chat completion."""

    model: str
    messages: Sequence[Mapping[str, str]]
    stream: bool
    include_usage: bool
    response_format: Mapping[str, Any] | None
    most_tokens: int | None
    tools: Sequence[Tool]
    required_tool: str | None
    """The name of the tool that has to be called; empty for any; None where none has to be."""
    parallel: bool
    """Whether several tools may be called at once."""
    last_said: str
    """What the user said last; of what came since:"""
    turns: int
    """The model's own messages."""
    called: frozenset[str]
    """The names of the tools that it called."""
    results: Sequence[str]
    """What those gave."""
    parameters: Mapping[str, Any]
    """All that may make another answer of it, but for the seed."""


def question_of(body: Mapping[str, Any]) -> Question:
    """Raises ApiError naming the parameter that makes no sense."""
    options = body.get("stream_options") or {}
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise wrong("max_completion_tokens", "is a number from 1")
    if body.get("n", 1) != 1:
        raise wrong("n", "only one choice is given")
    messages = _messages(body.get("messages"))
    users = [place for place, message in enumerate(messages) if message["role"] == "user"]
    since = users[-1] + 1 if users else 0
    tools, required_tool = _tools(body)
    return Question(
        model=model_of(body),
        messages=messages,
        tools=tools,
        required_tool=required_tool,
        parallel=body.get("parallel_tool_calls") is not False,
        last_said=messages[since - 1]["content"] if users else "",
        turns=sum(message["role"] == "assistant" for message in messages[since:]),
        called=frozenset(name for message in body["messages"][since:] for name in _called_in(message)),
        results=[message["content"] for message in messages[since:] if message["role"] == "tool"],
        stream=_flag(body, "stream"),
        include_usage=isinstance(options, dict) and _flag(options, "include_usage"),
        response_format=_response_format(body.get("response_format")),
        most_tokens=most,
        parameters={name: value for name, value in body.items() if name not in _DELIVERY and name not in FIELDS},
    )


def model_of(body: Mapping[str, Any]) -> str:
    """Any name will do."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise wrong("model", "is missing")
    return model


def _messages(given: Any) -> list[Mapping[str, str]]:
    if not isinstance(given, list) or not given:
        raise wrong("messages", "is a list with one message at least")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(given)]


def _message(given: Any, where: str) -> Mapping[str, str]:
    if not isinstance(given, dict):
        raise wrong(where, "is an object")
    if given.get("role") not in _ROLES:
        raise wrong(f"{where}.role", f"is one of {', '.join(_ROLES)}")
    content = given.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "\n".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str) and content is not None:
        raise wrong(f"{where}.content", "is a text or a list of parts")
    return {"role": given["role"], "content": content or ""}


def _tools(body: Mapping[str, Any]) -> tuple[list[Tool], str | None]:
    """The tools that may be called, and the one that has to be."""
    given = body.get("tools") or []
    if not isinstance(given, list):
        raise wrong("tools", "is a list")
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(given)]
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        name = choice["function"].get("name") if isinstance(choice.get("function"), dict) else None
        if name not in {tool.name for tool in tools}:
            raise wrong("tool_choice", "names one of the tools")
        return tools, str(name)
    if choice not in ("auto", "none", "required"):
        raise wrong("tool_choice", "is auto, none, required, or names a tool")
    return ([] if choice == "none" else tools), ("" if choice == "required" else None)


def _tool(given: Any, where: str) -> Tool:
    function = given.get("function") if isinstance(given, dict) and given.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise wrong(where, "is a function with a name")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict) or not isinstance(parameters.get("properties", {}), dict):
        raise wrong(f"{where}.function.parameters", "is a JSON Schema of an object")
    return Tool(function["name"], str(function.get("description") or ""), parameters)


def _called_in(message: Any) -> list[str]:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    functions = [call.get("function") for call in calls or () if isinstance(call, dict)]
    return [str(function.get("name")) for function in functions if isinstance(function, dict)]


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "is true or false")
    return bool(value)


def _response_format(given: Any) -> Mapping[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("type") not in ("text", "json_object", "json_schema"):
        raise wrong("response_format", "has the type text, json_object or json_schema")
    if given["type"] == "json_schema":
        told = given.get("json_schema")
        if not isinstance(told, dict) or not isinstance(told.get("schema", {}), dict):
            raise wrong("response_format.json_schema", "is an object with a schema")
    return given
