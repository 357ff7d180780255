"""A version of a prompt, as a program has it: to be compiled, and to be named with a generation."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypedDict, final

from lodestream_evals.rate_limited_log import warn_once

# --- Variables in a text ----------------------------------------------------------------------------------------------
# Variables in a text: `{{name}}` is replaced, once, by what is given for the name. Nothing is ever evaluated.

_VARIABLE = re.compile(r"\{\{(?=[^{}]*[^\s{}])([^{}]+)\}\}")


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The text with its variables replaced; those without a value stay as they are, None becomes nothing.

    What is put in is not looked at again: a value that holds `{{other}}` stays as it is.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in values:
            return match[0]
        value = values[name]
        return "" if value is None else str(value)

    return _VARIABLE.sub(value_of, text)


def filled_length(text: str, lengths: Mapping[str, int]) -> int:
    """How many characters `fill` gives, by the lengths of the values as texts. Nothing is built."""
    return len(text) + sum(
        lengths[name] - len(match[0]) for match in _VARIABLE.finditer(text) if (name := match[1].strip()) in lengths
    )


def variables_in(text: str) -> list[str]:
    """The names, in order, each once."""
    names = (match[1].strip() for match in _VARIABLE.finditer(text))
    return list(dict.fromkeys(name for name in names if name))


def as_format_string(text: str, values: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the text for `str.format` and LangChain's templates: `{name}`, and every other brace doubled.

    Variables that have a value are filled in, with the braces of the value doubled.
    """
    parts, end = [], 0
    for match in _VARIABLE.finditer(text):
        name = match[1].strip()
        filled = "" if values.get(name) is None else _doubled(str(values[name]))
        parts += [_doubled(text[end : match.start()]), filled if name in values else f"{{{name}}}"]
        end = match.end()
    return "".join((*parts, _doubled(text[end:])))


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


# --- Prompts ----------------------------------------------------------------------------------------------------------
# A version of a prompt, as a program has it: to be compiled, and to be told of with a generation.


@final
class ChatMessage(TypedDict):
    """A message of a chat prompt."""

    role: str
    content: str


@final
class Placeholder(TypedDict):
    """Stands for messages that are given when the prompt is compiled."""

    type: Literal["placeholder"]
    name: str


ChatItem = ChatMessage | Placeholder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    name: str
    version: int
    """From 1; 0 for a fallback."""
    labels: Sequence[str] = ()
    """The labels that pointed to this version when it was read; `latest` is among those of the newest."""
    tags: Sequence[str] = ()
    commit_message: str = ""
    is_fallback: bool = False
    """The caller's own, because the server's could not be had. Generations are not linked to it."""
    config_json: str = field(default="", repr=False)

    @property
    def config(self) -> Any:
        """What travels with the prompt, model parameters for example; a copy, to be changed at will. {} without any."""
        return json.loads(self.config_json) if self.config_json else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompt(_Version):
    """A prompt that is one text."""

    prompt: str
    type: Literal["text"] = "text"

    def compile(self, /, **values: Any) -> str:
        """Fill in the variables.

        Args:
            **values: By the names of the variables. None becomes nothing; anything else its `str`.

        Returns:
            The text with `{{name}}` replaced by the value of `name`; variables without a value stay as they are. What
            is put in is not looked at again.
        """
        return fill(self.prompt, values)

    def compiled_length(self, /, **values: Any) -> int:
        """Return how many characters `compile` gives for these values, without building them.

        Args:
            **values: As for `compile`.
        """
        return filled_length(self.prompt, _text_lengths(values))

    @property
    def variables(self) -> list[str]:
        """The names that `compile` takes."""
        return variables_in(self.prompt)

    def get_langchain_prompt(self, /, **values: Any) -> str:
        """Return the text as a template of LangChain's: `{name}`, other braces doubled.

        Args:
            **values: By the names of variables that are to be filled in at once.
        """
        return as_format_string(self.prompt, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt(_Version):
    """A prompt that is a list of messages, with placeholders for further ones."""

    prompt: Sequence[ChatItem]
    type: Literal["chat"] = "chat"

    def compile(self, /, **values: Any) -> list[dict[str, Any]]:
        """Fill in the variables and the placeholders.

        What is put in is not looked at again: messages of users can't reach the other variables.

        Args:
            **values: By the names of the variables, and lists of messages by the names of the placeholders.

        Returns:
            The messages, `{{name}}` in them replaced, and placeholders by the messages given. A placeholder without
            messages stays, and that is logged.
        """
        messages: list[dict[str, Any]] = []
        for item in self.prompt:
            if "content" in item:
                messages.append({"role": item["role"], "content": fill(item["content"], values)})
            else:
                messages += self._messages_for(item["name"], values)
        return messages

    def compiled_length(self, /, **values: Any) -> int:
        """Return how many characters the messages have that `compile` gives, without building them.

        Messages given for placeholders count with all they hold, as JSON.

        Args:
            **values: As for `compile`.
        """
        placeholders = values.keys() & set(self.placeholders)
        lengths = _text_lengths({name: value for name, value in values.items() if name not in placeholders})
        of_messages = {name: len(json.dumps(values[name], ensure_ascii=False, default=str)) for name in placeholders}
        return sum(
            filled_length(item["content"], lengths) if "content" in item else of_messages.get(item["name"], 0)
            for item in self.prompt
        )

    @property
    def variables(self) -> list[str]:
        """The names that `compile` takes, without those of placeholders."""
        texts = [item["content"] for item in self.prompt if "content" in item]
        return list(dict.fromkeys(name for text in texts for name in variables_in(text)))

    @property
    def placeholders(self) -> list[str]:
        """The names of the placeholders."""
        return [item["name"] for item in self.prompt if "name" in item]

    def get_langchain_prompt(self, /, **values: Any) -> list[tuple[str, str]]:
        """Return what `ChatPromptTemplate.from_messages` takes; placeholders are ("placeholder", "{name}").

        Args:
            **values: By the names of variables that are to be filled in at once, and lists of messages, each with a
                role and a text, by the names of placeholders.
        """
        templates: list[tuple[str, str]] = []
        for item in self.prompt:
            if "content" in item:
                templates.append((item["role"], as_format_string(item["content"], values)))
            elif item["name"] in values:
                templates += [
                    (message["role"], _doubled(str(message["content"])))
                    for message in self._messages_for(item["name"], values)
                    if "content" in message
                ]
            else:
                templates.append(("placeholder", f"{{{item['name']}}}"))
        return templates

    def _messages_for(self, name: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        given = values.get(name)
        if isinstance(given, Sequence) and not isinstance(given, str | bytes):
            return [dict(message) if isinstance(message, Mapping) else message for message in given]
        problem = "has no messages" if given is None else f"needs a list of messages, not {type(given).__name__}"
        warn_once(f"placeholder {name}", f"prompt {self.name!r}: the placeholder {name!r} {problem}; it stays")
        return [{"type": "placeholder", "name": name}]


Prompt = TextPrompt | ChatPrompt


def _text_lengths(values: Mapping[str, Any]) -> dict[str, int]:
    """Return how long each value is where it is put in, by name: None is nothing, all else is its `str`."""
    return {name: 0 if value is None else len(str(value)) for name, value in values.items()}
