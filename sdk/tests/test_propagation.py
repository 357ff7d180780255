"""`propagate_attributes`: what all observations below have in common."""

import asyncio

from lodestream import get_client, observe, propagate_attributes
from lodestream.testing import captured
from opentelemetry import context, propagate


def test_all_observations_within_get_them_and_the_current_one_too():
    with captured() as told:
        client = get_client()
        with client.start_as_current_observation(name="root"):
            with propagate_attributes(
                user_id="ada",
                session_id="s1",
                tags=["web"],
                metadata={"plan": "pro", "seats": 3},
                version="v2",
                trace_name="support",
                environment="staging",
                prompt={"name": "p", "version": 3},
            ):
                client.start_observation(name="child").end()
            client.start_observation(name="after").end()
    expected = {
        "user.id": "ada",
        "session.id": "s1",
        "lodestream.trace.tags": ["web"],
        "lodestream.trace.metadata.plan": '"pro"',
        "lodestream.trace.metadata.seats": "3",
        "lodestream.version": "v2",
        "lodestream.trace.name": "support",
        "lodestream.environment": "staging",
        "lodestream.observation.prompt.name": "p",
        "lodestream.observation.prompt.version": 3,
        "lodestream.observation.type": "span",
    }
    assert told.named("child").attributes == expected
    assert told.named("root").attributes == expected
    assert told.named("after").attributes == {"lodestream.observation.type": "span"}


def test_inner_blocks_add_tags_and_metadata_and_replace_the_rest():
    with captured() as told, propagate_attributes(user_id="ada", tags=["a", "b"], metadata={"x": 1}):
        with propagate_attributes(user_id="ben", tags=["b", "c"], metadata={"y": 2}):
            get_client().start_observation(name="inner").end()
        get_client().start_observation(name="outer").end()
    inner, outer = told.named("inner").attributes, told.named("outer").attributes
    assert (inner["user.id"], inner["lodestream.trace.tags"]) == ("ben", ["a", "b", "c"])
    assert (inner["lodestream.trace.metadata.x"], inner["lodestream.trace.metadata.y"]) == ("1", "2")
    assert (outer["user.id"], outer["lodestream.trace.tags"]) == ("ada", ["a", "b"])
    assert "lodestream.trace.metadata.y" not in outer


def test_an_observation_s_own_word_wins():
    with captured() as told, propagate_attributes(version="all"):
        get_client().start_observation(name="own", version="mine").end()
    assert told.named("own").attributes["lodestream.version"] == "mine"


def test_what_is_too_long_is_left_out_and_told(caplog):
    with captured() as told, propagate_attributes(user_id="u" * 201, session_id="s", tags=["t" * 201, "ok"]):
        get_client().start_observation(name="x").end()
    attributes = told.named("x").attributes
    assert "user.id" not in attributes
    assert (attributes["session.id"], attributes["lodestream.trace.tags"]) == ("s", ["ok"])
    assert "user.id has 201 characters" in caplog.text


async def test_tasks_do_not_see_each_other_s():
    @observe
    async def step(user):
        await asyncio.sleep(0)

    async def serve(user):
        with propagate_attributes(user_id=user):
            await step(user)

    with captured() as told:
        await asyncio.gather(*(serve(f"user {number}") for number in range(5)))
    assert all(span.attributes["user.id"] == span.input["user"] for span in told.spans)


def test_they_travel_in_baggage_only_when_asked_to():
    with captured() as told:
        sent: dict[str, str] = {}
        with propagate_attributes(user_id="ada", tags=["a, b", "c"], metadata={"k": {"n": 1}}, as_baggage=True):
            propagate.inject(sent)
        with propagate_attributes(session_id="secret"):
            unsent: dict[str, str] = {}
            propagate.inject(unsent)
        token = context.attach(propagate.extract(sent))
        get_client().start_observation(name="there").end()
        context.detach(token)
    assert "baggage" in sent
    assert "baggage" not in unsent
    assert told.named("there").attributes == {
        "lodestream.observation.type": "span",
        "user.id": "ada",
        "lodestream.trace.tags": ["a, b", "c"],
        "lodestream.trace.metadata.k": '{"n":1}',
    }


def test_hostile_baggage_is_harmless():
    with captured() as told:
        headers = {"baggage": "lodestream_user_id=%F0%28,lodestream_tags=%5B1,lodestream_session_id=" + "x" * 900}
        token = context.attach(propagate.extract(headers))
        get_client().start_observation(name="there").end()
        context.detach(token)
    assert "session.id" not in told.named("there").attributes
