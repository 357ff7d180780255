"""The page of the servers' environment variables, from the fields of `shared.runtime.settings`."""

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from shared.runtime import settings

_INTRODUCTION = """# Settings of the servers

Environment variables, by the processes that read them. Bytes, seconds and counts are plain numbers. The SDK's are in
[its guide](../guides/sdk.md#settings); [Operating](../operations.md) says how to choose their values.
"""
_MIB = 1024 * 1024


def page() -> str:
    groups = [
        group
        for group in vars(settings).values()
        if inspect.isclass(group) and issubclass(group, BaseSettings) and group.__module__ == settings.__name__
        if not group.__name__.startswith("_")
    ]
    return "\n".join([_INTRODUCTION, *(line for group in groups for line in _section(group))])


def _section(group: type[BaseSettings]) -> Iterator[str]:
    docs = _field_docs(group)
    title = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", group.__name__.removesuffix("Settings")).capitalize()
    yield f"\n## {title}\n\n{inspect.cleandoc(group.__doc__ or '')}\n"
    yield "| Variable | Default | |\n|---|---|---|"
    for name, field in group.model_fields.items():
        variable = field.validation_alias or f"{group.model_config['env_prefix']}{name}".upper()
        meaning = " ".join([docs.get(name, ""), _bounds(field)]).strip()
        yield f"| `{variable}` | {_default(field)} | {meaning} |"


def _field_docs(group: type[BaseSettings]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(group)).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(inspect.cleandoc(doc.value.value).split())
        for field, doc in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
    }


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return _number(value) if isinstance(value, int | float) else f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    words = {
        "ge": "at least",
        "gt": "more than",
        "le": "at most",
        "lt": "less than",
        "min_length": "characters, at least",
    }
    bounds = [
        f"{word} {_number(getattr(bound, name))}"
        for bound in field.metadata
        for name, word in words.items()
        if getattr(bound, name, None) is not None
    ]
    return f"({', '.join(bounds)})" if bounds else ""


def _number(value: float) -> str:
    if value >= _MIB and not value % _MIB:
        return f"{value:.0f} ({value / _MIB:.0f} MiB)"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
