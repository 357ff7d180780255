"""What a run may set of a model call: named parameters within bounds, and nothing else."""

from typing import Any

import pytest

from shared.rules.model_parameters import check_parameters
from shared.runtime.refusal import InvalidError

SCHEMA = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    "name",
    [
        "api_base", "api_key", "base_url", "service_tier", "store", "metadata", "chat_template", "tools", "tool_choice",
        "functions", "web_search_options", "extra_body", "messages", "model", "n", "stream", "logprobs", "audio",
        "modalities", "prediction", "guided_json", "latency_seconds", "",
    ],
)  # fmt: skip
def test_what_a_run_may_not_set_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidError, match="is not for a run to set; it may set frequency_penalty, ") as refused:
        check_parameters({"temperature": 0, name: 1}, "openai", "settings")
    assert refused.value.field == f"settings.{name}"


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0}, {"temperature": 2.0}, {"top_p": 1}, {"max_tokens": 1}, {"max_completion_tokens": 128_000},
        {"stop": "\n"}, {"stop": ["a", "b", "c", "d"]}, {"seed": -7}, {"reasoning_effort": "minimal"},
        {"verbosity": "low"}, {"logit_bias": {"1734": -100}}, {"response_format": {"type": "json_object"}},
        {"response_format": SCHEMA}, {"presence_penalty": -2, "frequency_penalty": 2}, {"user": "u-1"}, {"top_p": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_run_may_set(settings: dict[str, Any]) -> None:
    check_parameters(settings, "openai", "settings")
    check_parameters({**settings, "latency_seconds": 0.5, "speed": 10}, "mock", "settings")


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 2.1}, {"temperature": float("nan")}, {"temperature": True}, {"temperature": "0"},
        {"max_tokens": 0}, {"max_tokens": 1.5}, {"max_completion_tokens": 10**9}, {"stop": []}, {"stop": ["a"] * 5},
        {"stop": "x" * 201}, {"stop": [1]}, {"seed": 2**63}, {"seed": False}, {"reasoning_effort": "enormous"},
        {"logit_bias": {"x": 1}}, {"logit_bias": {"1": 101}}, {"logit_bias": [1]}, {"user": ""}, {"user": {"a": 1}},
        {"response_format": "json"}, {"response_format": {"type": "grammar"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
        {"response_format": {**SCHEMA, "strict": True}},
        {"response_format": {**SCHEMA, "json_schema": {"schema": {"title": "x" * 131_072}}}},
    ],
    ids=lambda settings: str(settings)[:60],
)  # fmt: skip
def test_what_is_out_of_bounds_names_the_parameter_and_the_bound(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(InvalidError) as refused:
        check_parameters(settings, "openai", "settings")
    assert refused.value.field == f"settings.{name}"
    assert refused.value.why
