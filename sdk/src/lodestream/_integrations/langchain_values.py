"""LangChain's messages, documents and results as plain values, and what they say of models, tokens and prompts."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from lodestream._integrations.media import without_media
from lodestream._integrations.usage import usage_details

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}
_MAX_DEPTH = 6
_MAX_ITEMS = 10_000
_PARAMETERS = frozenset(
    {
        "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens",
        "stop", "stop_sequences", "seed", "n", "presence_penalty", "frequency_penalty", "reasoning_effort", "reasoning",
        "thinking", "response_format", "tool_choice", "parallel_tool_calls", "service_tier", "verbosity", "logprobs",
    }
)  # fmt: skip


_DESCRIPTION = {"finish_reason": ("finish_reason", "stop_reason", "stopReason"), "response_id": ("id",)}


def plain(value: Any) -> Any:
    """Return a value with its messages and documents as plain mappings, and pictures and sounds by type and size.

    A value that cannot be read like that is returned as it is.
    """
    try:
        return _plain(value, _MAX_DEPTH)
    except Exception:  # of the program's own types
        return value


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if _is_message(value):
        return message_value(value)
    if hasattr(value, "page_content") and hasattr(value, "metadata"):
        return document_value(value)
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item, depth - 1) for key, item in islice(value.items(), _MAX_ITEMS)}
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value[:_MAX_ITEMS]]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # LangGraph's commands
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        return {name: _plain(item, depth - 1) for name, item in fields.items() if item not in (None, ())}
    messages = getattr(value, "messages", None)  # a prompt's value
    if isinstance(messages, Sequence) and messages and all(map(_is_message, messages)):
        return [message_value(message) for message in messages]
    return value


def message_value(message: Any) -> dict[str, Any]:
    """Return a message in the form that model providers take, its tool calls with their arguments."""
    kind = getattr(message, "type", "")
    role = getattr(message, "role", None) or _ROLES.get(kind, kind.removesuffix("MessageChunk").lower() or "user")
    value: dict[str, Any] = {"role": role, "content": without_media(message.content)}
    for field in ("name", "tool_calls", "invalid_tool_calls", "tool_call_id"):
        if given := getattr(message, field, None):
            value[field] = given
    if getattr(message, "status", None) == "error":
        value["status"] = "error"
    for field in ("reasoning_content", "refusal"):
        if given := (getattr(message, "additional_kwargs", None) or {}).get(field):
            value[field] = given
    return value


def document_value(document: Any) -> dict[str, Any]:
    """Return a document: its text, what is known of it, and its id where it has one."""
    value = {"page_content": document.page_content, "metadata": document.metadata}
    return value | {"id": document.id} if getattr(document, "id", None) else value


def model_name(metadata: Mapping[str, Any], parameters: Mapping[str, Any]) -> str | None:
    """Return the model that is called, from LangChain's metadata, else from the parameters of the call."""
    names = (metadata.get("ls_model_name"), *(parameters.get(key) for key in ("model", "model_name", "model_id")))
    return next((name for name in names if isinstance(name, str) and name), None)


def model_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a call's parameters that say how the model is to answer."""
    return {name: value for name, value in parameters.items() if name in _PARAMETERS and value is not None}


def result_fields(response: Any) -> dict[str, Any]:
    """Return what a model's result says: output, usage, model, and why it ended. Batches of one prompt are expected."""
    generations = [generation for prompt in response.generations for generation in prompt]
    messages = [message for each in generations if (message := getattr(each, "message", None)) is not None]
    outputs = [message_value(message) for message in messages] or [each.text for each in generations]
    llm_output = response.llm_output if isinstance(response.llm_output, Mapping) else {}
    described = [getattr(message, "response_metadata", None) or {} for message in messages]
    described += [each.generation_info or {} for each in generations]
    return {
        "output": outputs[0] if len(outputs) == 1 else outputs,
        "usage_details": _usage_of(messages, llm_output, described),
        "model": _first_text(("model_name", "model", "model_id"), [*described, llm_output]),
        "metadata": {
            name: found for name, keys in _DESCRIPTION.items() if (found := _first_text(keys, [*described, llm_output]))
        },
    }


def _usage_of(messages: Sequence[Any], llm_output: Mapping[str, Any], described: Sequence[Any]) -> Any:
    """The tokens: as LangChain counted them, else as the provider did. Several answers to a prompt are added up."""
    counted = [usage for message in messages if (usage := usage_details(getattr(message, "usage_metadata", None)))]
    if counted:
        return {kind: sum(usage.get(kind, 0) for usage in counted) for usage in counted for kind in usage}
    for place in (llm_output, *described):
        for key in ("token_usage", "usage", "usage_metadata", "amazon-bedrock-invocationMetrics"):
            if usage := usage_details(place.get(key)):
                return usage
    return None


def _first_text(keys: Sequence[str], places: Sequence[Any]) -> str | None:
    found = (place.get(key) for place in places for key in keys)
    return next((text for text in found if isinstance(text, str) and text), None)


def _is_message(value: Any) -> bool:
    return hasattr(value, "content") and isinstance(getattr(value, "type", None), str) and hasattr(value, "pretty_repr")
