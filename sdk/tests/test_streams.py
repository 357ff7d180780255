"""Generators, coroutines, futures and streamed responses: they stay what they are, and are observed until they end."""

import asyncio
import contextlib
import gc
import inspect
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any, assert_type

import pytest
from lodestream import get_client, observe
from lodestream._recording.streams import Texts
from lodestream.testing import Captured, CapturedSpan, captured
from starlette.responses import StreamingResponse

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


def note(name: str) -> None:
    get_client().start_observation(name=name).end()


@observe
def counted(most: int) -> Iterator[int]:
    yield from range(most)


@observe
async def counted_slowly(most: int) -> AsyncIterator[int]:
    for number in range(most):
        await asyncio.sleep(0)
        yield number


# --- They stay what they are ------------------------------------------------------------------------------------------


def test_inspect_and_types_agree() -> None:
    assert inspect.isgeneratorfunction(counted)
    assert inspect.isasyncgenfunction(counted_slowly)
    assert inspect.isgenerator(counted(1))
    assert inspect.isasyncgen(counted_slowly(1))

    class Bot:
        @observe
        def speak(self) -> Iterator[str]:
            yield "a"

        @observe
        @classmethod
        def listen(cls) -> Iterator[str]:
            yield "b"

    assert inspect.isgeneratorfunction(Bot().speak)
    assert inspect.isgeneratorfunction(Bot.listen)
    with captured() as told:
        assert [*Bot().speak(), *Bot.listen()] == ["a", "b"]
    assert [span.input for span in told.spans] == [{}, {}]


def test_types_are_kept() -> None:
    assert_type(counted(1), Iterator[int])
    assert_type(counted_slowly(1), AsyncIterator[int])


def test_a_context_manager_sets_context_variables_for_its_block() -> None:
    @contextlib.contextmanager
    @observe
    def setting() -> Iterator[None]:
        token = VARIABLE.set("set")
        try:
            yield
        finally:
            VARIABLE.reset(token)
            note("clean-up")

    with captured() as told:
        with setting():
            assert VARIABLE.get() == "set"
            assert get_client().get_current_trace_id() is None
        assert VARIABLE.get() == "unset"
        with pytest.raises(KeyError), setting():
            raise KeyError("mine")
    whole = [span for span in told.spans if span.name == "setting"]
    assert [span.level for span in whole] == ["DEFAULT", "ERROR"]
    assert [span.parent_id for span in told.spans if span.name == "clean-up"] == [span.id for span in whole]


torn_down: list[str] = []


@pytest.fixture
@observe
def yielding() -> Iterator[str]:
    yield "given"
    torn_down.append("given")


def test_a_fixture_of_pytest_may_be_observed(yielding: str) -> None:
    assert (yielding, torn_down) == ("given", [])


async def test_values_and_exceptions_go_in_and_out() -> None:
    @observe
    async def echo() -> Any:
        heard = yield "ready"
        try:
            yield heard
        except ValueError:
            yield "thrown"

    with captured() as told:
        pieces = echo()
        assert (await anext(pieces), await pieces.asend("hello")) == ("ready", "hello")
        assert await pieces.athrow(ValueError("x")) == "thrown"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
    assert told.named("echo").output == ["ready", "hello", "thrown"] or told.named("echo").output == "readyhellothrown"


def test_wrong_arguments_are_an_error_of_the_first_step() -> None:
    wrong: Any = counted
    with captured() as told, pytest.raises(TypeError, match="unexpected keyword"):
        next(wrong(least=1))
    assert told.named("counted").level == "ERROR"


# --- Given up ---------------------------------------------------------------------------------------------------------


def test_the_clean_up_of_an_abandoned_generator_is_part_of_it() -> None:
    @observe
    def reading() -> Iterator[int]:
        try:
            yield 1
        finally:
            note("clean-up")

    with captured() as told, get_client().start_as_current_observation(name="consumer"):
        for _ in reading():
            break
        gc.collect()
    assert told.named("clean-up").parent_id == told.named("reading").id
    assert told.named("reading").parent_id == told.named("consumer").id
    assert [span.name for span in told.spans] == ["clean-up", "reading", "consumer"]


