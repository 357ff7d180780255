"""Token usage from the shapes providers send, to one in which every token is counted once.

Sources: OpenAI's chat and responses objects and OpenTelemetry's gen_ai.usage.* count cached tokens inside the input and
reasoning tokens inside the output; Anthropic's object counts cache reads and writes beside the input.
"""

from collections.abc import Mapping
from typing import Any

from shared.spans.dialects.dialect import Usage
from shared.spans.dialects.values import ENTRIES, MAX_KINDS, Cleaner

CACHED, CACHE_CREATION, INPUT_AUDIO = "input_cached_tokens", "input_cache_creation", "input_audio_tokens"
REASONING, OUTPUT_AUDIO = "output_reasoning_tokens", "output_audio_tokens"
_USUAL_KINDS = frozenset({"input", "output", "total", CACHED, CACHE_CREATION, INPUT_AUDIO, REASONING, OUTPUT_AUDIO})


def inclusive(
    clean: Cleaner, usage_in: Any = None, usage_out: Any = None, total: Any = None, /, **parts: Any
) -> Usage | None:
    """Usage whose input and output include their parts (keywords, named as above): the parts are taken out of them."""
    amount_of = clean.amount
    amounts = {key: amount for key, part in parts.items() if part is not None and (amount := amount_of(part))}
    usage: Usage = {}
    for key, whole in (("input", usage_in), ("output", usage_out)):
        counted = amount_of(whole) if whole is not None else None
        if counted is not None:
            inside = sum([amount for part, amount in amounts.items() if part.startswith(key)]) if amounts else 0
            usage[key] = max(counted - inside, 0)
    usage |= amounts
    counted_total = amount_of(total) if total is not None else None
    if counted_total is not None:
        usage["total"] = counted_total
    return usage or None


def from_mapping(raw: Mapping[str, Any], clean: Cleaner | None = None) -> Usage | None:
    """Usage from an object: a provider's own, or an open map whose kinds are counted apart already."""
    clean = clean or Cleaner()
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
        return inclusive(clean, raw.get("prompt_tokens"), raw.get("completion_tokens"), total, **parts)
    if "input_tokens" in raw or "output_tokens" in raw:
        beside = {
            CACHED: raw.get("cache_read_input_tokens"),
            CACHE_CREATION: raw.get("cache_creation_input_tokens"),
        }
        if any(beside.values()):
            usage_in = _sum(clean, raw.get("input_tokens"), *beside.values())
            return inclusive(clean, usage_in, raw.get("output_tokens"), total, **(parts | beside))
        return inclusive(clean, raw.get("input_tokens"), raw.get("output_tokens"), total, **parts)
    amount_of = clean.amount
    return {
        kind: amount for kind, value in by_kind(raw, clean).items() if (amount := amount_of(value)) is not None
    } or None


def by_kind(raw: Mapping[str, Any], clean: Cleaner) -> Mapping[str, Any]:
    """The entries of an open map that say something, at most MAX_KINDS of them, under names that columns take."""
    if raw.keys() <= _USUAL_KINDS and None not in raw.values():
        return raw
    entries = [(kind, value) for kind, value in raw.items() if value is not None]
    if (too_many := len(entries) - MAX_KINDS) > 0:
        clean.count(ENTRIES, too_many)
    return {clean.name(kind): value for kind, value in entries[:MAX_KINDS]}


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


def _sum(clean: Cleaner, *amounts: Any) -> int:
    return sum(clean.amount(amount) or 0 for amount in amounts if amount is not None)
