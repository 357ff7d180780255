"""Prompts of runs and of LLM judges: their versions from the read model, compiled with an item's input."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_evals.prompt import ChatPrompt, TextPrompt
from lodestream_proto.v1.prompt_event_pb2 import ChatPromptItem
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from services.write.evaluator.providers.provider import Message
from shared.runtime.lru_cache import LruCache
from shared.storage.named_queries import load_queries

Prompt = TextPrompt | ChatPrompt
MAX_CHARACTERS = 1024 * 1024
"""The longest compiled prompt, all messages together: about 250,000 tokens."""

_READ_PROMPT = load_queries(Path(__file__).with_name("read_models.sql"))["read_prompt"]
_MAX_CACHED = 256
_DEFAULT_LABEL = "production"


class PromptTooLongError(ValueError):
    """The compiled prompt would be longer than is sent; the message says how long."""


class VariableError(ValueError):
    """The item's input lacks something that the prompt needs; the message names the variable."""


class PromptVersions:
    """Reads prompts of all projects. Versions are cached, for a version never changes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._cached: LruCache[tuple[str, str, int], Prompt] = LruCache(_MAX_CACHED)

    async def find(self, project_id: str, name: str, version: int | None, label: str | None = None) -> Prompt | None:
        """Return the version, or without one the version that holds the label; None when the read model has none."""
        if (cached := self._cached.get((project_id, name, version or 0))) is not None:
            return cached
        body = await self._pool.fetchval(_READ_PROMPT, project_id, name, version, label or _DEFAULT_LABEL)
        if body is None:
            return None
        prompt = prompt_from_version(PromptVersion.FromString(body))
        self._cached[project_id, name, prompt.version] = prompt
        return prompt


def prompt_from_version(version: PromptVersion) -> Prompt:
    """Make the SDK's prompt of a stored version, so that a worker and a program compile it alike."""
    if version.WhichOneof("content") == "chat":
        items: Any = tuple(map(_chat_item, version.chat.items))
        return ChatPrompt(name=version.name, version=version.version, prompt=items, config_json=version.config_json)
    return TextPrompt(name=version.name, version=version.version, prompt=version.text, config_json=version.config_json)


def compile_messages(prompt: Prompt, item_input: Any) -> Sequence[Message]:
    """Compile the messages of a model call. An object's entries are the variables; other input is the variable `input`.

    Raises VariableError, and PromptTooLongError before anything of that length is built: a prompt may repeat a variable
    as often as it likes.
    """
    variables: Mapping[str, Any] = item_input if isinstance(item_input, dict) else {"input": item_input}
    if missing := [name for name in prompt.variables if name not in variables]:
        has = ", ".join(map(repr, variables)) or "nothing"
        raise VariableError(f"the prompt's variable {missing[0]!r} is not in the item's input, which has {has}"[:1000])
    values = {name: _as_text(value) for name, value in variables.items()}
    if isinstance(prompt, ChatPrompt):
        values |= {name: _placeholder_messages(name, variables) for name in set(prompt.placeholders)}
    if (length := prompt.compiled_length(**values)) > MAX_CHARACTERS:
        raise PromptTooLongError(
            f"the prompt with the item's values has {length:,} characters; at most {MAX_CHARACTERS:,} are sent"
        )
    if isinstance(prompt, TextPrompt):
        return [{"role": "user", "content": prompt.compile(**values)}]
    return prompt.compile(**values)


def _placeholder_messages(name: str, variables: Mapping[str, Any]) -> Sequence[Message]:
    if name not in variables:
        raise VariableError(f"the prompt's placeholder {name!r} is not in the item's input")
    messages = variables[name]
    if not isinstance(messages, list) or not all(
        isinstance(each, dict) and isinstance(each.get("role"), str) and "content" in each for each in messages
    ):
        raise VariableError(f'the item\'s {name!r} is not a list of messages {{"role": …, "content": …}}')
    return messages


def _as_text(value: Any) -> Any:
    """Leave texts and None as they are; everything else becomes its JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _chat_item(item: ChatPromptItem) -> dict[str, str]:
    if item.WhichOneof("kind") == "placeholder":
        return {"type": "placeholder", "name": item.placeholder}
    return {"role": item.message.role, "content": item.message.content}
