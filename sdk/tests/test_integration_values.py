"""What integrations make of tokens and media, whatever the library that gave them."""

from typing import Any

import pytest
from lodestream._integrations.media import without_media
from lodestream._integrations.usage import usage_details

OPENAI_CHAT = {
    "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": None},
}  # fmt: skip
OPENAI_RESPONSES = {
    "input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
    "input_tokens_details": {"cached_tokens": 60}, "output_tokens_details": {"reasoning_tokens": 20},
}  # fmt: skip
ANTHROPIC = {
    "input_tokens": 30, "output_tokens": 50, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10,
}  # fmt: skip
BEDROCK = {
    "inputTokens": 30, "outputTokens": 50, "totalTokens": 150, "cacheReadInputTokens": 60, "cacheWriteInputTokens": 10,
}  # fmt: skip
BEDROCK_STREAM = {"inputTokenCount": [30], "outputTokenCount": [20, 30]}
GOOGLE = {
    "prompt_token_count": 100, "candidates_token_count": 30, "thoughts_token_count": 20,
    "cached_content_token_count": 60, "total_token_count": 150,
}  # fmt: skip
LANGCHAIN = {
    "input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
    "input_token_details": {"cache_read": 60, "cache_creation": 0, "ephemeral_5m_input_tokens": 10},
    "output_token_details": {"reasoning": 20},
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        (
            OPENAI_CHAT,
            {
                "input": 35,
                "input_cached_tokens": 60,
                "input_audio_tokens": 5,
                "output": 30,
                "output_reasoning_tokens": 20,
            },
        ),
        (OPENAI_RESPONSES, {"input": 40, "input_cached_tokens": 60, "output": 30, "output_reasoning_tokens": 20}),
        (ANTHROPIC, {"input": 30, "input_cached_tokens": 60, "input_cache_creation": 10, "output": 50}),
        (BEDROCK, {"input": 30, "input_cached_tokens": 60, "input_cache_creation": 10, "output": 50}),
        (BEDROCK_STREAM, {"input": 30, "output": 50}),
        (GOOGLE, {"input": 40, "input_cached_tokens": 60, "output": 30, "output_reasoning_tokens": 20}),
        (
            LANGCHAIN,
            {
                "input": 30,
                "input_cached_tokens": 60,
                "input_cache_creation": 10,
                "output": 30,
                "output_reasoning_tokens": 20,
            },
        ),
        ({"prompt_tokens": 4, "total_tokens": 4}, {"input": 4}),
    ],
)
def test_each_token_is_counted_once(given: Any, counted: dict[str, int]) -> None:
    details = usage_details(given)
    assert details is not None
    total = details.pop("total", None)
    assert details == counted
    assert total in (None, sum(counted.values()))


@pytest.mark.parametrize("given", [None, {}, "12", {"input_tokens": None}, {"input_tokens": True}, {"output": -1}])
def test_what_counts_nothing(given: Any) -> None:
    assert usage_details(given) is None


def test_media_are_told_by_type_and_size() -> None:
    picture = "data:image/png;base64," + 400 * "A"
    given = [
        {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": 400 * "A", "format": "wav"}},
        {"type": "text", "text": "data: this is text", "data": "short"},
        b"abc",
    ]
    assert without_media(given) == [
        {"type": "image_url", "image_url": {"url": "<image/png, 300 bytes>", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "<300 bytes in base64>", "format": "wav"}},
        {"type": "text", "text": "data: this is text", "data": "short"},
        "<3 bytes>",
    ]
    assert given[0]["image_url"]["url"] == picture  # type: ignore[index]
