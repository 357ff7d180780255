"""What yields or comes later: the observation is current while it runs, not in between, and ends when it ends."""

import json
import sys
from array import array
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextvars import ContextVar, Token
from typing import Any

from lodestream_evals.lenient_json import to_json
from opentelemetry import trace
from opentelemetry.context import Context, attach

from lodestream._diagnostics import never_raises, report_internal_error
from lodestream._recording.attributes import OUTPUT
from lodestream._recording.span import Observation

# --- What is kept of what is yielded ----------------------------------------------------------------------------------
# What is kept of what a generator yields: by value, as it was then, and bounded in characters.

_PIECES_OF_A_CHUNK = 256
_HEAD_CHARS, _TAIL_CHARS = 300_000, 40_000
"""How much is kept of the beginning and the end of what is yielded: a stream's last chunk has the usage."""
_MAX_ITEMS = 10_000
_UNKNOWN_WEIGHT = 1_000  # of an object that only a transformation of the program's understands


class Yielded:
    """What was yielded, texts joined, anything else as a list."""

    def __init__(self, to_text: Callable[[list[Any]], Any] | None) -> None:
        self._to_text = to_text
        self._items: list[Any] = []
        self._texts: Texts | None = None
        self._values: _Values | None = None
        self._room, self._more = _HEAD_CHARS, 0

    def add(self, item: Any) -> None:
        if self._to_text is not None:
            self._keep(item)
        elif self._values is None and type(item) is str:
            if self._texts is None:
                self._texts = Texts()
            self._texts.add(item)
        else:
            if self._values is None:
                self._values = _Values()
                for text in self._texts.parts() if self._texts is not None else ():
                    self._values.add(text)
                self._texts = None
            self._values.add(item)

    def encoded(self) -> str | None:
        """The output as its attribute has it; None where it is a value that has to be encoded yet."""
        if self._to_text is not None:
            return None
        return f"[{','.join(self._values.parts())}]" if self._values is not None else self.output()

    def output(self) -> Any:
        """The output as a value."""
        if self._to_text is not None:
            items, self._items = self._items, []
            try:
                return self._to_text(items)
            except Exception as error:
                report_internal_error("transform_to_string", error)
            return [*items, f"… {self._more} more"] if self._more else items
        if self._values is not None:
            return list(map(json.loads, self._values.parts()))
        return self._texts.joined() if self._texts is not None else ""

    def _keep(self, item: Any) -> None:
        """For a transformation of the program's, which knows its own objects; containers are copied."""
        if len(self._items) >= _MAX_ITEMS or self._room <= 0:
            self._more += 1
            return
        weight = len(item) if isinstance(item, str | bytes) else _UNKNOWN_WEIGHT
        if type(item) in (dict, list):
            text = to_json(item, self._room)
            item, weight = json.loads(text), len(text)
        self._room -= weight
        self._items.append(item)


class Texts:
    """The beginning and the end of texts joined.

    Nothing in it has a finalizer of its own: a stream that is dropped in a cycle is read after those have run.
    """

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._pieces: list[str] = []
        self._room = _HEAD_CHARS
        self._tail: deque[str] = deque()
        self._in_tail = self._left_out = 0
        self._lengths = array("L")

    def add(self, text: str) -> None:
        if len(self._lengths) < _MAX_ITEMS:
            self._lengths.append(len(text))
        if len(text) <= self._room:
            self._add_to_head(text)
            self._room -= len(text)
            return
        self._add_to_head(text[: self._room])
        rest, self._room = text[self._room :], 0
        self._tail.append(rest[-_TAIL_CHARS:])
        self._in_tail += len(self._tail[-1])
        self._left_out += len(rest) - len(self._tail[-1])
        while self._in_tail - len(self._tail[0]) >= _TAIL_CHARS:
            self._left_out += len(self._tail[0])
            self._in_tail -= len(self._tail.popleft())

    def _add_to_head(self, text: str) -> None:
        self._pieces.append(text)
        if len(self._pieces) == _PIECES_OF_A_CHUNK:  # a token takes fifty bytes as a text of its own
            self._chunks.append("".join(self._pieces))
            self._pieces.clear()

    def _head(self) -> str:
        return "".join([*self._chunks, *self._pieces])

    def joined(self) -> str:
        tail = "".join(self._tail)
        left_out = self._left_out + max(len(tail) - _TAIL_CHARS, 0)
        note = f"… {left_out} characters …" if left_out else ""
        return f"{self._head()}{note}{tail[-_TAIL_CHARS:]}"

    def parts(self) -> list[str]:
        """The texts, as far as they are in the beginning."""
        whole, at, parts = self._head(), 0, []
        for length in self._lengths:
            parts.append(whole[at : at + length])
            at += length
        return [*parts, whole[at:]] if at < len(whole) else parts


