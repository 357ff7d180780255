"""Token usage from the shapes providers send, to one in which every token is counted once.

Sources: OpenAI's chat and responses objects and OpenTelemetry's gen_ai.usage.* count cached tokens inside the input and
reasoning tokens inside the output; Anthropic's object counts cache reads and writes beside the input.
"""

from collections.abc import Mapping
from typing import Any

from shared.read_model.dialects.fields import Usage
from shared.read_model.dialects.values import Cleaner

CACHED, CACHE_CREATION, INPUT_AUDIO = "input_cached_tokens", "input_cache_creation", "input_audio_tokens"
REASONING, OUTPUT_AUDIO = "output_reasoning_tokens", "output_audio_tokens"


def inclusive(usage_in: Any = None, usage_out: Any = None, total: Any = None, /, **parts: Any) -> Usage | None:
    """Usage whose input and output include their parts (keywords, named as above): the parts are taken out of them."""
    clean = Cleaner().amount
    amounts = {key: amount for key, part in parts.items() if part is not None and (amount := clean(part))}
    usage: Usage = {}
    for key, whole in (("input", usage_in), ("output", usage_out)):
        counted = clean(whole) if whole is not None else None
        if counted is not None:
            inside = sum([amount for part, amount in amounts.items() if part.startswith(key)]) if amounts else 0
            usage[key] = max(counted - inside, 0)
    usage |= amounts
    counted_total = clean(total) if total is not None else None
    if counted_total is not None:
        usage["total"] = counted_total
    return usage or None


def from_mapping(raw: Mapping[str, Any]) -> Usage | None:
    """Usage from an object: a provider's own, or an open map whose kinds are counted apart already."""
    details_in = _object(raw, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    details_out = _object(raw, "completion_tokens_details", "output_tokens_details", "output_token_details")
    parts = {
        CACHED: _first(details_in, "cached_tokens", "cache_read"),
        CACHE_CREATION: _first(details_in, "cache_creation"),
        INPUT_AUDIO: _first(details_in, "audio_tokens", "audio"),
        REASONING: _first(details_out, "reasoning_tokens", "reasoning"),
        OUTPUT_AUDIO: _first(details_out, "audio_tokens", "audio"),
    }
    total = _first(raw, "total_tokens", "total")
    if "prompt_tokens" in raw or "completion_tokens" in raw:
        return inclusive(raw.get("prompt_tokens"), raw.get("completion_tokens"), total, **parts)
    if "input_tokens" in raw or "output_tokens" in raw:
        beside = {
            CACHED: raw.get("cache_read_input_tokens"),
            CACHE_CREATION: raw.get("cache_creation_input_tokens"),
        }
        if any(beside.values()):
            usage_in = _sum(raw.get("input_tokens"), *beside.values())
            return inclusive(usage_in, raw.get("output_tokens"), total, **(parts | beside))
        return inclusive(raw.get("input_tokens"), raw.get("output_tokens"), total, **parts)
    clean = Cleaner().amount
    apart = {str(key): amount for key, value in raw.items() if (amount := clean(value)) is not None}
    return apart or None


def totals(usage: Usage | None) -> tuple[int, int, int]:
    """Everything sent, everything produced, and the total of a usage."""
    if not usage:
        return 0, 0, 0
    sent = produced = 0
    for kind, amount in usage.items():
        if kind.startswith("input"):
            sent += amount
        elif kind.startswith("output"):
            produced += amount
    total = usage.get("total")
    return sent, produced, sent + produced if total is None else total


def _object(raw: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found = _first(raw, *keys)
    return found if isinstance(found, dict) else {}


def _first(raw: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        if (value := raw.get(key)) is not None:
            return value
    return None


def _sum(*amounts: Any) -> int:
    clean = Cleaner().amount
    return sum(clean(amount) or 0 for amount in amounts if amount is not None)
