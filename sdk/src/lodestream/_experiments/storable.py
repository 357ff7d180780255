"""Values as texts that the server takes, whatever they are: nothing that a task returns loses an item."""

import json
from typing import Any

from lodestream._json.lenient import to_json

_MAX_DEPTH = 60
"""The server takes a few more lists and objects within each other."""
_MAX_OBJECT_BYTES = 60_000
"""Of metadata; the server takes a little more."""
_CUT = "…"


def storable_text(value: Any, most: int) -> str:
    """A text of at most so many characters, without those that no database takes."""
    text = str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= most else f"{text[: most - 1]}{_CUT}"


def storable_json(value: Any) -> str:
    """JSON text of any value; cut where it is too large or too deep."""
    text = to_json(value).encode("utf-8", "replace").decode()
    twice: list[str] = []

    def entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):  # 1 and "1" were keys
            twice.append(text)
        return found

    try:
        read = json.loads(text, object_pairs_hook=entries)
        mended = _mended(read, 0)
    except (RecursionError, ValueError):
        return json.dumps(f"<{type(value).__name__} that can't be written as JSON>")
    return _dumped(mended) if twice or mended != read else text


def storable_object(value: Any) -> str:
    """JSON text of an object; "" for nothing. What is no mapping is its entry "metadata"; too large, it is left out."""
    if value is None or value == {}:
        return ""
    read = json.loads(storable_json(value))
    text = _dumped(_without_nul(read if isinstance(read, dict) else {"metadata": read}))
    size = len(text.encode())
    return text if size <= _MAX_OBJECT_BYTES else _dumped({"note": f"left out: {size} bytes are too many"})


def _mended(value: Any, depth: int) -> Any:
    """Without what is too deep."""
    if not isinstance(value, dict | list):
        return value
    if depth >= _MAX_DEPTH:
        return _CUT
    if isinstance(value, list):
        return [_mended(item, depth + 1) for item in value]
    return {name: _mended(item, depth + 1) for name, item in value.items()}


def _without_nul(value: Any) -> Any:
    """As databases take it."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
