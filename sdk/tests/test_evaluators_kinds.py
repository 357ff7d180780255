"""What each kind says of an output, and the reason it gives."""

import socket
import time

import pytest
from lodestream.evaluators import Case, EvaluatorError, EvaluatorSpecError, Judged, evaluator_of, run_evaluator_of

from sdk.tests.evaluator_specs import CASE, RUN, SCHEMA, judged

LONG = "a" * 100_000 + "!"


async def judge(kind, output, expected=None, /, **settings):
    case = Case(output=output, expected_output=expected, latency_seconds=1.25, output_tokens=6)
    evaluation = await evaluator_of({"kind": kind, **settings}).evaluate(case)
    return evaluation.value, evaluation.comment


@pytest.mark.parametrize(
    ("kind", "output", "expected", "settings", "value", "reason"),
    [
        ("exact_match", "30 days", "14 days", {}, False, "expected '14 days', got '30 days'"),
        ("exact_match", " 14  DAYS", "14 days", {"ignore_case": True, "ignore_space": True}, True, "is ' 14  DAYS'"),
        ("exact_match", '{"a": {"b": 2}}', {"a": {"b": 1}}, {}, False, "at a.b: expected 1, got 2"),
        ("exact_match", {"b": 1.0, "a": [1]}, {"a": [1], "b": 1}, {}, True, 'is {"b": 1.0, "a": [1]}'),
        ("exact_match", {"a": 1}, {"a": 1, "b": 2}, {}, False, "'b' is missing, expected 2"),
        ("exact_match", {"a": 1, "c": 3}, {"a": 1}, {}, False, "'c' is not expected, it is 3"),
        ("exact_match", {"a": [1, 2]}, {"a": [1]}, {}, False, "at a: expected 1 entries, got 2: [1, 2]"),
        ("exact_match", True, 1, {}, False, "expected 1, got true"),
        ("exact_match", "not JSON", [1], {}, False,
         "expected [1], got 'not JSON', which is no JSON: Expecting value at line 1, column 1, near 'not JSON'"),
        ("exact_match", '{"days": 30}', 14, {"field": "output.days"}, False, "expected 14, got 30"),
        ("exact_match", '{"days": "14"}', 14, {"field": "output.days"}, False, "expected 14, got '14'"),
        ("exact_match", '{"days": 30}', 14, {"field": "output.hours"}, False,
         "expected 14, but output has no hours"),
        ("contains", "It takes 30 days.", "14 days", {}, False, "'14 days' is not in 'It takes 30 days.'"),
        ("contains", "30 days", None, {"value": ["30", "14", "15"]}, False, "'14', '15' are not in '30 days'"),
        ("contains", "30 days", None, {"value": ["30", "14"], "mode": "any"}, True, "has '30'"),
        ("contains", "30 days", None, {"value": "days", "mode": "none"}, False, "has 'days', which it must not"),
        ("contains", "30 DAYS", None, {"value": "days", "ignore_case": True}, True, "has 'days'"),
        ("contains", {"a": ["x", {"b.c": "30 days"}]}, "30", {"field": 'output.a.1."b.c"'}, True, "has '30'"),
        ("regex", "It takes 30 days.", None, {"pattern": r"\d+ days"}, True, r"'30 days' matches '\d+ days'"),
        ("regex", "It takes long.", None, {"pattern": r"\d"}, False, r"no match of '\d' in 'It takes long.'"),
        ("regex", "30 days", None, {"pattern": r"\d+", "full": True}, False, r"no match of '\d+' in '30 days'"),
        ("regex", "no number", None, {"pattern": r"\d", "negate": True}, True, r"no match of '\d' in 'no number'"),
        ("json_valid", '{"a": 1,}', None, {}, False,
         "no JSON: Expecting property name enclosed in double quotes at line 1, column 9, near '{\"a\": 1,}'"),
        ("json_valid", '{"a": NaN}', None, {}, False, "no JSON: NaN is no JSON number"),
        ("json_valid", '{"a": 1, "a": 2}', None, {}, False, "no JSON: the key 'a' is told twice"),
        ("json_valid", "[1]", None, {"type": "object"}, False, "expected an object, got a list: [1]"),
        ("json_valid", "[1]", None, {"type": "array"}, True, "is JSON: a list"),
        ("json_schema", '{"days": 30}', None, {"schema": SCHEMA}, False,
         "at days: 30 is greater than the maximum of 20 (schema: properties/days/maximum)"),
        ("json_schema", {"days": 14}, None, {"schema": SCHEMA}, True, "satisfies the schema"),
        ("json_schema", "2026-13-01", None, {"schema": {"format": "date"}}, False,
         "no JSON: Extra data at line 1, column 5, near '2026-13-01'"),
        ("json_schema", '"2026-13-01"', None, {"schema": {"format": "date"}, "formats": True}, False,
         'at the root: "2026-13-01" is not a "date" (schema: format)'),
        ("json_schema", {"name": "Ada"}, None, {"schema": {"type": "string"}, "field": "output.name"}, True,
         "satisfies the schema"),
        ("json_schema", {"arguments": '{"days": 14}'}, None, {"schema": SCHEMA, "field": "output.arguments"}, True,
         "satisfies the schema"),
        ("json_schema", {"arguments": "days"}, None, {"schema": SCHEMA, "field": "output.arguments"}, False,
         'at the root: "days" is not of type "object" (schema: type)'),
        ("numeric_tolerance", "43", 42, {"absolute": 0.5}, False, "expected 42 ± 0.5, got 43 (off by 1)"),
        ("numeric_tolerance", 42.4, 42, {"relative": 0.01}, True, "42.4 is 42 ± 0.42"),
        ("numeric_tolerance", "It is 1,250.5 of 3.", 1250.5, {"extract": "first"}, True, "1250.5 is 1250.5"),
        ("numeric_tolerance", "Of 3 it is -2e3.", -2000, {"extract": "last"}, True, "-2000 is -2000"),
        ("numeric_tolerance", "about 42", 42, {}, False, "expected 42, got 'about 42', which is no number"),
        ("numeric_tolerance", "v1.2.3", 1, {"extract": "last"}, False,
         "expected 1, got 'v1.2.3', which is without a number"),
        ("numeric_tolerance", "1,5 or 3.14.15", 1, {"extract": "first"}, False,
         "expected 1, got '1,5 or 3.14.15', which is without a number"),
        ("numeric_tolerance", "It costs $1,200,000.50.", 1_200_000.5, {"extract": "last"}, True,
         "1200000.5 is 1200000.5"),
        ("length", "one two\nthree", None, {"unit": "words", "max": 2}, False, "3 words, above the most, 2"),
        ("length", "one", None, {}, 3, "3 characters"),
        ("length", "a\nb", None, {"unit": "lines", "min": 1, "max": 2}, True, "2 lines, within 1 to 2"),
        ("length", "a", None, {"unit": "tokens", "min": 7}, False, "6 tokens, below the least, 7"),
        ("latency", "x", None, {"max": 1}, False, "1.250 s, above the most, 1"),
        ("latency", "x", None, {}, 1.25, "1.250 s"),
    ],
)  # fmt: skip
async def test_what_is_said_and_why(kind, output, expected, settings, value, reason):  # noqa: PLR0917
    assert await judge(kind, output, expected, **settings) == (value, reason)


