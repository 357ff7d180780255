"""What of a command about a prompt can't be taken, whatever the prompt's history is. Pure.

Names and labels follow the rules of Langfuse, so that prompts can move between the two.
"""

import math
import re
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import orjson
from lodestream_proto.v1.prompt_event_pb2 import (
    ChatPrompt,
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from lodestream_proto.v1.prompts_pb2 import PromptSelector

from shared.rules.json_texts import values_in
from shared.rules.texts import check_line, check_text
from shared.runtime.refusal import InvalidError

MAX_NAME = 255
MAX_LABEL = 36
MAX_PROMPT_BYTES = 1024 * 1024
"""Of a version with all that belongs to it, encoded."""
MAX_VERSION = 2**31 - 1
_MAX_LABELS, _MAX_TAGS, _MAX_TAG, _MAX_AUTHOR, _MAX_COMMIT_MESSAGE = 50, 50, 255, 255, 4_096
_MAX_REVISION = 2**63 - 1
_LABEL = re.compile(r"[a-z0-9_\-.]+", re.ASCII)
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def command_id(given: str) -> str:
    """The id as it was given.

    Raises InvalidError when it is no UUID.
    """
    try:
        if str(uuid.UUID(given)) == given:
            return given
    except ValueError:
        pass
    raise InvalidError("command_id", "is no UUID in its canonical form")


def check_creation(created: PromptVersionCreated, path: str) -> None:
    """Raises InvalidError when no version can come of it."""
    if (size := created.ByteSize()) > MAX_PROMPT_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_PROMPT_BYTES} are taken")
    check_name(created.prompt_name, f"{path}.prompt_name")
    match created.WhichOneof("content"):
        case "text":
            check_text(created.text, f"{path}.text")
        case "chat":
            _check_chat(created.chat, f"{path}.chat")
        case _:
            raise InvalidError(f"{path}.content", "is missing: a prompt has a text or a chat")
    _check_config(created.config_json, f"{path}.config_json")
    _check_labels(created.labels, f"{path}.labels")
    if len(created.tags) > _MAX_TAGS:
        raise InvalidError(f"{path}.tags", f"are {len(created.tags)}; at most {_MAX_TAGS} are taken")
    for n, tag in enumerate(created.tags):
        check_line(tag, f"{path}.tags[{n}]", most=_MAX_TAG)
    check_text(created.commit_message, f"{path}.commit_message", least=0, most=_MAX_COMMIT_MESSAGE)
    _check_author(created.author, path)


def check_move(move: PromptLabelsMoved, path: str) -> None:
    """Raises InvalidError when no labels can move by it."""
    check_name(move.prompt_name, f"{path}.prompt_name")
    if move.version > MAX_VERSION:
        raise InvalidError(f"{path}.version", f"is more than {MAX_VERSION}")
    if not move.labels:
        raise InvalidError(f"{path}.labels", "are missing")
    _check_labels(move.labels, f"{path}.labels")
    _check_revision(move.expected_revision, path)
    _check_author(move.author, path)


def check_roll_back(roll_back: PromptLabelRolledBack, path: str) -> None:
    """Raises InvalidError when no label can go back by it."""
    check_name(roll_back.prompt_name, f"{path}.prompt_name")
    _check_movable(roll_back.label, f"{path}.label")
    _check_revision(roll_back.expected_revision, path)
    _check_author(roll_back.author, path)


def check_archival(archived: PromptArchived, path: str) -> None:
    """Raises InvalidError when no prompt can be archived by it."""
    check_name(archived.prompt_name, f"{path}.prompt_name")
    _check_author(archived.author, path)


def check_selector(selector: PromptSelector, path: str) -> None:
    """Raises InvalidError when nothing can be called so."""
    check_name(selector.name, f"{path}.name")
    if selector.HasField("label"):
        check_label(selector.label, f"{path}.label")
    elif selector.HasField("version") and not 0 < selector.version <= MAX_VERSION:
        raise InvalidError(f"{path}.version", f"is {selector.version}; versions count from 1")


def check_name(name: str, path: str) -> None:
    """Raises InvalidError when no prompt can have this name."""
    check_line(name, path, most=MAX_NAME)
    if "|" in name:
        raise InvalidError(path, 'has a "|"')
    if name.startswith("/") or name.endswith("/") or "//" in name:
        raise InvalidError(path, 'begins or ends with "/", or has two of them in a row')


def _check_labels(labels: Sequence[str], path: str) -> None:
    if len(labels) > _MAX_LABELS:
        raise InvalidError(path, f"are {len(labels)}; at most {_MAX_LABELS} are taken")
    for n, label in enumerate(labels):
        _check_movable(label, f"{path}[{n}]")


def _check_movable(label: str, path: str) -> None:
    check_label(label, path)
    if label == "latest":
        raise InvalidError(path, '"latest" moves by itself')


def check_label(label: str, path: str) -> None:
    """Raises InvalidError when no label can be so."""
    if len(label) > MAX_LABEL or not _LABEL.fullmatch(label):
        raise InvalidError(path, f"is not one to {MAX_LABEL} of a-z, 0-9, _, -, .")


def _check_chat(chat: ChatPrompt, path: str) -> None:
    if not chat.items:
        raise InvalidError(f"{path}.items", "are missing")
    placeholders: dict[str, str] = {}
    variables: set[str] = set()
    for n, item in enumerate(chat.items):
        match item.WhichOneof("kind"):
            case "message":
                check_line(item.message.role, f"{path}.items[{n}].message.role", most=MAX_NAME)
                check_text(item.message.content, f"{path}.items[{n}].message.content", least=0)
                variables.update(_VARIABLE.findall(item.message.content))
            case "placeholder":
                check_line(item.placeholder, f"{path}.items[{n}].placeholder", most=MAX_NAME)
                placeholders.setdefault(item.placeholder, f"{path}.items[{n}].placeholder")
            case _:
                raise InvalidError(f"{path}.items[{n}]", "is neither a message nor a placeholder")
    for name, where in placeholders.items():
        if name in variables:
            raise InvalidError(where, f"{name!r} is also the name of a variable")


def _check_config(config_json: str, path: str) -> None:
    if not config_json:
        return
    try:
        config = orjson.loads(config_json)
    except orjson.JSONDecodeError as error:
        raise InvalidError(path, f"is no JSON: {error}") from None
    for value in values_in(config):
        if isinstance(value, str) and "\0" in value:
            raise InvalidError(path, "has a NUL character")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidError(path, "has a number that is too large")


def _check_revision(revision: int, path: str) -> None:
    if revision > _MAX_REVISION:
        raise InvalidError(f"{path}.expected_revision", f"is more than {_MAX_REVISION}")


def _check_author(author: str, path: str) -> None:
    check_line(author, f"{path}.author", least=0, most=_MAX_AUTHOR)


def check_count(requested: Collection[Any], path: str, *, most: int) -> None:
    """Raises InvalidError when more is asked for in one call than may be."""
    if len(requested) > most:
        raise InvalidError(path, f"are {len(requested)}; at most {most} are taken")
