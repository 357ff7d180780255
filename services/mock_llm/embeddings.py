"""POST /v1/embeddings: texts with the same words are near each other."""

import base64
import hashlib
import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from lodestream_evals.mock_model import count_tokens

from services.mock_llm.errors import wrong
from services.mock_llm.messages import model_of

_DIMENSIONS, _MAX_DIMENSIONS, _MAX_INPUTS = 64, 4_096, 2_048


def embed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer. Raises ApiError naming the parameter that makes no sense."""
    model, texts = model_of(body), _texts(body.get("input"))
    dimensions, encoding = body.get("dimensions", _DIMENSIONS), body.get("encoding_format", "float")
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise wrong("dimensions", f"is a number from 1 to {_MAX_DIMENSIONS}")
    if encoding not in ("float", "base64"):
        raise wrong("encoding_format", "is float or base64")
    data = []
    for index, text in enumerate(texts):
        told: Any = vector(text, dimensions)
        if encoding == "base64":
            told = base64.b64encode(struct.pack(f"<{dimensions}f", *told)).decode()
        data.append({"object": "embedding", "index": index, "embedding": told})
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def vector(text: str, dimensions: int) -> list[float]:
    """Of length 1: each word pushes in a direction of its own."""
    sums = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.sha256(word.encode()).digest()
        place, sign = int.from_bytes(digest[:8], "big") % dimensions, 1 if digest[8] % 2 else -1
        sums[place] += sign
    length = math.hypot(*sums)
    return [each / length for each in sums] if length else [1.0, *sums[1:]]


def _texts(given: Any) -> list[str]:
    """A text, a list of texts, or either as numbers of tokens."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and 0 < len(given) <= _MAX_INPUTS:
        if all(isinstance(each, str) for each in given):
            return given
        if all(isinstance(each, int) for each in given):
            return [" ".join(map(str, given))]
        if all(isinstance(each, list) for each in given):
            return [" ".join(map(str, each)) for each in given]
    raise wrong("input", f"is a text or a list of 1 to {_MAX_INPUTS} texts")
