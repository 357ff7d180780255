"""A prompt's version and an item's input become messages. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lodestream import ChatPrompt, TextPrompt
from lodestream_proto.v1.prompt_event_pb2 import ChatPromptItem
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from services.write.evaluator.providers.provider import Message

Prompt = TextPrompt | ChatPrompt
MAX_CHARACTERS = 1024 * 1024
"""Of all messages of a question together: about 250,000 tokens."""


class QuestionTooLongError(ValueError):
    """The compiled prompt would be longer than is sent; the message says how long."""


class VariableError(ValueError):
    """The item's input does not have what the prompt asks for; the message names the variable."""


def prompt_of(version: PromptVersion) -> Prompt:
    """The prompt as the SDK knows it, so that a worker and a program compile it alike."""
    if version.WhichOneof("content") == "chat":
        items: Any = tuple(map(_item, version.chat.items))
        return ChatPrompt(name=version.name, version=version.version, prompt=items, config_json=version.config_json)
    return TextPrompt(name=version.name, version=version.version, prompt=version.text, config_json=version.config_json)


def messages_of(prompt: Prompt, item_input: Any) -> Sequence[Message]:
    """The messages to ask with. An object's entries are the values by name, anything else is the variable `input`.

    Raises VariableError, and QuestionTooLongError before anything of that length is built: a prompt may repeat a
    variable as often as it likes.
    """
    given: Mapping[str, Any] = item_input if isinstance(item_input, dict) else {"input": item_input}
    if missing := [name for name in prompt.variables if name not in given]:
        has = ", ".join(map(repr, given)) or "nothing"
        raise VariableError(f"the prompt's variable {missing[0]!r} is not in the item's input, which has {has}"[:1000])
    values = {name: _as_text(value) for name, value in given.items()}
    if isinstance(prompt, ChatPrompt):
        values |= {name: _messages(name, given) for name in set(prompt.placeholders)}
    if (length := prompt.compiled_length(**values)) > MAX_CHARACTERS:
        raise QuestionTooLongError(
            f"the prompt with the item's values has {length:,} characters; at most {MAX_CHARACTERS:,} are sent"
        )
    if isinstance(prompt, TextPrompt):
        return [{"role": "user", "content": prompt.compile(**values)}]
    return prompt.compile(**values)


def _messages(name: str, given: Mapping[str, Any]) -> Sequence[Message]:
    if name not in given:
        raise VariableError(f"the prompt's placeholder {name!r} is not in the item's input")
    messages = given[name]
    if not isinstance(messages, list) or not all(
        isinstance(each, dict) and isinstance(each.get("role"), str) and "content" in each for each in messages
    ):
        raise VariableError(f'the item\'s {name!r} is no list of messages {{"role": …, "content": …}}')
    return messages


def _as_text(value: Any) -> Any:
    """Texts as they are, None as nothing, everything else as its JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _item(item: ChatPromptItem) -> dict[str, str]:
    if item.WhichOneof("kind") == "placeholder":
        return {"type": "placeholder", "name": item.placeholder}
    return {"role": item.message.role, "content": item.message.content}
