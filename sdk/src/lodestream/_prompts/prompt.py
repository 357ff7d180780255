"""Prompts of the caller's own, from texts and mappings as programs write them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lodestream_evals.prompt import ChatItem, ChatMessage, ChatPrompt, Placeholder, Prompt, TextPrompt

from lodestream._arguments import list_of

PromptType = Literal["text", "chat"]
Messages = Sequence[Mapping[str, Any]]


def fallback_of(name: str, fallback: str | Sequence[Mapping[str, Any]], as_type: PromptType | None = None) -> Prompt:
    """The caller's own text or messages as a prompt.

    Raises TypeError or ValueError naming the argument when it is neither, or not of the type.
    """
    if as_type is not None and (as_type == "text") != isinstance(fallback, str):
        expected = "a text" if as_type == "text" else "a list of messages"
        raise TypeError(f"fallback of a {as_type} prompt is {expected}, not of type {type(fallback).__name__}")
    if isinstance(fallback, str):
        return TextPrompt(name=name, version=0, is_fallback=True, prompt=fallback)
    return ChatPrompt(name=name, version=0, is_fallback=True, prompt=chat_items(fallback, "fallback"))


def chat_items(messages: Sequence[Mapping[str, Any]], argument: str = "prompt") -> tuple[ChatItem, ...]:
    """Messages and placeholders, from mappings as callers write them.

    Raises TypeError or ValueError naming the argument, or the first in it that is neither.
    """
    return tuple(_item(f"{argument}[{index}]", each) for index, each in enumerate(list_of(messages, argument)))


def _item(place: str, message: Any) -> ChatItem:
    if not isinstance(message, Mapping):
        raise TypeError(f"{place} is a message, a mapping, not of type {type(message).__name__}")
    if message.get("type") == "placeholder" and isinstance(message.get("name"), str):
        return Placeholder(type="placeholder", name=message["name"])
    if isinstance(message.get("role"), str) and isinstance(message.get("content"), str):
        return ChatMessage(role=message["role"], content=message["content"])
    expected = '{"role": …, "content": …} or {"type": "placeholder", "name": …}'
    raise ValueError(f"{place} is not {expected}: {message!r:.200}")