class _Values:
    """The first and the last of values, as the JSON that they were when they came."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._room = _HEAD_CHARS
        self._tail: deque[str] = deque()
        self._in_tail = self._left_out = 0

    def add(self, value: Any) -> None:
        if self._room > 0 and len(self._head) < _MAX_ITEMS:
            self._head.append(to_json(value, self._room))
            self._room -= len(self._head[-1]) + 1
            return
        self._tail.append(to_json(value, _TAIL_CHARS))
        self._in_tail += len(self._tail[-1])
        while self._in_tail - len(self._tail[0]) >= _TAIL_CHARS or len(self._tail) > _MAX_ITEMS:
            self._left_out += 1
            self._in_tail -= len(self._tail.popleft())

    def parts(self) -> list[str]:
        note = [f'"… {self._left_out} more …"'] if self._left_out else []
        return [*self._head, *note, *self._tail]


# --- Steps ------------------------------------------------------------------------------------------------------------
# What yields or comes later: the observation is current while it runs, not in between, and ends when it ends.

Finish = Callable[[Any], Any]
"""Ends the observation with what was returned, and gives what the caller is to have."""


class Stream:
    """An observation of something that runs in steps. Dropped before its end, it ends."""

    def __init__(
        self, observation: Observation, captures: bool, to_text: Callable[[list[Any]], Any] | None = None
    ) -> None:
        self._observation = observation
        self._context = trace.set_span_in_context(observation)
        self._variable: ContextVar[Context] | None = None
        self._yielded = Yielded(to_text) if captures else None

    def enter(self) -> Token[Context]:
        """Make current what was so when the last step ended."""
        if self._variable is not None:
            return self._variable.set(self._context)
        token = attach(self._context)
        self._variable = token.var
        return token

    def leave(self, entered: Token[Context]) -> None:
        """A step has ended; what it has left open (`with` around a `yield`) is current in the next one."""
        variable = entered.var
        self._context = variable.get()
        try:  # noqa: SIM105 - suppressing costs more, at each step
            variable.reset(entered)
        except ValueError:  # it is being collected, in the context of something else
            pass

    @never_raises(None)
    def add(self, item: Any) -> None:
        """Keep what a step yielded."""
        if self._yielded is not None:
            self._yielded.add(item)

    @never_raises(None)
    def end(self, error: BaseException | None = None) -> None:
        """The first call counts."""
        observation = self._observation
        if not observation.is_recording():
            return
        if self._yielded is not None:
            if (encoded := self._yielded.encoded()) is not None and not observation._is_masked:
                observation._put(OUTPUT, encoded)
            else:
                observation.update(output=self._yielded.output())
        if error is not None:
            observation.fail(error)
        observation.end()

    def __del__(self) -> None:
        self.end()


def steps_of(generator: Generator[Any, Any, Any], stream: Stream) -> Generator[Any, Any, Any]:
    """A generator that does what the given one does, each step with the observation current."""
    step: Callable[[Any], Any] = generator.send
    given: Any = None
    while True:
        entered = stream.enter()
        try:
            item = step(given)
        except StopIteration as stop:
            stream.end()
            return stop.value
        except BaseException as error:
            stream.end(error)
            raise
        finally:
            stream.leave(entered)
        stream.add(item)
        try:
            step, given = generator.send, (yield item)
        except GeneratorExit:
            entered = stream.enter()
            try:
                generator.close()
            except BaseException as error:
                stream.end(error)
                raise
            finally:
                stream.leave(entered)
            stream.end()
            raise
        except BaseException as error:
            step, given = generator.throw, error


def async_steps(
    opened: Callable[..., tuple[AsyncGenerator[Any, Any], Stream | None]],
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """An asynchronous generator function that does what the opened generator does, likewise."""

    async def steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator, stream = opened(*args, **kwargs)
        step: Callable[[Any], Awaitable[Any]] = generator.asend
        given: Any = None
        while True:
            entered = stream.enter() if stream is not None else None
            try:
                item = await step(given)
            except StopAsyncIteration:
                if stream is not None:
                    stream.end()
                return
            except BaseException as error:
                if stream is not None:
                    stream.end(error)
                raise
            finally:
                if stream is not None and entered is not None:
                    stream.leave(entered)
            if stream is not None:
                stream.add(item)
            try:
                step, given = generator.asend, (yield item)
            except GeneratorExit:
                await _close(generator, stream)
                raise
            except BaseException as error:
                step, given = generator.athrow, error

    return steps


async def iterated(iterator: AsyncIterator[Any], stream: Stream) -> AsyncGenerator[Any, None]:
    """What an asynchronous iterator gives, each step with the observation current."""
    while True:
        entered = stream.enter()
        try:
            item = await anext(iterator)
        except StopAsyncIteration:
            stream.end()
            return
        except BaseException as error:
            stream.end(error)
            raise
        finally:
            stream.leave(entered)
        stream.add(item)
        try:
            yield item
        except GeneratorExit:
            await _close(iterator, stream)
            raise


async def awaited(awaitable: Awaitable[Any], stream: Stream, finish: Finish) -> Any:
    """What comes of an awaitable, with the observation current."""
    entered = stream.enter()
    try:
        result = await awaitable
    except BaseException as error:
        stream.end(error)
        raise
    finally:
        stream.leave(entered)
    return finish(result)


def asyncio_future(value: Any) -> bool:
    """Whether it is a future or a task, as `asyncio.isfuture` has it, without importing asyncio."""
    return getattr(type(value), "_asyncio_future_blocking", None) is not None


def streamed_body(value: Any) -> Any:
    """The body of a streaming response of Starlette's (so of FastAPI's); None for anything else."""
    kind = getattr(sys.modules.get("starlette.responses"), "Response", None)
    if kind is None or not isinstance(value, kind):
        return None
    body = getattr(value, "body_iterator", None)
    return body if hasattr(body, "__anext__") else None


async def _close(iterator: Any, stream: Stream | None) -> None:
    """Close what is given up, so that its clean-up is part of the observation."""
    entered = stream.enter() if stream is not None else None
    try:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()
    except BaseException as error:
        if stream is not None:
            stream.end(error)
        raise
    finally:
        if stream is not None and entered is not None:
            stream.leave(entered)
    if stream is not None:
        stream.end()
