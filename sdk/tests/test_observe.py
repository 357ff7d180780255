"""`observe`: calls become observations, and functions stay what they were."""

import asyncio
import functools
import gc
import inspect

import pytest
from lodestream import get_client, observe
from lodestream.testing import captured


def test_arguments_by_name_are_the_input_and_the_result_is_the_output():
    @observe
    def answer(question, *rest, limit=3, **more):
        return {"text": question.upper(), "limit": limit}

    with captured() as told:
        assert answer("why", 1, 2, limit=5, tone="kind") == {"text": "WHY", "limit": 5}
    span = told.named("answer")
    assert span.input == {"question": "why", "args": [1, 2], "limit": 5, "tone": "kind"}
    assert span.output == {"text": "WHY", "limit": 5}
    assert (span.type, span.level, span.parent_id) == ("span", "DEFAULT", "")


def test_arguments_are_told_as_they_were_before_the_call():
    @observe
    def empty(basket):
        basket.clear()

    with captured() as told:
        empty(["apple"])
    assert told.named("empty").input == {"basket": ["apple"]}


def test_calls_within_calls_are_children():
    @observe(as_type="tool")
    def inner():
        return 1

    @observe(name="the outer one", as_type="agent")
    def outer():
        return inner()

    with captured() as told:
        outer()
    parent, child = told.named("the outer one"), told.named("inner")
    assert (child.parent_id, child.trace_id) == (parent.id, parent.trace_id)
    assert (parent.type, child.type) == ("agent", "tool")


async def test_tasks_are_children_of_what_started_them():
    @observe
    async def step(number):
        await asyncio.sleep(0)
        return number

    @observe
    async def whole():
        return await asyncio.gather(*(step(number) for number in range(3)))

    with captured() as told:
        assert await whole() == [0, 1, 2]
    parent = told.named("whole")
    assert [span.parent_id for span in told.spans if span.name == "step"] == [parent.id] * 3


def test_methods_are_told_without_their_object():
    class Shop:
        @observe
        def price(self, article):
            return 5

        @observe
        @classmethod
        def open(cls, door):
            return cls

        @observe
        @staticmethod
        def greet(name):
            return f"hello {name}"

    with captured() as told:
        assert Shop().price("tea") == 5
        assert Shop.open("front") is Shop
        assert Shop.greet("Ada") == "hello Ada"
    assert [span.input for span in told.spans] == [{"article": "tea"}, {"door": "front"}, {"name": "Ada"}]


def test_what_is_raised_is_recorded_and_raised_on():
    @observe
    def fail():
        raise KeyError("order 9999")

    with captured() as told, pytest.raises(KeyError, match="order 9999"):
        fail()
    span = told.named("fail")
    assert (span.level, span.attributes["lodestream.observation.status_message"]) == ("ERROR", "'order 9999'")
    assert span.otlp.status.code == span.otlp.status.STATUS_CODE_ERROR
    (event,) = span.otlp.events
    assert {pair.key: pair.value.string_value for pair in event.attributes}["exception.type"] == "KeyError"


async def test_being_cancelled_is_no_error():
    started = asyncio.Event()

    @observe
    async def wait():
        started.set()
        await asyncio.Event().wait()

    with captured() as told:
        task = asyncio.create_task(wait())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    span = told.named("wait")
    assert (span.level, span.attributes["lodestream.observation.status_message"]) == ("WARNING", "CancelledError")


def test_an_exception_that_is_caught_marks_only_where_it_was_raised():
    @observe
    def inner():
        raise ValueError("no")

    @observe
    def outer():
        try:
            inner()
        except ValueError:
            return "anyway"

    with captured() as told:
        assert outer() == "anyway"
    assert (told.named("inner").level, told.named("outer").level) == ("ERROR", "DEFAULT")


@pytest.mark.parametrize(
    ("arguments", "settings", "kept"),
    [
        ({}, {}, (True, True)),
        ({"capture_input": False}, {}, (False, True)),
        ({"capture_output": False}, {}, (True, False)),
        ({}, {"capture_io": False}, (False, False)),
        ({"capture_input": True}, {"capture_io": False}, (True, False)),
    ],
)
def test_what_is_captured_can_be_chosen(arguments, settings, kept):
    @observe(**arguments)
    def echo(text):
        return text

    with captured(**settings) as told:
        echo("hello")
    span = told.named("echo")
    assert (span.input is not None, span.output is not None) == kept


def test_a_call_may_say_where_it_belongs():
    @observe
    def echo(**given):
        return given

    with captured() as told:
        assert echo(lodestream_trace_id="ab" * 16, lodestream_parent_observation_id="cd" * 8, x=1) == {"x": 1}
        assert echo(lodestream_trace_id="no id", x=2) == {"x": 2}
        assert echo(lodestream_parent_observation_id="cd" * 8, x=3) == {"x": 3}
    first, second, third = told.spans
    assert (first.trace_id, first.parent_id) == ("ab" * 16, "cd" * 8)
    assert second.trace_id != "ab" * 16
    assert (second.parent_id, third.parent_id) == ("", "")


def test_functions_keep_their_name_signature_and_kind():
    @observe(name="other")
    async def fetch(url: str, *, timeout: float = 1.0) -> bytes:
        """Get it."""
        return b""

    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Get it.")
    assert str(inspect.signature(fetch)) == "(url: str, *, timeout: float = 1.0) -> bytes"
    assert inspect.iscoroutinefunction(fetch)


