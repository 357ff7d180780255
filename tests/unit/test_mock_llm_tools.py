"""Which tools the mock model calls, with what, and what it says when they have answered."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.mock_llm.errors import ApiError
from services.mock_llm.messages import question_of
from services.mock_llm.tools import Reply, reply_to, rules_from

ORDER: Any = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "description": "Where it is.",
        "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
    },
}
SEARCH: Any = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Help pages about refunds",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "place": {"type": "string", "enum": ["shop", "web"]},
                "exact": {"type": "boolean"},
            },
        },
    },
}
ASKED = "Where is order 7 of the web, and when is the refund?"


def reply(*since: Any, rules: Any = (), said: str = ASKED, **body: Any) -> Reply:
    messages = [{"role": "user", "content": said}, *since]
    return reply_to(question_of({"model": "m", "messages": messages, "tools": [ORDER, SEARCH], **body}), rules)


def told(reply: Reply) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in reply.calls]


def called(*names: str) -> Any:
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def gave(name: str, content: str) -> Any:
    return {"role": "tool", "tool_call_id": name, "content": content}


def test_each_tool_that_the_question_speaks_of_is_called_once() -> None:
    assert told(reply()) == [
        ("look_up_order", {"number": 7}),
        ("search", {"text": ASKED, "place": "web", "exact": True}),
    ]
    assert told(reply(said="Hello")) == []
    assert told(reply(parallel_tool_calls=False))[0][0] == "look_up_order"
    assert told(reply(called("look_up_order"), gave("look_up_order", "On its way.")))[0][0] == "search"


def test_what_tools_gave_is_the_answer() -> None:
    since = called("look_up_order", "search"), gave("look_up_order", "On its way."), gave("search", "14 days.")
    assert reply(*since) == Reply("On its way. 14 days.")
    assert reply(*since, response_format={"type": "json_object"}).content is None


def test_the_request_says_whether_tools_are_called() -> None:
    assert told(reply(tool_choice="none")) == []
    assert told(reply(said="Hello", tool_choice="required")) == [("look_up_order", {"number": 1})]
    named = {"type": "function", "function": {"name": "search"}}
    assert told(reply(said="Hello", tool_choice=named))[0][0] == "search"
    assert told(reply(called("search"), gave("search", "x"), said="Hello", tool_choice="required")) == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": []}}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "gone"}}}, "tool_choice"),
    ],
)
def test_what_makes_no_sense_is_named(body: Any, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        reply(**body)
    assert refused.value.param == param


def test_rules_say_each_turn(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    search = {"calls": [{"name": "search", "arguments": {"text": "refunds"}}]}
    file.write_text(
        json.dumps(
            [{"contains": "REFUND", "replies": [search, {"content": "14 days"}]}, {"replies": [{"content": "Hello"}]}]
        )
    )
    rules = rules_from(file)
    assert told(reply(rules=rules)) == [("search", {"text": "refunds"})]
    since = called("search"), gave("search", "x")
    assert reply(*since, rules=rules) == Reply("14 days", [])
    assert reply(*since, *since, rules=rules).content == "14 days"
    assert reply(said="Good morning", rules=rules).content == "Hello"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "rules"), ('[{"replies": []}]', "0.replies"), ('[{"replies": [{"say": "x"}]}]', "0.replies.0.say")],
)
def test_rules_that_make_no_sense_name_the_file_and_the_field(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"rules\.json: {problem}: "):
        rules_from(file)
    with pytest.raises(ValueError, match=r"gone\.json: No such file"):
        rules_from(tmp_path / "gone.json")
