"""What the mock model answers, and when: it quotes its messages, and fills in the JSON that it is asked for.

The sensible answer to a judge's question is found by words: an output that has those of the expected one is good.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, str]
"""With "role" and "content"."""
Reply = Callable[[Sequence[Message]], str]
"""Makes the text of an answer of the messages."""

_CHARS_PER_TOKEN = 4  # the usual rule of thumb for English
_MESSAGE_TOKENS = 4  # what a chat format adds to each message
_PROMPT_TOKENS_PER_SECOND = 8_000.0  # reading is that much faster than writing
_JITTER = 0.2

_STEM = 6  # characters that tell words apart, whatever their ending
_DOUBT = 0.15  # how far a seed moves a judgement
_MAX_DEPTH = 8
MAX_ANSWER = 262_144
"""Characters of an answer: at four a token, about what the largest models write at most."""
_HEADING = re.compile(r"^#.*$", re.MULTILINE)
# As llm_judge tells a case: a line of JSON between marks.
_PART = re.compile(r"^<(\w+)-([0-9a-f]{16})>\n(.*)\n</\1-\2>$", re.MULTILINE)


def quote(messages: Sequence[Message], sentences: int | None = None) -> str:
    """Quote the neighbouring sentences, said before, that share most words with the last message.

    A first message that asks for one or two sentences is heeded, and not quoted.

    Args:
        messages: Mappings with "role" and "content".
        sentences: How many sentences. Default: two, or what the first message asks for.
    """
    *before, last = messages
    asked_for = {"one sentence": 1, "two sentences": 2}
    if before and (requested := next((words for words in asked_for if words in before[0]["content"]), None)):
        sentences = sentences or asked_for[requested]
        del before[0]
    sentences = sentences or 2
    question = _words(last["content"])
    passages = [
        spoken[at : at + sentences]
        for message in before
        for paragraph in re.split(r"\n\s*\n", _HEADING.sub("\n", message["content"]))
        for spoken in [re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))]
        for at in range(len(spoken))
        if spoken[at]
    ]
    best = max(passages, key=lambda passage: len(question & _words(" ".join(passage))), default=[])
    return " ".join(best) or "I do not know."


def answer(
    messages: Sequence[Message],
    response_format: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_characters: int = MAX_ANSWER,
) -> str:
    """Answer messages with a quotation; where JSON is asked for, with JSON that satisfies its schema.

    Args:
        messages: Mappings with "role" and "content".
        response_format: OpenAI's `response_format`. Default: a text.
        seed: Other seeds than 0 move a judge's verdict a little, so that votes may differ. It follows from how many
            words of the expected output (else of the input) the output has.
        max_characters: Characters of the answer at most.

    Returns:
        The text, or JSON as a text, as far as the mock knows schemas.

    Raises:
        ValueError: The format can't be followed, or the answer has more than `max_characters`; it is not built then.
    """
    try:
        return _answer(messages, response_format or {}, seed, max_characters)
    except (TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"the response format can't be followed: {type(error).__name__}: {error}") from error


def _answer(messages: Sequence[Message], response_format: Mapping[str, Any], seed: int, max_characters: int) -> str:
    kind = response_format.get("type", "text")
    schema = _schema_of(messages, response_format)
    if schema is None and kind == "text":
        text = quote(messages)
        if len(text) > max_characters:
            raise ValueError(_too_long(max_characters))
        return text
    if schema is None:
        schema = {"properties": {"answer": {"const": quote(messages)}}}
    filler = _Filler(_judgement(messages, seed), max_characters)
    return json.dumps(filler.value_for(schema), ensure_ascii=False, allow_nan=False)


def _too_long(max_characters: int) -> str:
    return f"the answer would have more than {max_characters:,} characters"


@dataclass(frozen=True, slots=True)
class _Judgement:
    """How good the case is that is judged, from 0 to 1, and why; of other questions, nothing in particular."""

    share: float
    reasoning: str


def _judgement(messages: Sequence[Message], seed: int) -> _Judgement:
    parts: dict[str, Any] = {}
    for message in messages:
        for name, _, text in _PART.findall(message["content"]):
            parts[name] = json.loads(text)
    if "output" not in parts:
        return _Judgement(1.0, quote(messages))
    against = "expected_output" if parts.get("expected_output") is not None else "input"
    output, wanted = _words(_as_text(parts["output"])), _words(_as_text(parts.get(against)))
    shared = len(output & wanted)
    share = shared / len(wanted) if wanted else 1.0
    if seed:
        doubt = random.Random(f"{seed} {sorted(output)}").uniform(-_DOUBT, _DOUBT)  # noqa: S311 - to be repeatable
        share = min(max(share + doubt, 0.0), 1.0)
    source = against.replace("_", " ")
    return _Judgement(share, f"The output has {shared} of {len(wanted)} words of the {source} that tell something.")


def _schema_of(messages: Sequence[Message], response_format: Mapping[str, Any]) -> Any:
    """The one of the response format, else one that the last line of the first message is."""
    if response_format.get("type") == "json_schema":
        return response_format["json_schema"].get("schema", {})
    try:
        schema = json.loads(messages[0]["content"].rsplit("\n", 1)[-1])
    except ValueError:
        return None
    return schema if isinstance(schema, dict) and "properties" in schema and schema.get("type") == "object" else None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(text: str) -> set[str]:
    return {word[:_STEM] for word in re.findall(r"\w+", text.lower()) if len(word) > 4 or word.isdigit()}


class _Filler:
    """Builds a value for a JSON Schema, and raises ValueError before its JSON has more than some characters.

    The schema says how often a text is repeated, so that a few kilobytes of schema and text ask for gigabytes.
    """

    def __init__(self, judgement: _Judgement, max_characters: int) -> None:
        self._judgement, self._max_characters = judgement, max_characters
        self._room = max_characters
        self._reasoning_length = _json_length(judgement.reasoning)

    def value_for(self, schema: Any, depth: int = _MAX_DEPTH, times: int = 1) -> Any:
        """Booleans, numbers and choices follow the judgement, the last choice being the best.

        `times` is how often the value is in the answer: arrays repeat their items.
        """
        if not isinstance(schema, Mapping) or depth == 0:
            return self._reasoning(times)
        if "const" in schema:
            return self._scalar(schema["const"], times)
        if choices := schema.get("enum"):
            return self._scalar(choices[round(self._judgement.share * (len(choices) - 1))], times)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        if kind == "object":
            filled = {}
            for name, each in schema.get("properties", {}).items():
                self._take(_json_length(name), times)
                filled[name] = self.value_for(each, depth - 1, times)
            return filled
        if kind == "array":
            most = 10 if depth > _MAX_DEPTH - 2 else 1
            count = min(int(schema.get("minItems", 1)), most)
            return [self.value_for(schema.get("items", {}), depth - 1, times * count)] * count if count > 0 else []
        if kind in ("number", "integer"):
            least = schema.get("minimum", 0)
            number = least + self._judgement.share * (schema.get("maximum", least + 1) - least)
            return self._scalar(round(number) if kind == "integer" else round(number, 2), times)
        if kind in ("boolean", "null"):
            return self._scalar(self._judgement.share >= 0.5 if kind == "boolean" else None, times)
        return self._reasoning(times)

    def _reasoning(self, times: int) -> str:
        self._take(self._reasoning_length, times)
        return self._judgement.reasoning

    def _scalar(self, value: Any, times: int) -> Any:
        self._take(_json_length(value), times)
        return value

    def _take(self, length: int, times: int) -> None:
        self._room -= (length + len(", ")) * times
        if self._room < 0:
            raise ValueError(_too_long(self._max_characters))


def _json_length(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False))


# --- Times and tokens -------------------------------------------------------------------------------------------------


def count_tokens(text: str) -> int:
    """Return about what a model's tokenizer would count: a token for each four characters.

    Args:
        text: Any text.
    """
    return -(-len(text) // _CHARS_PER_TOKEN)


def tokens_of(text: str) -> list[str]:
    """Return a text in as many pieces as it has tokens.

    Args:
        text: Any text.
    """
    return [text[at : at + _CHARS_PER_TOKEN] for at in range(0, len(text), _CHARS_PER_TOKEN)]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will happen, decided by seed and messages alone."""

    pieces: Sequence[str]
    input_tokens: int
    first_seconds: float
    piece_seconds: float
    fails: bool

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    def usage(self, pieces: int | None = None) -> dict[str, int]:
        """Return the tokens: input, output, total.

        Args:
            pieces: Count only so many pieces of the answer. Default: all.
        """
        output = len(self.pieces) if pieces is None else pieces
        return {"input": self.input_tokens, "output": output, "total": self.input_tokens + output}

    @property
    def seconds(self) -> float:
        """Seconds that the whole answer takes."""
        return self.first_seconds + len(self.pieces) * self.piece_seconds


@dataclass(frozen=True, slots=True)
class MockPlanner:
    """A mock model without its calls: what it answers and how long that takes follow from seed and messages."""

    name: str
    seed: int = 0
    reply: Reply = quote
    first_token_seconds: float = 0.15
    """Seconds until the first token, without reading the prompt."""
    tokens_per_second: float = 250.0
    error_rate: float = 0.0
    """The share of messages whose calls fail, 0 to 1."""

    def plan(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Plan:
        """Return what a call with such parameters comes to."""
        key = json.dumps([self.name, self.seed, [dict(message) for message in messages], parameters], default=str)
        chance = random.Random(hashlib.sha256(key.encode()).digest())  # noqa: S311 - a repeatable one is wanted
        stretch = 1 + chance.uniform(-_JITTER, _JITTER)
        input_tokens = sum(count_tokens(message["content"]) + _MESSAGE_TOKENS for message in messages)
        return Plan(
            pieces=tokens_of(self.reply(messages)),
            input_tokens=input_tokens,
            first_seconds=(self.first_token_seconds + input_tokens / _PROMPT_TOKENS_PER_SECOND) * stretch,
            piece_seconds=1 / self.tokens_per_second * stretch,
            fails=chance.random() < self.error_rate,
        )
