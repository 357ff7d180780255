"""What the mock model says: it quotes what it was given, and fills in the JSON that it is asked for.

The sensible answer to a judge's question is found by words: an output that has those of the expected one is good.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, str]
"""With "role" and "content"."""

_STEM = 6  # characters that tell words apart, whatever their ending
_DOUBT = 0.15  # how far a seed moves a judgement
_MAX_DEPTH = 8
_HEADING = re.compile(r"^#.*$", re.MULTILINE)
# As llm_judge tells a case: a line of JSON between marks.
_PART = re.compile(r"^<(\w+)-([0-9a-f]{16})>\n(.*)\n</\1-\2>$", re.MULTILINE)


def quote(messages: Sequence[Message], sentences: int | None = None) -> str:
    """The neighbouring sentences said before that share most words with the last message.

    Two, unless told otherwise. A first message that asks for one or two sentences is heeded, and not quoted.
    """
    *before, last = messages
    asked_for = {"one sentence": 1, "two sentences": 2}
    if before and (told := next((words for words in asked_for if words in before[0]["content"]), None)):
        sentences = sentences or asked_for[told]
        del before[0]
    sentences = sentences or 2
    asked = _words(last["content"])
    passages = [
        said[at : at + sentences]
        for message in before
        for paragraph in re.split(r"\n\s*\n", _HEADING.sub("\n", message["content"]))
        for said in [re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))]
        for at in range(len(said))
        if said[at]
    ]
    best = max(passages, key=lambda passage: len(asked & _words(" ".join(passage))), default=[])
    return " ".join(best) or "I do not know."


def answer(messages: Sequence[Message], response_format: Mapping[str, Any] | None = None, seed: int = 0) -> str:
    """A quotation; where JSON is asked for, JSON that satisfies its schema, as far as the mock knows schemas.

    A judge's verdict follows from how many words of the expected output (else of the input) the output has; seeds other
    than 0 move it a little, so that votes may differ. Raises ValueError for a format that can't be followed.
    """
    try:
        return _answer(messages, response_format or {}, seed)
    except (TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"the response format can't be followed: {type(error).__name__}: {error}") from error


def _answer(messages: Sequence[Message], response_format: Mapping[str, Any], seed: int) -> str:
    kind = response_format.get("type", "text")
    schema = _schema_of(messages, response_format)
    if schema is None and kind == "text":
        return quote(messages)
    judgement = _judgement(messages, seed)
    told = {"answer": quote(messages)} if schema is None else _filled(schema, judgement, _MAX_DEPTH)
    return json.dumps(told, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class _Judgement:
    """How good the case is that is judged, from 0 to 1, and why; of other questions, nothing in particular."""

    share: float
    reasoning: str


def _judgement(messages: Sequence[Message], seed: int) -> _Judgement:
    parts: dict[str, Any] = {}
    for message in messages:
        for name, _, told in _PART.findall(message["content"]):
            parts[name] = json.loads(told)
    if "output" not in parts:
        return _Judgement(1.0, quote(messages))
    against = "expected_output" if parts.get("expected_output") is not None else "input"
    output, wanted = _words(_told(parts["output"])), _words(_told(parts.get(against)))
    shared = len(output & wanted)
    share = shared / len(wanted) if wanted else 1.0
    if seed:
        doubt = random.Random(f"{seed} {sorted(output)}").uniform(-_DOUBT, _DOUBT)  # noqa: S311 - to be repeatable
        share = min(max(share + doubt, 0.0), 1.0)
    told = against.replace("_", " ")
    return _Judgement(share, f"The output has {shared} of {len(wanted)} words of the {told} that tell something.")


def _schema_of(messages: Sequence[Message], response_format: Mapping[str, Any]) -> Any:
    """The one of the response format, else one that the last line of the first message is."""
    if response_format.get("type") == "json_schema":
        return response_format["json_schema"].get("schema", {})
    try:
        found = json.loads(messages[0]["content"].rsplit("\n", 1)[-1])
    except ValueError:
        return None
    return found if isinstance(found, dict) and "properties" in found and found.get("type") == "object" else None


def _filled(schema: Any, judgement: _Judgement, depth: int) -> Any:
    """A value for it: truths, numbers and choices by the judgement, the last choice being the best."""
    if not isinstance(schema, Mapping) or depth == 0:
        return judgement.reasoning
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return choices[round(judgement.share * (len(choices) - 1))]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        return {name: _filled(each, judgement, depth - 1) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        most = 10 if depth > _MAX_DEPTH - 2 else 1
        return [_filled(schema.get("items", {}), judgement, depth - 1)] * min(int(schema.get("minItems", 1)), most)
    if kind in ("number", "integer"):
        least = schema.get("minimum", 0)
        number = least + judgement.share * (schema.get("maximum", least + 1) - least)
        return round(number) if kind == "integer" else round(number, 2)
    return {"boolean": judgement.share >= 0.5, "null": None}.get(kind, judgement.reasoning)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(text: str) -> set[str]:
    return {word[:_STEM] for word in re.findall(r"\w+", text.lower()) if len(word) > 4 or word.isdigit()}
