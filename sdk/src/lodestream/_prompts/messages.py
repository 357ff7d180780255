"""Prompts from and to the contract's messages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lodestream_evals.prompt import ChatItem, ChatMessage, ChatPrompt, Placeholder, Prompt, TextPrompt
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage as WireMessage
from lodestream_proto.v1.prompt_event_pb2 import ChatPrompt as ChatMessages
from lodestream_proto.v1.prompt_event_pb2 import ChatPromptItem, PromptVersionCreated
from lodestream_proto.v1.prompts_pb2 import PromptSelector, PromptVersion

from lodestream._prompts.prompt import chat_items

Selector = tuple[str, int | str]
"""A name, and a version or a label."""


def selector_of(selector: Selector) -> PromptSelector:
    """The selector as a message."""
    name, which = selector
    return (
        PromptSelector(name=name, version=which) if isinstance(which, int) else PromptSelector(name=name, label=which)
    )


def selector_from(message: PromptSelector) -> Selector:
    """The selector that a message is."""
    return message.name, message.version if message.WhichOneof("which") == "version" else message.label or "production"


def prompt_from(message: PromptVersion) -> Prompt:
    """The prompt that a message is."""
    fields: dict[str, Any] = {
        "name": message.name,
        "version": message.version,
        "labels": tuple(message.labels),
        "tags": tuple(message.tags),
        "commit_message": message.commit_message,
        "config_json": message.config_json,
    }
    if message.WhichOneof("content") == "chat":
        return ChatPrompt(prompt=tuple(map(_item_from, message.chat.items)), **fields)
    return TextPrompt(prompt=message.text, **fields)


def creation_message(
    name: str,
    prompt: str | Sequence[Mapping[str, Any]],
    *,
    labels: Sequence[str],
    tags: Sequence[str],
    config: Any,
    commit_message: str,
    author: str,
) -> PromptVersionCreated:
    """What asks for a new version.

    Raises ValueError or TypeError when the messages or the config are none.
    """
    created = PromptVersionCreated(
        prompt_name=name,
        labels=labels,
        tags=tags,
        config_json="" if config is None else json.dumps(config, ensure_ascii=False, allow_nan=False),
        commit_message=commit_message,
        author=author,
    )
    if isinstance(prompt, str):
        created.text = prompt
    else:
        created.chat.CopyFrom(ChatMessages(items=map(_item_of, chat_items(prompt))))
    return created


def _item_of(item: ChatItem) -> ChatPromptItem:
    if "content" in item:
        return ChatPromptItem(message=WireMessage(role=item["role"], content=item["content"]))
    return ChatPromptItem(placeholder=item["name"])


def _item_from(item: ChatPromptItem) -> ChatItem:
    if item.WhichOneof("kind") == "placeholder":
        return Placeholder(type="placeholder", name=item.placeholder)
    return ChatMessage(role=item.message.role, content=item.message.content)
