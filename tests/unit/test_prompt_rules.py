"""Commands about prompts that can't be taken are refused at the door, by the field that is wrong."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_event_pb2 import (
    ChatMessage,
    ChatPrompt,
    ChatPromptItem,
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)

from services.write.gateway.prompts.commands import KINDS, read_command
from shared.rules.prompts import MAX_PROMPT_BYTES, check_creation, check_selector
from shared.runtime.refusal import InvalidError
from tests.support.admission import open_room


def text(**fields: Any) -> PromptVersionCreated:
    return PromptVersionCreated(**{"prompt_name": "support/answer", "text": "Answer {{question}}.", **fields})


def chat(*items: ChatPromptItem) -> PromptVersionCreated:
    return PromptVersionCreated(prompt_name="support/answer", chat=ChatPrompt(items=items))


def message(content: str, role: str = "user") -> ChatPromptItem:
    return ChatPromptItem(message=ChatMessage(role=role, content=content))


def placeholder(name: str) -> ChatPromptItem:
    return ChatPromptItem(placeholder=name)


@pytest.mark.parametrize(
    "created",
    [
        text(),
        text(prompt_name="a" * 255, labels=["production", "a-b_c.9"], tags=["Ünïcode"], author="ada@example.com"),
        text(prompt_name="a/b/c d", commit_message="why\nand how", config_json='{"model": "m", "stop": [1e3, null]}'),
        text(config_json='"just a text"'),
        chat(message("You are {{who}}.", "system"), placeholder("history"), message("", "user")),
    ],
)
def test_what_is_in_order_is_taken(created: PromptVersionCreated) -> None:
    check_creation(created, "prompt")


@pytest.mark.parametrize(
    ("created", "field"),
    [
        (text(prompt_name=""), "prompt.prompt_name"),
        (text(prompt_name="a" * 256), "prompt.prompt_name"),
        (text(prompt_name="a|b"), "prompt.prompt_name"),
        (text(prompt_name="/a"), "prompt.prompt_name"),
        (text(prompt_name="a/"), "prompt.prompt_name"),
        (text(prompt_name="a//b"), "prompt.prompt_name"),
        (text(prompt_name="a\nb"), "prompt.prompt_name"),
        (PromptVersionCreated(prompt_name="a"), "prompt.content"),
        (text(text=""), "prompt.text"),
        (text(text="a\0b"), "prompt.text"),
        (text(text="a" * MAX_PROMPT_BYTES), "prompt"),
        (text(labels=["ok", "Not"]), "prompt.labels[1]"),
        (text(labels=["latest"]), "prompt.labels[0]"),
        (text(labels=[""]), "prompt.labels[0]"),
        (text(labels=["a" * 37]), "prompt.labels[0]"),
        (text(labels=["a\n"]), "prompt.labels[0]"),
        (text(labels=["a"] * 51), "prompt.labels"),
        (text(tags=["a"] * 51), "prompt.tags"),
        (text(tags=["fine", ""]), "prompt.tags[1]"),
        (text(commit_message="a" * 4_097), "prompt.commit_message"),
        (text(author="a" * 256), "prompt.author"),
        (text(config_json="{"), "prompt.config_json"),
        (text(config_json="NaN"), "prompt.config_json"),
        (text(config_json=r'{"a": ["\u0000"]}'), "prompt.config_json"),
        (text(config_json=r'{"a\u0000": 1}'), "prompt.config_json"),
        (chat(), "prompt.chat.items"),
        (chat(message("hi", "")), "prompt.chat.items[0].message.role"),
        (chat(message("hi"), ChatPromptItem()), "prompt.chat.items[1]"),
        (chat(message("hi"), placeholder("")), "prompt.chat.items[1].placeholder"),
        (chat(placeholder("x"), message("about {{ x }}")), "prompt.chat.items[0].placeholder"),
    ],
)
def test_what_is_not_is_refused_by_its_field(created: PromptVersionCreated, field: str) -> None:
    with pytest.raises(InvalidError) as raised:
        check_creation(created, "prompt")
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("kind", "request_", "field"),
    [
        ("MoveLabels", pb.MoveLabelsRequest(move=PromptLabelsMoved(prompt_name="a")), "move.labels"),
        ("MoveLabels", pb.MoveLabelsRequest(move=PromptLabelsMoved(labels=["a"])), "move.prompt_name"),
        (
            "MoveLabels",
            pb.MoveLabelsRequest(move=PromptLabelsMoved(prompt_name="a", labels=["latest"], version=1)),
            "move.labels[0]",
        ),
        (
            "MoveLabels",
            pb.MoveLabelsRequest(move=PromptLabelsMoved(prompt_name="a", labels=["b"], expected_revision=2**63)),
            "move.expected_revision",
        ),
        (
            "MoveLabels",
            pb.MoveLabelsRequest(move=PromptLabelsMoved(prompt_name="a", labels=["b"], version=2**31)),
            "move.version",
        ),
        (
            "RollBackLabel",
            pb.RollBackLabelRequest(roll_back=PromptLabelRolledBack(prompt_name="a", label="latest")),
            "roll_back.label",
        ),
        (
            "RollBackLabel",
            pb.RollBackLabelRequest(roll_back=PromptLabelRolledBack(prompt_name="a", label="")),
            "roll_back.label",
        ),
        ("ArchivePrompt", pb.ArchivePromptRequest(archive=PromptArchived(prompt_name="a|b")), "archive.prompt_name"),
        (
            "ArchivePrompt",
            pb.ArchivePromptRequest(archive=PromptArchived(prompt_name="a"), command_id="again"),
            "command_id",
        ),
        ("CreatePrompt", pb.CreatePromptRequest(), "prompt.prompt_name"),
    ],
)
def test_every_command_is_checked(kind: str, request_: Any, field: str) -> None:
    with pytest.raises(InvalidError) as raised:
        read_command(next(each for each in KINDS if each.rpc == kind), request_.SerializeToString(), open_room())
    assert raised.value.field == field


def test_bytes_that_are_no_request_are_told_so() -> None:
    with pytest.raises(InvalidError, match="request: is no CreatePromptRequest"):
        read_command(KINDS[0], b"\xff", open_room())


def test_a_command_without_an_id_gets_one_and_a_given_one_is_kept() -> None:
    request = pb.CreatePromptRequest(prompt=text())
    first, second = (read_command(KINDS[0], request.SerializeToString(), open_room()) for _ in range(2))
    assert first.command_id != second.command_id
    request.command_id = first.command_id
    assert read_command(KINDS[0], request.SerializeToString(), open_room()).command_id == first.command_id


@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_no_bytes_raise_anything_but_a_refusal(request: bytes, kind: Any) -> None:
    with suppress(InvalidError):
        assert read_command(kind, request, open_room()).prompt_name


@pytest.mark.parametrize(
    ("selector", "field"),
    [
        (pb.PromptSelector(), "prompt.name"),
        (pb.PromptSelector(name="a", version=0), "prompt.version"),
        (pb.PromptSelector(name="a", label="A"), "prompt.label"),
    ],
)
def test_nothing_is_looked_up_that_can_have_no_name(selector: pb.PromptSelector, field: str) -> None:
    with pytest.raises(InvalidError) as raised:
        check_selector(selector, "prompt")
    assert raised.value.field == field


@pytest.mark.parametrize("which", [{}, {"label": "latest"}, {"version": 3}])
def test_all_ways_to_ask_are_taken(which: dict[str, Any]) -> None:
    check_selector(pb.PromptSelector(name="a/b", **which), "prompt")
