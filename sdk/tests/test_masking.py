"""Masks: they see all that leaves, get none of the program's own objects, and when they fail nothing leaves."""

import dataclasses
import json
from typing import Any

import pytest
from lodestream import get_client, observe, propagate_attributes
from lodestream.testing import captured
from opentelemetry import baggage, trace
from opentelemetry.trace import Status, StatusCode

SECRET = "4111-1111"


def by_key(*, data: Any, **_: Any) -> Any:
    """As written for Langfuse: knows secrets by their keys, at any depth."""
    if isinstance(data, dict):
        return {key: "***" if key == "password" else by_key(data=value) for key, value in data.items()}
    return [by_key(data=item) for item in data] if isinstance(data, list) else data


def by_text(data: Any) -> Any:
    """Knows nothing but texts."""
    return data.replace(SECRET, "***") if isinstance(data, str) else data


def deeply(*, data: Any) -> Any:
    return json.loads(json.dumps(data).replace(SECRET, "***"))


def trace_all_kinds(secret: str) -> None:
    @observe
    def call(card: str) -> str:
        raise ValueError(card)

    with propagate_attributes(
        user_id=f"user {secret}", session_id=secret, tags=["a", secret], metadata={"card": secret, "other": 1}
    ):
        with pytest.raises(ValueError, match=secret):
            call(secret)
        client = get_client()
        with client.start_as_current_observation(
            name="ours", as_type="generation", input=secret, output=[secret], metadata={"card": secret},
            status_message=secret, model_parameters={"stop": secret},
        ) as ours:  # fmt: skip
            ours.set_attribute("text", secret)
            ours.set_attributes({"bytes": secret.encode(), "list": [secret], "mapping": {"card": secret}})
            ours.add_event("paid", {"card": secret})
            ours.add_link(ours.get_span_context(), {"card": secret})
            ours.score(name="remark", value=secret, data_type="TEXT", comment=secret, metadata={"card": secret})
            with propagate_attributes(user_id=f"user {secret}", metadata={"later": secret}):
                client.create_score(name="session", value=1, session_id=secret)
        tracer = trace.get_tracer("theirs")
        with tracer.start_as_current_span("theirs", attributes={"url": f"https://shop/{secret}", "n": 1}) as theirs:
            theirs.set_status(Status(StatusCode.ERROR, secret))
            client.update_current_span(input={"card": secret})


def test_a_mask_that_knows_texts_sees_all_that_leaves() -> None:
    with captured(mask=deeply) as told:
        trace_all_kinds(SECRET)
    left = [span.otlp for span in told.spans] + [score.event for score in told.scores]
    assert len(left) == 5
    assert SECRET not in str(left)
    assert SECRET.encode() not in b"".join(message.SerializeToString() for message in left)
    ours = told.named("ours").attributes
    assert (ours["user.id"], ours["session.id"]) == ("user ***", "***")
    assert ours["lodestream.trace.tags"] == ["a", "***"]
    assert ours["lodestream.trace.metadata.other"] == "1"
    assert told.named("theirs").attributes["n"] == 1  # what the mask leaves as it is keeps its type
    assert told.scores[1].event.target.session_id == ours["session.id"]


def test_a_mask_that_knows_texts_only_is_shown_those_in_mappings_and_lists_alone() -> None:
    with captured(mask=by_text) as told, propagate_attributes(tags=[SECRET], metadata={"card": SECRET}):
        span = get_client().start_observation(name="a", input=[SECRET], metadata={"card": SECRET})
        span.set_attribute("text", SECRET)
        span.record_exception(ValueError(SECRET))
        span.end()
    assert SECRET not in str(told.spans[0].otlp)


