"""A prompt and an item's input become messages, or an error that names what is missing."""

import pytest
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage, ChatPrompt, ChatPromptItem
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from services.write.evaluator.prompts import (
    MAX_CHARACTERS,
    PromptTooLongError,
    VariableError,
    compile_messages,
    prompt_from_version,
)

TEXT = prompt_from_version(PromptVersion(name="p", version=3, text="{{who}} asks: {{input}}"))
CHAT = prompt_from_version(
    PromptVersion(
        name="p",
        version=1,
        chat=ChatPrompt(
            items=[
                ChatPromptItem(message=ChatMessage(role="system", content="Be {{tone}}.")),
                ChatPromptItem(placeholder="history"),
                ChatPromptItem(message=ChatMessage(role="user", content="{{question}}")),
            ]
        ),
    )
)


def test_a_text_prompt_is_one_message_of_the_user() -> None:
    assert compile_messages(TEXT, {"who": "Ada", "input": "why?"}) == [{"role": "user", "content": "Ada asks: why?"}]


def test_an_input_that_is_no_object_is_the_variable_input() -> None:
    prompt = prompt_from_version(PromptVersion(name="p", version=1, text="Say: {{input}}"))
    assert compile_messages(prompt, "hello")[0]["content"] == "Say: hello"
    assert compile_messages(prompt, [1, True])[0]["content"] == "Say: [1, true]"


def test_a_chat_takes_variables_and_placeholders_by_name() -> None:
    history = [{"role": "user", "content": "{{tone}}"}, {"role": "assistant", "content": "ok"}]
    messages = compile_messages(CHAT, {"tone": "kind", "history": history, "question": {"a": None}})
    assert messages == [
        {"role": "system", "content": "Be kind."},
        *history,  # users' own text is not looked into
        {"role": "user", "content": '{"a": null}'},
    ]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"history": [], "question": "?"}, "variable 'tone'"),
        ({"tone": "kind", "question": "?"}, "placeholder 'history'"),
        ({"tone": "kind", "history": "hello", "question": "?"}, "'history' is not a list of messages"),
        ({"tone": "kind", "history": [{"text": 1}], "question": "?"}, "'history' is not a list of messages"),
        ("hello", "variable 'tone' is not in the item's input, which has 'input'"),
    ],
)
def test_what_is_missing_is_named(given: object, named: str) -> None:
    with pytest.raises(VariableError, match=named):
        compile_messages(CHAT, given)


def test_a_prompt_that_repeats_a_long_value_is_refused_before_it_is_built() -> None:
    """A megabyte of prompt and one of input would be 100 GB."""
    text = prompt_from_version(PromptVersion(name="p", version=1, text="{{input}}" * 100_000))
    with pytest.raises(PromptTooLongError, match=r"has 100,000,000,000 characters; at most 1,048,576"):
        compile_messages(text, "x" * 1_000_000)
    history = ChatPromptItem(placeholder="history")
    chat = prompt_from_version(PromptVersion(name="p", version=1, chat=ChatPrompt(items=[history] * 10_000)))
    with pytest.raises(PromptTooLongError, match="characters"):
        compile_messages(chat, {"history": [{"role": "user", "content": "x" * 1_000_000}]})


def test_what_just_fits_is_compiled() -> None:
    text = prompt_from_version(PromptVersion(name="p", version=1, text="{{input}}{{input}}"))
    assert len(compile_messages(text, "x" * (MAX_CHARACTERS // 2))[0]["content"]) == MAX_CHARACTERS
