"""Lists written flat, `llm.input_messages.0.message.role`, as nested values again."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared.spans.dialects.dialect import Attributes
from shared.spans.dialects.span_shape import ShapeCache, SpanShape
from shared.spans.dialects.values import plain

_MAX_ITEMS = 10_000
_MAX_DEPTH = 12
_LAYOUTS = ShapeCache[list[Any] | None]()


def unflatten(found: Attributes, prefix: str, *, item: str = "") -> list[Any]:
    """The list written under `prefix`, in index order; `item` is the step between the index and the fields."""
    shape = prefix, item, *found
    if (layout := _LAYOUTS.get(shape)) is None:
        layout = _layout(shape)
    if layout == []:
        return []
    values = [value.string_value or plain(value) for value in found.values()]
    if layout is None or dict in map(type, values):  # an object among them is a branch itself
        return _nested(zip(found, values, strict=True), prefix, item)
    return [_filled(entry, values) for entry in layout]


def _layout(shape: SpanShape) -> list[Any] | None:
    """The list with the places of the values instead of the values: it is the keys alone that decide how they nest.

    None at the first meeting. Conversations have many shapes that never come again, for which this would be in vain.
    """
    if shape not in _LAYOUTS:
        return _LAYOUTS.remember(shape, None)
    prefix, item, *keys = shape
    return _LAYOUTS.remember(shape, _nested(zip(keys, range(len(keys)), strict=True), prefix, item))


def _filled(layout: Any, values: Sequence[Any]) -> Any:
    if type(layout) is int:
        return values[layout]
    if type(layout) is list:
        return [_filled(below, values) for below in layout]
    return {key: values[at] if type(at) is int else _filled(at, values) for key, at in layout.items()}


def _nested(found: Iterable[tuple[str, Any]], prefix: str, item: str) -> list[Any]:
    start = f"{prefix}."
    tree: dict[str, Any] = {}
    for key, value in found:
        if key.startswith(start):
            _put(tree, key[len(start) :].split(".", _MAX_DEPTH), value)
    items = _lists(tree)
    if not isinstance(items, list):
        return []
    return [entry.get(item, entry) if item and isinstance(entry, dict) else entry for entry in items]


def _put(tree: dict[str, Any], steps: list[str], value: Any) -> None:
    *branches, leaf = steps
    for step in branches:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):  # a leaf and a branch of one name: the leaf stays
            return
        tree = below
    tree.setdefault(leaf, value)


def _lists(branch: dict[str, Any]) -> Any:
    below = {key: _lists(entry) if isinstance(entry, dict) else entry for key, entry in branch.items()}
    if (digits := "".join(below)).isdecimal() and digits.isascii() and "" not in below:
        return [below[key] for key in sorted(below, key=_index)[:_MAX_ITEMS]]
    return below


def _index(digits: str) -> tuple[int, str]:
    """Orders digits as int() would, which refuses more than 4,300 of them."""
    digits = digits.lstrip("0")
    return len(digits), digits
