"""Several clients in a process: each call is for one of them, never for another project's, and a closed one says so."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from lodestream import Lodestream, get_client, observe, propagate_attributes
from lodestream.testing import Captured, _Sink
from opentelemetry import context, trace

from sdk.tests.programs import Programs

AMBIGUOUS = "clients of several projects"


def client_of(project: str, **settings: Any) -> tuple[Lodestream, Captured]:
    """A client, and what it would have sent."""
    sink = Captured()
    client = Lodestream(public_key=f"pk-{project}", secret_key=f"sk-{project}", endpoint="127.0.0.1:1", **settings)
    client._recorder.sink = _Sink(sink)
    return client, sink


def names(sink: Captured) -> list[str]:
    return sorted(span.name for span in sink.spans)


@observe
def work(**_: Any) -> Any:
    with trace.get_tracer("a.library").start_as_current_span("theirs"):
        return get_client()


def test_of_one_project_the_newest_client_is_meant() -> None:
    first, _ = client_of("a", environment="one")
    assert get_client() is first
    second, sink = client_of("a", environment="two")
    assert work() is get_client() is second
    assert names(sink) == ["theirs", "work"]


def test_a_second_client_takes_over_nothing_of_the_first_s() -> None:
    a, of_a = client_of("a")
    with a.start_as_current_observation(name="block"):
        b, of_b = client_of("b")
        assert work() is a
        with b.start_as_current_observation(name="other"):
            assert work() is b
        assert work() is a
    assert names(of_a) == ["block", "theirs", "theirs", "work", "work"]
    assert names(of_b) == ["other", "theirs", "work"]


def test_what_is_above_in_another_project_is_no_parent() -> None:
    a, of_a = client_of("a")
    b, of_b = client_of("b")
    with a.start_as_current_observation(name="block") as block, b.start_as_current_observation(name="other"):
        work()
    assert of_a.named("block").parent_id == ""
    assert (of_b.named("other").parent_id, of_b.named("other").trace_id) == ("", block.trace_id)
    assert of_b.named("work").parent_id == of_b.named("other").id


def test_where_nothing_says_which_is_meant_nothing_is_recorded_and_that_is_logged(caplog) -> None:
    _, of_a = client_of("a")
    _, of_b = client_of("b")
    assert work() is get_client()
    assert get_client().create_score(name="s", value=1, trace_id="1" * 32) is None
    assert (names(of_a), names(of_b), of_a.scores, of_b.scores) == ([], [], [], [])
    assert AMBIGUOUS in caplog.text
    assert "'pk-a', 'pk-b'" in caplog.text


def test_a_client_is_named_by_its_key() -> None:
    a, _ = client_of("a")
    b, _ = client_of("b")
    assert get_client(public_key="pk-a") is a
    with a.start_as_current_observation(name="block"):
        assert get_client(public_key="pk-b") is b


def test_a_call_may_name_the_client_by_its_key() -> None:
    a, of_a = client_of("a")
    _, of_b = client_of("b")
    with a.start_as_current_observation(name="block"):
        work(lodestream_public_key="pk-b")
    assert names(of_a) == ["block"]
    assert names(of_b) == ["theirs", "work"]


def test_a_key_that_no_client_has_gives_one_that_records_nothing(caplog) -> None:
    _, of_a = client_of("a")
    get_client(public_key="pk-z").start_observation(name="x").end()
    assert names(of_a) == []
    assert "'pk-z'" in caplog.text


def test_a_block_makes_a_client_the_one_that_is_meant() -> None:
    a, of_a = client_of("a")
    b, of_b = client_of("b")
    with a.as_current():
        work()
        with b.as_current() as current:
            assert current is b
            work()
        with b.start_as_current_observation(name="other"):
            work()
            with a.as_current():
                work()
    assert names(of_a) == ["theirs", "theirs", "work", "work"]
    assert names(of_b) == ["other", "theirs", "theirs", "work", "work"]


async def test_each_task_and_thread_has_its_own() -> None:
    made = [client_of(name) for name in "ab"]

    async def serve(client: Lodestream) -> None:
        with client.as_current():
            for _ in range(20):
                await asyncio.sleep(0)
                assert work() is client

    await asyncio.gather(*(serve(client) for client, _ in made for _ in range(3)))
    threads = [threading.Thread(target=asyncio.run, args=(serve(client),)) for client, _ in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, sink in made:
        assert names(sink) == ["theirs"] * 80 + ["work"] * 80


# --- Shut down --------------------------------------------------------------------------------------------------------


def test_a_client_that_is_shut_down_is_given_no_more() -> None:
    a, of_a = client_of("a")
    b, of_b = client_of("b")
    b.shutdown()
    assert work() is get_client() is a
    assert names(of_a) == ["theirs", "work"]
    assert names(of_b) == []


def test_what_a_client_is_told_after_its_end_is_refused_aloud(caplog) -> None:
    client, sink = client_of("a")
    observation = client.start_observation(name="open")
    client.shutdown()
    assert client.create_score(name="s", value=1, trace_id="1" * 32) is None
    assert client.start_observation(name="late").is_recording() is False
    assert "'pk-a' was shut down" in caplog.text
    assert "sk-a" not in caplog.text
    assert sink.scores == []
    observation.end()


def test_what_goes_on_in_a_block_of_a_closed_client_goes_to_no_other(caplog) -> None:
    a, _ = client_of("a")
    _, of_b = client_of("b")
    with a.start_as_current_observation(name="block"):
        a.shutdown()
        work()
    assert names(of_b) == []
    assert "'pk-a' was shut down" in caplog.text


def test_after_the_last_one_the_environment_is_asked_again(caplog, monkeypatch) -> None:
    client, _ = client_of("a")
    client.shutdown()
    work()
    assert "every client of this process was shut down" in caplog.text
    monkeypatch.setenv("LODESTREAM_SECRET_KEY", "sk-env")
    assert get_client().start_observation(name="x").is_recording()
    assert get_client().settings.secret_key == "sk-env"
    assert get_client() is get_client()


# --- Keys that come later ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_keys_that_are_set_after_the_client_was_made_are_found(monkeypatch, held: bool) -> None:
    monkeypatch.delenv("LODESTREAM_SECRET_KEY", raising=False)
    work()
    client = get_client()
    assert client.start_observation(name="early").is_recording() is False
    monkeypatch.setenv("LODESTREAM_SECRET_KEY", "sk-later")
    if not held:
        work()
    assert client.start_observation(name="now").is_recording() is True
    assert client.settings.secret_key == "sk-later"
    assert get_client() is client
    client.shutdown(0)


def test_load_dotenv_after_the_first_call(programs: Programs, collector) -> None:
    """The whole way: spans of a tracer that was handed out before arrive too."""
    out = programs.run(
        f"""
        import logging
        from opentelemetry import trace
        logging.getLogger("lodestream").addHandler(logging.NullHandler())
        tracer = trace.get_tracer("a.library")
        work("too early")
        client = get_client()
        os.environ["LODESTREAM_SECRET_KEY"] = "sk"
        os.environ["LODESTREAM_ENDPOINT"] = "{collector.address}"
        work("in time")
        tracer.start_span("theirs").end()
        print(client.flush().delivered)
        """,
        LODESTREAM_SECRET_KEY="",
        LODESTREAM_ENDPOINT="",
    )
    assert out.split() == ["2"]
    assert collector.kept == {"in time": 1, "theirs": 1}


def test_what_is_switched_off_stays_off(monkeypatch) -> None:
    monkeypatch.setenv("LODESTREAM_SECRET_KEY", "sk")
    client = Lodestream(tracing_enabled=False)
    assert work() is client
    assert client.start_observation(name="x").is_recording() is False


# --- Blocks that another task leaves ----------------------------------------------------------------------------------


async def test_a_block_that_another_task_leaves_is_left_quietly(caplog) -> None:
    client, sink = client_of("a")
    caplog.set_level(logging.DEBUG)

    @observe
    async def observed() -> None:
        await asyncio.sleep(0)

    async def stream() -> Any:
        block = client.start_as_current_observation(name="streaming")
        with client.as_current(), propagate_attributes(user_id="ada"), block:
            yield 1
            yield 2

    generator = stream()

    async def begin() -> None:
        assert await anext(generator) == 1

    await asyncio.create_task(begin())
    before = context.get_current()
    await asyncio.create_task(generator.aclose())
    await generator.aclose()
    assert context.get_current() is before
    await observed()
    assert names(sink) == ["observed", "streaming"]
    assert sink.named("observed").parent_id == ""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_block_that_is_left_in_a_copied_context_is_over_there_too(caplog) -> None:
    client, sink = client_of("a")

    async def stream() -> Any:
        with client.start_as_current_observation(name="streaming"):
            yield 1

    async def close(generator: Any) -> None:
        await generator.aclose()
        client.start_observation(name="afterwards").end()

    generator = stream()
    await anext(generator)
    await asyncio.create_task(close(generator))
    assert sink.named("afterwards").parent_id == ""
    assert "detach" not in caplog.text


def test_a_block_may_be_entered_again() -> None:
    client, sink = client_of("a")
    block = client.start_as_current_observation(name="again")
    with block, block:
        pass
    client.start_observation(name="after").end()
    assert [span.name for span in sink.spans] == ["again", "again", "after"]
    assert sink.named("after").parent_id == ""
