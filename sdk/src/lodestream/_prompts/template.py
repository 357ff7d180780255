"""Variables in a text: `{{name}}` is replaced, once, by what is given for the name. Nothing is ever evaluated."""

import re
from collections.abc import Mapping
from typing import Any

_VARIABLE = re.compile(r"\{\{(?=[^{}]*[^\s{}])([^{}]+)\}\}")


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The text with its variables replaced; those without a value stay as they are, None becomes nothing.

    What is put in is not looked at again: a value that holds `{{other}}` stays as it is.
    """

    def value_of(found: re.Match[str]) -> str:
        name = found[1].strip()
        if name not in values:
            return found[0]
        value = values[name]
        return "" if value is None else str(value)

    return _VARIABLE.sub(value_of, text)


def filled_length(text: str, lengths: Mapping[str, int]) -> int:
    """How many characters `fill` gives, by the lengths of the values as texts. Nothing is built."""
    return len(text) + sum(
        lengths[name] - len(found[0]) for found in _VARIABLE.finditer(text) if (name := found[1].strip()) in lengths
    )


def variables_in(text: str) -> list[str]:
    """The names, in order, each once."""
    names = (found[1].strip() for found in _VARIABLE.finditer(text))
    return list(dict.fromkeys(name for name in names if name))


def as_format_string(text: str) -> str:
    """The same for `str.format` and LangChain's templates: `{name}`, and every other brace doubled."""
    parts, end = [], 0
    for found in _VARIABLE.finditer(text):
        parts += [_doubled(text[end : found.start()]), f"{{{found[1].strip()}}}"]
        end = found.end()
    return "".join((*parts, _doubled(text[end:])))


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
