"""Token usage in the words of observations, from the shapes in which providers and LangChain give it.

Every token is counted once: `input` and `output` are without their parts, which have kinds of their own.
"""

from collections.abc import Mapping
from typing import Any

_INPUT = ("input_tokens", "prompt_tokens", "inputTokens", "inputTokenCount", "prompt_token_count", "promptTokenCount")
_OUTPUT = ("output_tokens", "completion_tokens", "outputTokens", "outputTokenCount")
_OUTPUT_BESIDE_THOUGHTS = ("candidates_token_count", "candidatesTokenCount")
_TOTAL = ("total_tokens", "totalTokens", "total_token_count", "totalTokenCount")
_INPUT_DETAILS = ("input_token_details", "prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("output_token_details", "completion_tokens_details", "output_tokens_details")
_KINDS = {
    "cache_read": "cached_tokens",
    "cached_tokens": "cached_tokens",
    "cache_creation": "cache_creation",
    "cache_write": "cache_creation",
    "ephemeral_5m_input_tokens": "cache_creation",
    "ephemeral_1h_input_tokens": "cache_creation",
    "audio": "audio_tokens",
    "audio_tokens": "audio_tokens",
    "reasoning": "reasoning_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_CACHED_INSIDE = ("cached_content_token_count", "cachedContentTokenCount")  # Google
_CACHED_BESIDE = ("cache_read_input_tokens", "cacheReadInputTokens", "cacheReadInputTokenCount")  # Anthropic, Bedrock
_CREATED_BESIDE = ("cache_creation_input_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount")
_THOUGHTS_BESIDE = ("thoughts_token_count", "thoughtsTokenCount")  # Google


def usage_details(usage: Any) -> dict[str, int] | None:
    """Return the tokens by kind of a provider's or LangChain's usage object; None where it counts nothing.

    OpenAI, Google and LangChain count cached tokens inside the input; Anthropic and Bedrock beside it. Google counts
    thoughts beside the answer.

    Args:
        usage: A mapping in the shape of OpenAI (chat, responses), Anthropic, Bedrock, Google or LangChain.
    """
    if not isinstance(usage, Mapping):
        return None
    whole_input, whole_output = _first(usage, _INPUT), _first(usage, _OUTPUT)
    beside_thoughts = _first(usage, _OUTPUT_BESIDE_THOUGHTS)
    if whole_input is None and whole_output is None and beside_thoughts is None:
        return None
    parts = _parts("input", usage, _INPUT_DETAILS) | _parts("output", usage, _OUTPUT_DETAILS)
    if (cached := _first(usage, _CACHED_INSIDE)) is not None:
        parts["input_cached_tokens"] = cached
    cached_beside, created_beside = _first(usage, _CACHED_BESIDE), _first(usage, _CREATED_BESIDE)
    inside_input = sum(amount for kind, amount in parts.items() if kind.startswith("input"))
    if cached_beside or created_beside:
        inside_input = 0
        parts |= {"input_cached_tokens": cached_beside or 0, "input_cache_creation": created_beside or 0}
    inside_output = sum(amount for kind, amount in parts.items() if kind.startswith("output"))
    if whole_output is None and beside_thoughts is not None:
        whole_output = beside_thoughts
        parts["output_reasoning_tokens"] = _first(usage, _THOUGHTS_BESIDE) or 0
    details = {
        "input": None if whole_input is None else max(whole_input - inside_input, 0),
        "output": None if whole_output is None else max(whole_output - inside_output, 0),
        **{kind: amount for kind, amount in parts.items() if amount},
        "total": _first(usage, _TOTAL),
    }
    return {kind: amount for kind, amount in details.items() if amount is not None}


def _parts(prefix: str, usage: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for name in names:
        details = usage.get(name)
        for key, amount in details.items() if isinstance(details, Mapping) else ():
            if key in _KINDS and (counted := _count(amount)):
                kind = f"{prefix}_{_KINDS[key]}"
                parts[kind] = parts.get(kind, 0) + counted
    return parts


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(usage.get(name))) is not None), None)


def _count(value: Any) -> int | None:
    """A number of tokens; Bedrock's streams give them in lists."""
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        return sum(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