def test_a_mask_that_goes_by_keys_is_shown_whole_mappings() -> None:
    @dataclasses.dataclass
    class Login:
        user: str
        password: str

    secret = {"password": "hidden", "user": "ada"}
    with captured(mask=by_key) as told, propagate_attributes(metadata=secret):
        span = get_client().start_observation(
            name="a", input=Login("ada", "hidden"), metadata=secret, model_parameters={"nested": [secret]}
        )
        span.set_attribute("mapping", secret)
        span.set_attribute("password", "hidden")
        span.set_attributes({"password": 1234})
        span.add_event("login", secret)
        span.end()
    assert "hidden" not in str(told.spans[0].otlp)
    attributes = told.spans[0].attributes
    assert attributes["lodestream.observation.metadata.password"] == '"***"'
    assert attributes["lodestream.observation.metadata.user"] == '"ada"'
    assert attributes["password"] == "***"
    assert attributes["mapping"] == {"password": "***", "user": "ada"}
    assert told.spans[0].input == {"user": "ada", "password": "***"}


def test_a_mask_that_edits_in_place_changes_nothing_of_the_program_s() -> None:
    def in_place(*, data: Any) -> Any:
        if isinstance(data, dict):
            for key, value in data.items():
                data[key] = in_place(data=value)
        elif isinstance(data, list):
            data[:] = ["***" for _ in data]
        return data if isinstance(data, dict | list) else "***"

    seen = []

    @observe
    def login(user: dict[str, str], rest: list[str]) -> dict[str, str]:
        seen.append((dict(user), list(rest)))
        return user

    user, rest, attribute = {"password": "mine"}, ["a"], {"nested": ["a"]}
    with captured(mask=in_place) as told, propagate_attributes(metadata=user):
        assert login(user, rest) is user
        get_client().start_observation(name="b", metadata=user).set_attribute("c", attribute)
    assert seen == [({"password": "mine"}, ["a"])]
    assert (user, rest, attribute) == ({"password": "mine"}, ["a"], {"nested": ["a"]})
    assert told.named("login").input == {"user": {"password": "***"}, "rest": ["***"]}


def test_when_the_mask_raises_a_marker_is_sent() -> None:
    def broken(*, data: Any) -> Any:
        raise RuntimeError(SECRET)

    with captured(mask=broken) as told:
        trace_all_kinds(SECRET)
    left = [span.otlp for span in told.spans] + [score.event for score in told.scores]
    assert SECRET not in str(left)
    ours = told.named("ours").attributes
    assert {ours["user.id"], ours["lodestream.observation.metadata"], ours["text"]} == {"<masking failed>"}


def test_names_types_and_figures_are_not_content() -> None:
    """A mask that lets nothing through leaves traces that can be read."""
    with captured(mask=lambda data: "***") as told:
        get_client().start_observation(
            name="ask", as_type="generation", input="a", model="m", usage_details={"input": 1}, level="WARNING"
        ).end()
    span = told.named("ask")
    assert (span.input, span.type, span.level) == ("***", "generation", "WARNING")
    assert span.attributes["lodestream.observation.model.name"] == "m"
    assert span.attributes["lodestream.observation.usage_details"] == '{"input":1}'


@pytest.mark.parametrize("takes", ["field", "keywords"])
def test_a_mask_may_ask_which_field_it_is(takes: str) -> None:
    seen = []

    def field(*, data: Any, field: str) -> Any:
        seen.append(field)
        return data

    def keywords(data: Any, **more: Any) -> Any:
        seen.append(more["field"])
        return data

    with captured(mask=field if takes == "field" else keywords):
        get_client().start_observation(name="a", input=1, metadata={"n": 1}).set_attribute("n", 1)
    assert seen == ["input", "metadata", "attributes"]


def test_baggage_is_masked() -> None:
    with captured(mask=deeply), propagate_attributes(user_id=SECRET, metadata={"card": SECRET}, as_baggage=True):
        assert SECRET not in str(baggage.get_all())
        assert baggage.get_baggage("lodestream_user_id") == "***"


def test_what_a_cut_goes_through_is_masked() -> None:
    """The mask sees more than is kept, or half of a secret would be left at the end."""
    with captured(mask=deeply) as told:
        get_client().start_observation(name="a", input="x" * (400_000 - 4) + SECRET).end()
    assert "4111" not in told.named("a").attributes["lodestream.observation.input"]