async def test_the_clean_up_of_an_abandoned_asynchronous_generator_is_part_of_it() -> None:
    done = asyncio.Event()

    @observe
    async def reading() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            note("clean-up")
            done.set()

    with captured() as told:
        with get_client().start_as_current_observation(name="consumer"):
            async for _ in reading():
                break
        gc.collect()
        await asyncio.wait_for(done.wait(), 10)
        while not any(span.name == "reading" for span in told.spans):
            await asyncio.sleep(0)
    assert told.named("clean-up").parent_id == told.named("reading").id
    assert told.named("reading").parent_id == told.named("consumer").id
    assert told.named("reading").level == "DEFAULT"


# --- What is kept of what they yield ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [b"x" * 1_048_576, "x" * 1_048_576, {"delta": "x" * 1_048_576}])
@pytest.mark.parametrize("to_text", [None, len])
def test_memory_is_bounded_whatever_is_yielded(chunk: Any, to_text: Callable[[list[Any]], Any] | None) -> None:
    """Chunks are made anew each time, so that what is kept of them counts."""

    @observe(transform_to_string=to_text)
    def stream() -> Iterator[Any]:
        for number in range(150):
            yield {"delta": chunk["delta"] + str(number)} if isinstance(chunk, dict) else chunk[number:]

    with captured() as told:
        tracemalloc.start()
        assert sum(1 for _ in stream()) == 150
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12_000_000
    assert len(str(told.named("stream").output)) < 450_000


def test_the_beginning_and_the_end_are_kept() -> None:
    @observe
    def speak() -> Iterator[str]:
        yield "begin "
        for _ in range(1_000):
            yield "x" * 1_000
        yield " end"

    @observe
    def chunks() -> Iterator[dict[str, Any]]:
        for number in range(20_000):
            yield {"number": number, "text": "x" * 50}
        yield {"usage": 7}

    with captured() as told:
        assert len(list(speak())) == 1_002
        assert len(list(chunks())) == 20_001
    spoken, listed = told.named("speak").output, told.named("chunks").output
    assert spoken.startswith("begin xxx")
    assert spoken.endswith("xxx end")
    assert "… 660010 characters …" in spoken
    assert len(spoken) < 401_000
    assert (listed[0]["number"], listed[-1]) == (0, {"usage": 7})
    assert any(isinstance(each, str) and each.endswith("more …") for each in listed)


def test_a_mapping_that_is_yielded_again_and_again_is_told_as_it_was() -> None:
    def reuse() -> Iterator[dict[str, int]]:
        chunk = {"n": 0}
        for number in range(3):
            chunk["n"] = number
            yield chunk

    with captured() as told:
        list(observe(name="plain")(reuse)())
        list(observe(name="transformed", transform_to_string=lambda items: items)(reuse)())
    assert told.named("plain").output == [{"n": 0}, {"n": 1}, {"n": 2}] == told.named("transformed").output


def test_texts_before_other_things_stay_apart() -> None:
    @observe
    def mixed() -> Iterator[Any]:
        yield "a"
        yield "b"
        yield {"c": 1}

    with captured() as told:
        list(mixed())
    assert told.named("mixed").output == ["a", "b", {"c": 1}]


# --- What ends later --------------------------------------------------------------------------------------------------


async def slow(question: str) -> str:
    await asyncio.sleep(0.01)
    note("inside")
    if question == "bad":
        raise ValueError("away")
    return question.upper()


class Model:
    async def __call__(self, question: str) -> str:
        return await slow(question)


def returns_coroutine(question: str) -> Any:
    return slow(question)


def returns_task(question: str) -> Any:
    return asyncio.ensure_future(slow(question))


