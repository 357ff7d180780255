"""Compiling prompts: plain substitution, once, and nothing else."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream._prompts.prompt import chat_items, fallback_of
from lodestream_evals.prompt import ChatPrompt, Placeholder, TextPrompt, as_format_string, fill, variables_in

NAMES = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name == name.strip()
)
CHAT = ChatPrompt(
    name="support",
    version=3,
    prompt=chat_items(
        [
            {"role": "system", "content": "You help with {{ product }}."},
            {"type": "placeholder", "name": "history"},
            {"role": "user", "content": "{{question}} {{product}}"},
        ]
    ),
)


@pytest.mark.parametrize(
    ("text", "values", "compiled"),
    [
        ("Hello {{name}}!", {"name": "Ada"}, "Hello Ada!"),
        ("Hello {{ name }}!", {"name": "Ada"}, "Hello Ada!"),
        ("{{a}}{{a}}{{b}}", {"a": 1, "b": 2.5}, "112.5"),
        ("{{a}} {{unknown}}", {"a": "x"}, "x {{unknown}}"),
        ("{{a}}", {"a": None}, ""),
        ("{{a}}", {"a": "{{b}}", "b": "secret"}, "{{b}}"),
        ('{"json": {"a": {{a}}}}', {"a": 1}, '{"json": {"a": 1}}'),
        ("{a} {{{a}}} {{}} {{ }}", {"a": 1}, "{a} {1} {{}} {{ }}"),
        (r"{{a}}", {"a": r"\1 \g<0>"}, r"\1 \g<0>"),
        ("{{user name}}", {"user name": "Ada"}, "Ada"),
        ("{{a.__class__}} {{a!r}} {{a:>9}}", {"a": "x"}, "{{a.__class__}} {{a!r}} {{a:>9}}"),
    ],
)
def test_compiling(text: str, values: dict[str, object], compiled: str) -> None:
    assert TextPrompt(name="p", version=1, prompt=text).compile(**values) == compiled


@given(st.text(), st.dictionaries(NAMES, st.text()))
def test_no_text_makes_it_fail(text: str, values: dict[str, str]) -> None:
    filled = fill(text, values)
    assert isinstance(filled, str)
    if not variables_in(text):
        assert filled == text


@given(st.dictionaries(NAMES, st.text(), min_size=1))
def test_every_value_comes_where_its_name_was(values: dict[str, str]) -> None:
    text = "|".join(f"{{{{{name}}}}}" for name in values)
    assert variables_in(text) == list(values)
    assert fill(text, values) == "|".join(values.values())


@given(st.dictionaries(NAMES, st.none() | st.integers() | st.text(), min_size=1), st.text())
def test_the_length_is_known_without_compiling(values: dict[str, object], text: str) -> None:
    text += "|".join(f"{{{{{name}}}}}" for name in [*values, *values])
    prompt = TextPrompt(name="p", version=1, prompt=text)
    assert prompt.compiled_length(**values) == len(prompt.compile(**values))
    chat = ChatPrompt(name="p", version=1, prompt=chat_items([{"role": "user", "content": text}] * 2))
    assert chat.compiled_length(**values) == 2 * len(prompt.compile(**values))


def test_messages_for_placeholders_count_each_time_they_are_put_in() -> None:
    history = [{"role": "user", "content": "x" * 100}]
    twice = chat_items([{"type": "placeholder", "name": "history"}] * 2)
    length = ChatPrompt(name="p", version=1, prompt=twice).compiled_length(history=history)
    assert length == 2 * len('[{"role": "user", "content": ""}]') + 200


def test_many_braces_are_no_work() -> None:
    text = "{{" * 100_000 + " " * 100_000
    assert fill(text, {"a": "b"}) == text


def test_a_variable_may_be_called_anything() -> None:
    assert TextPrompt(name="p", version=1, prompt="{{self}} {{name}}").compile(self=1, name=2) == "1 2"


def test_messages_are_compiled_and_placeholders_filled() -> None:
    history = [{"role": "user", "content": "{{product}}?"}, {"role": "assistant", "content": "yes", "tool_calls": []}]
    assert CHAT.compile(product="shoes", question="How?", history=history) == [
        {"role": "system", "content": "You help with shoes."},
        {"role": "user", "content": "{{product}}?"},  # what users say never reaches the variables
        {"role": "assistant", "content": "yes", "tool_calls": []},
        {"role": "user", "content": "How? shoes"},
    ]
    assert CHAT.variables == ["product", "question"]
    assert CHAT.placeholders == ["history"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "has no messages"),
        ({"history": None}, "has no messages"),
        ({"history": "text"}, "needs a list of messages, not str"),
        ({"history": b"text"}, "needs a list of messages, not bytes"),
        ({"history": 7}, "needs a list of messages, not int"),
    ],
)
def test_a_placeholder_without_messages_stays_and_is_told(
    given: dict[str, object], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "lodestream"):
        compiled = CHAT.compile(**given)
    assert compiled[1] == {"type": "placeholder", "name": "history"}
    assert f"the placeholder 'history' {problem}; it stays" in caplog.text


def test_what_is_no_mapping_among_messages_is_passed_on() -> None:
    message = {"role": "user", "content": "Hi"}
    compiled: list[object] = [*CHAT.compile(history=(message, "an object of a library"))]
    assert compiled[1:3] == [message, "an object of a library"]
    assert compiled[1] is not message


def test_what_is_compiled_is_the_callers_own() -> None:
    CHAT.compile()[0]["content"] = "changed"
    assert CHAT.compile()[0]["content"] == "You help with {{ product }}."
    versioned = TextPrompt(name="p", version=1, prompt="", config_json='{"stop": ["a"]}')
    versioned.config["stop"].append("b")
    assert versioned.config == {"stop": ["a"]}


def test_langchain_templates() -> None:
    text = 'Answer {{question}} as {"answer": {{ shape }}}'
    template = TextPrompt(name="p", version=1, prompt=text).get_langchain_prompt()
    assert template == 'Answer {question} as {{"answer": {shape}}}'
    assert template.format(question="Q", shape="S") == 'Answer Q as {"answer": S}'
    assert CHAT.get_langchain_prompt() == [
        ("system", "You help with {product}."),
        ("placeholder", "{history}"),
        ("user", "{question} {product}"),
    ]


def test_langchain_templates_with_values() -> None:
    prompt = TextPrompt(name="p", version=1, prompt="{{ shape }} {{question}} {{nothing}}")
    assert prompt.get_langchain_prompt(shape='{"a": {{b}}}', nothing=None) == '{{"a": {{{{b}}}}}} {question} '
    assert prompt.get_langchain_prompt(shape=0) == "0 {question} {nothing}"
    assert CHAT.get_langchain_prompt(product="{X}", history=[{"role": "user", "content": "{hi}"}]) == [
        ("system", "You help with {{X}}."),
        ("user", "{{hi}}"),
        ("user", "{question} {{X}}"),
    ]


@given(st.text(st.sampled_from("{}a ")))
def test_a_format_string_gives_what_compiling_gives(text: str) -> None:
    names = variables_in(text)
    if all(name.isidentifier() for name in names):
        values = dict.fromkeys(names, "x")
        assert as_format_string(text).format(**values) == fill(text, values)


def test_fallbacks() -> None:
    text = fallback_of("p", "Hi {{name}}")
    assert (text.name, text.version, text.is_fallback, text.compile(name="Ada")) == ("p", 0, True, "Hi Ada")
    chat = fallback_of("p", [{"type": "placeholder", "name": "history"}])
    assert (chat.name, chat.version, chat.is_fallback) == ("p", 0, True)
    assert chat.prompt == (Placeholder(type="placeholder", name="history"),)
    with pytest.raises(ValueError, match=r'prompt\[1\] is not \{"role"'):
        chat_items([{"role": "user", "content": ""}, {"role": "user"}])
