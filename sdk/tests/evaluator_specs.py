"""Specs of every kind of evaluator, for the tests of their contract."""

import json
from typing import Any

from lodestream import Evaluation, TextPrompt
from lodestream.evaluators import Answer, Case, Judged, Tools

SCHEMA = {"type": "object", "properties": {"days": {"type": "integer", "maximum": 20}}, "required": ["days"]}
JUDGE = {"provider": "mock", "model": "mock-large"}
EVERY_KIND: dict[str, list[dict[str, Any]]] = {
    "exact_match": [{}, {"value": {"days": 14}, "field": "output.answer"}, {"ignore_case": True, "ignore_space": True}],
    "contains": [{}, {"value": "14 days"}, {"value": ["14", "days"], "mode": "any", "ignore_case": True}],
    "regex": [{"pattern": r"\d+ days"}, {"pattern": "[a-z]+", "full": True, "ignore_case": True, "negate": True}],
    "json_valid": [{}, {"type": "object"}, {"type": "array", "field": "output.list"}],
    "json_schema": [{"schema": SCHEMA}, {"schema": True}, {"schema": {"format": "date"}, "formats": True}],
    "numeric_tolerance": [{}, {"value": 14, "absolute": 0.5, "extract": "first"}, {"relative": 0.1, "extract": "last"}],
    "string_similarity": [
        *({"method": method} for method in ("levenshtein", "indel", "jaro_winkler", "token_sort", "token_set")),
        {"min": 0.8, "value": "14 days"},
    ],
    "token_f1": [{}, {"min": 0.5}, {"value": ["14 days", "two weeks"]}],
    "length": [{}, {"unit": "words", "max": 50}, {"unit": "lines", "min": 1}, {"unit": "tokens"}],
    "latency": [{}, {"max": 2.5}],
    "cost": [{}, {"max": 0.01}],
    "llm_judge": [
        {**JUDGE, "rubric": "Is {{output}} right about {{input}}?"},
        {**JUDGE, "rubric": "Is it polite?", "choices": {"polite": 1, "rude": 0}, "votes": 3, "settings": {"seed": 7}},
        {**JUDGE, "prompt": {"name": "judge", "version": 3}, "scale": {"min": 1, "max": 5}, "max_characters": 500},
        {**JUDGE, "prompt": {"name": "judge", "label": "production"}, "choices": ["a", "b"], "response_format": "none"},
    ],
}
SPECS = [{"kind": kind, **settings} for kind, each in EVERY_KIND.items() for settings in each]
EVERY_RUN_KIND: dict[str, list[dict[str, Any]]] = {
    "mean": [{"of": "similar"}, {"of": "latency", "max": 2}],
    "pass_rate": [{}, {"of": "similar", "threshold": 0.5, "min": 0.9}, {"of": "tone", "passing": ["polite"]}],
    "percentiles": [{"of": "latency"}, {"of": "similar", "percentile": 50, "min": 0.4}],
    "worst_items": [{"of": "similar", "count": 2}, {"of": "cost"}],
}
RUN_SPECS = [{"kind": kind, **settings} for kind, each in EVERY_RUN_KIND.items() for settings in each]
CASE = Case(
    input={"question": "How long does a refund take?"},
    output="It takes 30 days.",
    expected_output="14 days",
    metadata={"topic": "refunds"},
    latency_seconds=1.25,
    input_tokens=40,
    output_tokens=6,
    cost_usd=0.002,
)


def judged(number, **case):
    """An item of a run."""
    return Judged(
        case=Case(latency_seconds=float(number), cost_usd=number / 100, **case),
        evaluations=[
            Evaluation(name="similar", value=number / 10, comment=f"{number} of 10"),
            Evaluation(name="right", value=number % 2 == 0),
            Evaluation(name="tone", value="polite" if number % 3 else "rude"),
        ],
        item_id=f"item-{number}",
    )


RUN = [judged(number) for number in range(10)]


async def ask(messages, *, provider, model, settings):
    """A judge that takes the first value that the schema in its instructions allows."""
    assert (provider, model) == ("mock", "mock-large")
    _, schema = messages[0]["content"].rsplit("\n", 1)
    [reasoning, (key, value)] = json.loads(schema)["properties"].items()
    assert reasoning[0] == "reasoning"
    verdict = value.get("enum", [value.get("minimum", True)])[0]
    text = json.dumps({"reasoning": f"seed {settings.get('seed')}", key: verdict})
    return Answer(text=text, input_tokens=40, output_tokens=10, cost_usd=0.001)


async def prompt(name, version, label):
    """The prompt `judge`."""
    assert (name, version or label) in {("judge", 3), ("judge", "production")}
    return TextPrompt(name=name, version=3, prompt="Judge {{output}}.")


TOOLS = Tools(ask=ask, prompt=prompt)