def assert_observed(told: Captured, name: str) -> CapturedSpan:
    good, bad = [span for span in told.spans if span.name == name]
    assert (good.output, good.level) == ("GOOD", "DEFAULT")
    assert (bad.output, bad.level) == (None, "ERROR")
    assert (good.otlp.end_time_unix_nano - good.otlp.start_time_unix_nano) >= 10_000_000
    assert [span.parent_id for span in told.spans if span.name == "inside"] == [good.id, bad.id]
    return good


@pytest.mark.parametrize("function", [returns_coroutine, returns_task, Model(), slow])
async def test_awaitables_are_observed_until_they_are_done(function: Any) -> None:
    called = observe(name="ask")(function)
    with captured() as told:
        pending = called("good")
        assert inspect.iscoroutine(pending) != (function is returns_task)
        assert await pending == "GOOD"
        with pytest.raises(ValueError, match="away"):
            await called("bad")
        told.spans[:] = [span for span in told.spans if span.parent_id or span.name != "inside"]
    assert_observed(told, "ask")


async def test_a_task_is_the_same_and_its_exception_stays_unretrieved() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    made: list[Any] = []

    @observe
    def ask() -> Any:
        made.append(asyncio.ensure_future(slow("bad")))
        return made[0]

    with captured() as told:
        assert ask() is made[0]
        await asyncio.wait(made)
        await asyncio.sleep(0)
    made.clear()
    gc.collect()
    assert complaints == ["Task exception was never retrieved"]
    assert told.named("ask").level == "ERROR"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_coroutine_that_is_never_awaited_has_ended() -> None:
    with captured() as told:
        observe(name="forgotten")(returns_coroutine)("good")
        gc.collect()
    assert told.named("forgotten").output is None


async def test_an_observed_generator_that_is_returned() -> None:
    @observe
    def answer(most: int) -> Iterator[int]:
        return counted(most)

    @observe
    async def answer_slowly(most: int) -> AsyncIterator[int]:
        return counted_slowly(most)

    with captured() as told:
        numbers = answer(3)
        assert told.spans == []
        assert list(numbers) == [0, 1, 2]
        assert [number async for number in await answer_slowly(2)] == [0, 1]
    for outer, inner, output in (("answer", "counted", [0, 1, 2]), ("answer_slowly", "counted_slowly", [0, 1])):
        assert told.named(inner).parent_id == told.named(outer).id
        assert told.named(inner).output == told.named(outer).output == output


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_streaming_response_is_observed_until_its_body_was_sent(failing: bool, asynchronous: bool) -> None:
    async def body() -> AsyncIterator[str]:
        for piece in ("to ", "be"):
            await asyncio.sleep(0.01)
            yield piece
        if failing:
            raise ValueError("away")

    def body_in_threads() -> Iterator[str]:
        yield from ("to ", "be")
        if failing:
            raise ValueError("away")

    @observe
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(body() if asynchronous else body_in_threads(), status_code=201)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    with captured() as told:
        response = await endpoint()
        assert type(response) is StreamingResponse
        assert told.spans == []
        running = response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
        if failing:
            with pytest.raises(BaseException, match=r"away|unhandled"):
                await running
        else:
            await running
    assert b"".join(message.get("body", b"") for message in sent) == b"to be"
    assert sent[0]["status"] == 201
    span = told.named("endpoint")
    assert (span.output, span.level) == ("to be", "ERROR" if failing else "DEFAULT")


def test_texts_can_be_read_when_they_are_dropped_in_a_cycle() -> None:
    """The collector runs finalizers in any order: those of what holds the texts may come first."""
    read: list[str] = []

    class Dropped:
        def __init__(self, texts: Texts) -> None:
            self.texts, self.itself = texts, self

        def __del__(self) -> None:
            read.append(self.texts.joined())

    texts = Texts()
    for n in range(1_000):
        texts.add(f"{n} ")
    expected = texts.joined()
    Dropped(texts)
    del texts
    gc.collect()
    assert read == [expected] == [" ".join(map(str, range(1_000))) + " "]
