"""What requests to OpenAI ask, and what answers and streams of answers say, as fields of observations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lodestream._integrations.media import without_media
from lodestream._integrations.usage import usage_details
from lodestream._recording.attributes import ObservationType
from lodestream._recording.streams import Texts

Fields = dict[str, Any]
_DELIVERY = frozenset({"model", "stream", "stream_options", "metadata", "extra_headers", "encoding_format"})
_MAX_PARTS = 1_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation of the API: how its observations are named and typed, and how its answers are read."""

    operation: str
    as_type: ObservationType
    input: tuple[str, ...]
    """The parameters that are its input; the first alone where it is the only one given."""
    fields_of: Callable[[Any], Fields]
    """What a whole answer says."""
    parts: Callable[[], "Parts"] | None = None
    """What gathers the chunks of a stream."""

    def request_fields(self, body: Mapping[str, Any]) -> Fields:
        """Return input, model and parameters of a request."""
        asked = {name: without_media(body[name]) for name in self.input if body.get(name) is not None}
        parameters = {
            name: without_media(value)
            for name, value in body.items()
            if name not in _DELIVERY and name not in self.input and value is not None
        }
        alone = len(asked) == 1 and self.input[0] in asked
        return {
            "input": asked[self.input[0]] if alone else asked,
            "model": body.get("model"),
            "model_parameters": parameters or None,
        }


class Parts:
    """Gathers the chunks of a stream."""

    def add(self, chunk: Any) -> bool:
        """Take a chunk; return whether it holds something of the answer."""
        raise NotImplementedError

    def fields(self) -> Fields:
        """Return what the chunks said together."""
        raise NotImplementedError


# --- Chat completions -------------------------------------------------------------------------------------------------


def chat_fields(completion: Any) -> Fields:
    """Return what a chat completion says: its message, or all of its messages if there are several."""
    messages = [_message(choice.message) for choice in completion.choices]
    reasons = [choice.finish_reason for choice in completion.choices]
    return _fields(completion, messages, reasons)


class ChatParts(Parts):
    """A chat completion in chunks."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._last: Any = None
        self._usage: Any = None

    def add(self, chunk: Any) -> bool:
        self._last = chunk
        self._usage = getattr(chunk, "usage", None) or self._usage
        told = False
        for choice in chunk.choices or ():
            if choice.index not in self._choices and len(self._choices) < _MAX_PARTS:
                self._choices[choice.index] = _Choice()
            if choice.index in self._choices:
                told |= self._choices[choice.index].add(choice)
        return told

    def fields(self) -> Fields:
        choices = [choice for _, choice in sorted(self._choices.items())]
        reasons = [choice.finish_reason for choice in choices]
        fields = _fields(self._last, [choice.message() for choice in choices], reasons)
        return fields | {"usage_details": _usage(self._usage)}


class _Choice:
    """One answer of a stream."""

    def __init__(self) -> None:
        self._role, self.finish_reason = "assistant", None
        self._texts: dict[str, Texts] = {}
        self._calls: dict[int, tuple[dict[str, Any], Texts]] = {}

    def add(self, choice: Any) -> bool:
        self.finish_reason = choice.finish_reason or self.finish_reason
        delta = choice.delta
        if delta is None:
            return False
        self._role = delta.role or self._role
        told = False
        for name in ("content", "refusal", "reasoning_content"):
            if text := getattr(delta, name, None):
                self._texts.setdefault(name, Texts()).add(text)
                told = True
        for call in delta.tool_calls or ():
            self._add_call(call)
            told = True
        return told

    def _add_call(self, call: Any) -> None:
        if call.index not in self._calls:
            if len(self._calls) >= _MAX_PARTS:
                return
            self._calls[call.index] = ({"id": None, "type": "function", "name": None}, Texts())
        known, arguments = self._calls[call.index]
        known["id"] = call.id or known["id"]
        known["type"] = call.type or known["type"]
        if call.function is not None:
            known["name"] = call.function.name or known["name"]
            if call.function.arguments:
                arguments.add(call.function.arguments)

    def message(self) -> Fields:
        """Return what was said, as a message."""
        content = self._texts.pop("content", None)
        message: Fields = {"role": self._role, "content": content.joined() if content is not None else None}
        message |= {name: text.joined() for name, text in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": known["id"],
                    "type": known["type"],
                    "function": {"name": known["name"], "arguments": arguments.joined()},
                }
                for _, (known, arguments) in sorted(self._calls.items())
            ]
        return message


def _message(message: Any) -> Fields:
    told: Fields = {"role": message.role, "content": message.content}
    for name in ("refusal", "reasoning_content"):
        if text := getattr(message, name, None):
            told[name] = text
    if calls := getattr(message, "tool_calls", None):
        told["tool_calls"] = [_tool_call(call) for call in calls[:_MAX_PARTS]]
    if audio := getattr(message, "audio", None):
        told["audio"] = without_media({"id": audio.id, "data": audio.data, "transcript": audio.transcript})
    return told


def _tool_call(call: Any) -> Fields:
    kind = getattr(call, "type", None) or "function"
    if (function := getattr(call, "function", None)) is not None:
        return {"id": call.id, "type": kind, "function": {"name": function.name, "arguments": function.arguments}}
    return {"id": call.id, "type": kind, kind: _dumped(getattr(call, kind, None))}


# --- Responses --------------------------------------------------------------------------------------------------------


def response_fields(response: Any) -> Fields:
    """Return what a response says: its output items, the one alone if there is only one."""
    items = [_without_parsed(without_media(_dumped(item))) for item in response.output or ()]
    fields = _fields(response, items, [response.status])
    if (error := getattr(response, "error", None)) is not None:
        fields |= {"level": "ERROR", "status_message": error.message}
    return fields


class ResponseParts(Parts):
    """A response in events."""

    def __init__(self) -> None:
        self._texts = Texts()
        self._response: Any = None
        self._ended = False
        self._error: str | None = None

    def add(self, chunk: Any) -> bool:
        kind = str(chunk.type)
        if (response := getattr(chunk, "response", None)) is not None:
            self._response = response
            self._ended = kind in {"response.completed", "response.incomplete", "response.failed"}
        elif kind == "response.output_text.delta":
            self._texts.add(chunk.delta)
        elif kind == "error":
            self._error = chunk.message
        return kind.endswith(".delta")

    def fields(self) -> Fields:
        if self._ended:
            return response_fields(self._response)
        fields = _fields(self._response, [{"role": "assistant", "content": self._texts.joined()}], [None])
        return fields | ({"level": "ERROR", "status_message": self._error} if self._error else {})


def _without_parsed(item: Any) -> Any:
    """An item without the objects of the program's that `parse` adds; their text is there."""
    if isinstance(item, dict) and isinstance(item.get("content"), list):
        content = [
            {name: value for name, value in part.items() if name != "parsed"} if isinstance(part, dict) else part
            for part in item["content"]
        ]
        return item | {"content": content}
    if isinstance(item, dict) and item.get("type") == "image_generation_call":
        return without_media(item | {"data": item.get("result"), "result": None})
    return item