@pytest.mark.parametrize(
    ("prediction", "references", "f1"),
    [
        # The three of the SQuAD metric's published card, whose mean is 66.67.
        ("1976", ["1976"], 1.0),
        ("Beyonce", ["Beyoncé and Bruno Mars"], 0.0),
        ("climate change", ["climate change"], 1.0),
        # By hand, from the definition.
        ("the Broncos of Denver!", ["Denver Broncos"], 0.8),
        ("Denver", ["The Denver Broncos", "Denver, Colorado", "denver"], 1.0),
        ("dog dog cat", ["dog bird"], 0.4),
        ("The", ["an"], 1.0),
        ("The", ["dog"], 0.0),
        ("", ["dog"], 0.0),
    ],
)
async def test_token_f1_is_squads(prediction, references, f1):
    value, reason = await judge("token_f1", prediction, references)
    assert value == pytest.approx(f1)
    assert reason.startswith(f"F1 {f1:.3f}")


async def test_similarity_goes_by_the_method():
    async def similarity(method, one, other):
        return (await judge("string_similarity", one, other, method=method))[0]

    assert await similarity("levenshtein", "kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert await similarity("indel", "kitten", "sitting") == pytest.approx(8 / 13)
    assert await similarity("jaro_winkler", "martha", "marhta") == pytest.approx(0.9611, abs=1e-4)
    assert await similarity("token_sort", "days of 14", "14 days of") == 1
    assert await similarity("token_set", "14 days", "14 days of waiting") == 1
    value, reason = await judge("string_similarity", "kitten", "sitting", min=0.6)
    assert (value, reason) == (False, "0.571 alike: expected 'sitting', got 'kitten', below the least, 0.6")
    began = time.monotonic()
    assert (await judge("string_similarity", LONG * 3, LONG[::-1] * 3))[0] > 0.99
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", "([a-z]+)*=", "(.*)*x"])
async def test_evil_patterns_take_linear_time(pattern):
    began = time.monotonic()
    assert (await judge("regex", LONG, pattern=pattern))[0] is False
    assert (await judge("json_schema", {"text": LONG}, schema={"properties": {"text": {"pattern": pattern}}}))[
        0
    ] is False
    assert time.monotonic() - began < 5


async def test_schemas_never_reach_for_what_they_refer_to(tmp_path):
    inside = {"$ref": "#/$defs/days", "$defs": {"days": {"type": "integer"}}}
    assert (await judge("json_schema", "14", schema=inside))[0] is True
    other = tmp_path / "other.json"
    other.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        for reference in (f"http://127.0.0.1:{server.getsockname()[1]}/other.json", other.as_uri()):
            for schema in ({"$ref": reference}, {"$schema": reference}, {"$id": reference, "$ref": "another"}):
                with pytest.raises(EvaluatorSpecError) as refused:
                    evaluator_of({"kind": "json_schema", "schema": schema})
                assert refused.value.field == "schema"
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("kind", ["latency", "cost"])
async def test_what_is_not_known_is_not_guessed(kind):
    with pytest.raises(EvaluatorError, match=f"the {kind} is not known"):
        await evaluator_of({"kind": kind}).evaluate(Case(output="x"))
    assert (await evaluator_of({"kind": kind}).evaluate(CASE)).value == {"latency": 1.25, "cost": 0.002}[kind]


async def run_of(spec, results=RUN):
    evaluation = await run_evaluator_of(spec).evaluate(results)
    return evaluation.value, evaluation.comment, evaluation.metadata


async def test_runs_are_summed_up():
    assert await run_of({"kind": "mean", "of": "similar"}) == (
        pytest.approx(0.45), "the mean of similar is 0.45 over 10 items", {"count": 10},
    )  # fmt: skip
    assert (await run_of({"kind": "mean", "of": "right", "min": 0.6}))[:2] == (
        False, "the mean of right is 0.5 over 10 items, below the least, 0.6",
    )  # fmt: skip
    value, told, metadata = await run_of({"kind": "percentiles", "of": "latency"})
    assert (value, told) == (pytest.approx(8.55), "the percentile 95 of latency is 8.55 over 10 items")
    assert (metadata["p50"], metadata["least"], metadata["most"]) == (4.5, 0, 9)
    value, told, metadata = await run_of({"kind": "worst_items", "of": "similar", "count": 2})
    assert (value, told) == (0.05, "the worst of similar: item-0 0 (0 of 10); item-1 0.1 (1 of 10)")
    assert [item["item_id"] for item in metadata["items"]] == ["item-0", "item-1"]
    assert (await run_of({"kind": "worst_items", "of": "latency", "count": 1}))[1] == "the worst of latency: item-9 9"


async def test_failures_do_not_pass():
    assert (await run_of({"kind": "pass_rate", "of": "similar", "threshold": 0.5}))[0] == 0.5
    assert (await run_of({"kind": "pass_rate", "of": "tone", "passing": "polite"}))[0] == 0.6
    assert (await run_of({"kind": "pass_rate"}))[:2] == (0.5, "5 of 10 items pass (50.0%)")
    failed = [
        *RUN[:2],
        Judged(case=Case(error="boom"), item_id="failed"),
        Judged(case=Case(output="x"), errors={"right": "no answer"}, item_id="unjudged"),
    ]
    assert await run_of({"kind": "pass_rate", "of": "right"}, failed) == (
        0.25, "1 of 4 items pass (25.0%)",
        {"passed": 1, "total": 4, "failed_items": ["failed", "item-1", "unjudged"]},
    )  # fmt: skip
    assert (await run_of({"kind": "mean", "of": "right"}, failed))[1].endswith("; 2 of 4 items have none")
    with pytest.raises(EvaluatorError, match="none of 10 items has a number 'tone'"):
        await run_of({"kind": "mean", "of": "tone"})
    with pytest.raises(EvaluatorError, match="its evaluator failed on 1"):
        await run_of({"kind": "mean", "of": "right"}, failed[2:])
    with pytest.raises(EvaluatorError, match="no item has 'helpful' to pass by"):
        await run_of({"kind": "pass_rate", "of": "helpful"}, [judged(1)])
    with pytest.raises(EvaluatorSpecError, match="of: is missing"):
        run_evaluator_of({"kind": "pass_rate", "threshold": 1})
