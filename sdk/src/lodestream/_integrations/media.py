"""Pictures, sounds and files in what models are sent: their type and size are kept, not their bytes."""

import re
from collections.abc import Mapping
from typing import Any

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,", re.ASCII)
_FIELDS = frozenset({"data", "b64_json", "base64", "file_data", "image_base64", "partial_image_b64"})
_LEAST = 256
"""Characters from which a text in a field for media is media."""
_MAX_DEPTH = 8


def without_media(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Return a value in which base64 of pictures, sounds and files is replaced by what it is and its size."""
    if isinstance(value, str):
        return _described(value) if value.startswith("data:") else value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {key: _field(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_media(item, depth - 1) for item in value]
    return value


def _field(name: str, value: Any, depth: int) -> Any:
    if name in _FIELDS and isinstance(value, str) and not value.startswith("data:") and len(value) >= _LEAST:
        return f"<{len(value) * 3 // 4} bytes in base64>"
    return without_media(value, depth)


def _described(uri: str) -> str:
    head = _DATA_URI.match(uri, 0, 200)
    return uri if head is None else f"<{head[1] or 'data'}, {(len(uri) - head.end()) * 3 // 4} bytes>"