# --- Completions, embeddings, images ----------------------------------------------------------------------------------


def completion_fields(completion: Any) -> Fields:
    """Return what a completion of the older kind says: its text, or all of its texts if there are several."""
    return _fields(
        completion,
        [choice.text for choice in completion.choices],
        [choice.finish_reason for choice in completion.choices],
    )


class CompletionParts(Parts):
    """A completion of the older kind in chunks."""

    def __init__(self) -> None:
        self._texts, self._last, self._reason, self._usage = Texts(), None, None, None

    def add(self, chunk: Any) -> bool:
        self._last, self._usage = chunk, getattr(chunk, "usage", None) or self._usage
        for choice in chunk.choices or ():
            self._texts.add(choice.text or "")
            self._reason = choice.finish_reason or self._reason
        return any(choice.text for choice in chunk.choices or ())

    def fields(self) -> Fields:
        return _fields(self._last, [self._texts.joined()], [self._reason]) | {"usage_details": _usage(self._usage)}


def embedding_fields(answer: Any) -> Fields:
    """Return what embeddings say: how many vectors of how many dimensions, not the vectors."""
    vectors = answer.data or ()
    first = vectors[0].embedding if vectors else ()
    told = {"vectors": len(vectors), "dimensions": len(first) if not isinstance(first, str) else None}
    return _fields(answer, [told], [None])


def image_fields(answer: Any) -> Fields:
    """Return what is known of pictures: where they are, what prompt they were made of, their size in bytes."""
    pictures = [
        {
            name: without_media({name: value})[name]
            for name in ("url", "revised_prompt", "b64_json")
            if (value := getattr(picture, name, None))
        }
        for picture in answer.data or ()
    ]
    described = ("size", "quality", "output_format", "background")
    fields = _fields(answer, pictures, [None])
    fields["metadata"] |= {name: value for name in described if (value := getattr(answer, name, None))}
    return fields


class ImageParts(Parts):
    """A picture that comes in previews."""

    def __init__(self) -> None:
        self._previews, self._last = 0, None

    def add(self, chunk: Any) -> bool:
        self._last = chunk
        self._previews += str(chunk.type).endswith("partial_image")
        return True

    def fields(self) -> Fields:
        picture = without_media({"b64_json": getattr(self._last, "b64_json", None), "previews": self._previews})
        return {"output": picture, "usage_details": _usage(getattr(self._last, "usage", None))}


# --- What all have in common ------------------------------------------------------------------------------------------


def _fields(answer: Any, outputs: Sequence[Any], reasons: Sequence[Any]) -> Fields:
    described = {
        "response_id": getattr(answer, "id", None),
        "finish_reason": next((reason for reason in reasons if reason), None),
        "service_tier": getattr(answer, "service_tier", None),
        "system_fingerprint": getattr(answer, "system_fingerprint", None),
    }
    return {
        "output": outputs[0] if len(outputs) == 1 else list(outputs) or None,
        "model": getattr(answer, "model", None),
        "usage_details": _usage(getattr(answer, "usage", None)),
        "metadata": {name: value for name, value in described.items() if value is not None},
    }


def _usage(usage: Any) -> dict[str, int] | None:
    return usage_details(_dumped(usage)) if usage is not None else None


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(exclude_none=True, warnings=False) if callable(dump) else value


ENDPOINTS: Mapping[str, Endpoint] = {
    "/chat/completions": Endpoint(
        "chat", "generation", ("messages", "tools", "functions"), chat_fields, ChatParts
    ),
    "/responses": Endpoint(
        "chat", "generation", ("input", "instructions", "tools", "prompt"), response_fields, ResponseParts
    ),
    "/completions": Endpoint(
        "text_completion", "generation", ("prompt", "suffix"), completion_fields, CompletionParts
    ),
    "/embeddings": Endpoint("embeddings", "embedding", ("input",), embedding_fields),
    "/images/generations": Endpoint("image_generation", "generation", ("prompt",), image_fields, ImageParts),
    "/images/edits": Endpoint("image_edit", "generation", ("prompt",), image_fields, ImageParts),
    "/images/variations": Endpoint("image_variation", "generation", ("prompt",), image_fields),
}  # fmt: skip
"""The operations that become observations, by their path."""
