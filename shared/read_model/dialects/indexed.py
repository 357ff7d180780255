"""Lists written flat, `llm.input_messages.0.message.role`, as nested values again."""

from typing import Any

from shared.read_model.dialects.fields import Found
from shared.read_model.dialects.values import plain

_MAX_ITEMS = 10_000
_MAX_DEPTH = 12


def indexed(found: Found, prefix: str, *, item: str = "") -> list[Any]:
    """The list written under `prefix`, in index order; `item` is the step between the index and the fields."""
    start = f"{prefix}."
    tree: dict[str, Any] = {}
    for key, value in found.items():
        if key.startswith(start):
            _put(tree, key[len(start) :].split(".", _MAX_DEPTH), value.string_value or plain(value))
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
        return [below[key] for key in sorted(below, key=int)[:_MAX_ITEMS]]
    return below