def test_anything_that_can_be_called_can_be_observed():
    with captured() as told:
        assert observe(functools.partial(max, 3))(5) == 5
        assert observe(len)("four") == 4
    assert [span.name for span in told.spans] == ["partial", "len"]


def test_the_current_observation_can_be_told_more():
    @observe(as_type="generation")
    def ask():
        get_client().update_current_generation(model="mock-large", usage_details={"input": 3}, name="renamed")
        assert get_client().get_current_observation_id() is not None
        return "fine"

    with captured() as told:
        ask()
    attributes = told.named("renamed").attributes
    assert attributes["lodestream.observation.model.name"] == "mock-large"
    assert attributes["lodestream.observation.usage_details"] == '{"input":3}'


def test_without_keys_nothing_is_told_and_all_goes_on(monkeypatch):
    monkeypatch.delenv("LODESTREAM_SECRET_KEY", raising=False)

    @observe
    def numbers():
        yield from range(3)

    with captured(tracing_enabled=False) as told:
        assert list(numbers()) == [0, 1, 2]
    assert told.spans == []


# --- Generators -------------------------------------------------------------------------------------------------------


def test_a_generator_is_observed_until_it_is_exhausted():
    @observe
    def speak(words):
        yield from words.split()

    with captured() as told:
        pieces = speak("to be or not")
        assert next(pieces) == "to"
        assert told.spans == []
        assert list(pieces) == ["be", "or", "not"]
    assert told.named("speak").output == "tobeornot"


def test_things_yielded_are_a_list_unless_told_otherwise():
    @observe
    def count():
        yield from (1, 2)

    @observe(transform_to_string=lambda items: f"{len(items)} items")
    def counted():
        yield from (1, 2)

    with captured() as told:
        assert (list(count()), list(counted())) == ([1, 2], [1, 2])
    assert (told.named("count").output, told.named("counted").output) == ([1, 2], "2 items")


def test_a_transformation_that_fails_costs_nothing():
    @observe(transform_to_string=lambda items: 1 / 0)
    def count():
        yield 1

    with captured() as told:
        assert list(count()) == [1]
    assert told.named("count").output == [1]


def test_a_generator_is_current_while_it_runs_and_not_in_between():
    @observe
    def inner():
        return 1

    @observe
    def numbers():
        with get_client().start_as_current_observation(name="block"):
            yield inner()
            yield inner()

    with captured() as told:
        for number in numbers():
            assert get_client().get_current_trace_id() is None
            assert number == 1
    whole, block = told.named("numbers"), told.named("block")
    assert [span.parent_id for span in told.spans if span.name == "inner"] == [block.id] * 2
    assert block.parent_id == whole.id


def test_a_generator_that_is_closed_or_forgotten_has_ended():
    @observe
    def numbers(kind):
        yield 1
        yield 2

    with captured() as told:
        closed = numbers("closed")
        next(closed)
        closed.close()
        forgotten = numbers("forgotten")
        next(forgotten)
        del forgotten
        numbers("never begun")  # nothing of it ran
        gc.collect()
    assert [(span.input["kind"], span.level) for span in told.spans] == [
        ("closed", "DEFAULT"), ("forgotten", "DEFAULT"),
    ]  # fmt: skip
    assert told.spans[0].output == [1]


def test_generators_take_what_is_sent_and_thrown_and_give_what_they_return():
    @observe
    def echo():
        heard = yield "ready"
        try:
            yield heard
        except ValueError:
            return "thrown"

    def outer():
        return (yield from echo())

    with captured() as told:
        pieces = outer()
        assert (next(pieces), pieces.send("hello")) == ("ready", "hello")
        with pytest.raises(StopIteration, match="thrown"):
            pieces.throw(ValueError("x"))
    assert told.named("echo").level == "DEFAULT"


def test_a_generator_that_raises_is_an_error():
    @observe
    def numbers():
        yield 1
        raise OSError("away")

    with captured() as told, pytest.raises(OSError, match="away"):
        list(numbers())
    assert (told.named("numbers").level, told.named("numbers").output) == ("ERROR", [1])


async def test_asynchronous_generators_likewise():
    @observe
    async def inner(number):
        await asyncio.sleep(0)
        return number

    @observe
    async def numbers():
        with get_client().start_as_current_observation(name="block"):
            for number in range(3):
                yield await inner(number)

    with captured() as told:
        got = []
        async for number in numbers():
            assert get_client().get_current_trace_id() is None
            got.append(number)
        stopped = numbers()
        assert await anext(stopped) == 0
        await stopped.aclose()
    assert got == [0, 1, 2]
    whole = [span for span in told.spans if span.name == "numbers"]
    assert [span.output for span in whole] == [[0, 1, 2], [0]]
    assert [span.level for span in whole] == ["DEFAULT", "DEFAULT"]
    blocks = {span.id: span.parent_id for span in told.spans if span.name == "block"}
    assert set(blocks.values()) == {span.id for span in whole}
    assert {span.parent_id for span in told.spans if span.name == "inner"} == set(blocks)


async def test_an_asynchronous_generator_can_be_cancelled_where_it_waits():
    waiting = asyncio.Event()

    @observe
    async def numbers():
        yield 1
        waiting.set()
        await asyncio.Event().wait()

    async def consume():
        async for _ in numbers():
            pass

    with captured() as told:
        task = asyncio.create_task(consume())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (told.named("numbers").level, told.named("numbers").output) == ("WARNING", [1])


async def test_timeouts_work_inside_asynchronous_generators():
    @observe
    async def numbers():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            yield "late"

    with captured() as told:
        assert [each async for each in numbers()] == ["late"]
    assert told.named("numbers").output == "late"
