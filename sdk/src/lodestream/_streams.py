"""Generators that are observed: the observation is current while they run, and ends with them."""

import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import attach

from lodestream._guard import guarded, report
from lodestream._span import Observation

T = TypeVar("T")
_MAX_ITEMS, _MAX_CHARS = 10_000, 400_000


class _Yielded:
    """What was yielded, up to a bound, and the observation's end."""

    def __init__(self, observation: Observation, captures: bool, to_text: Callable[[list[Any]], Any] | None) -> None:
        self._observation, self._captures, self._to_text = observation, captures, to_text
        self._items: list[Any] = []
        self._room, self._more = _MAX_CHARS, 0

    def add(self, item: Any) -> None:
        if not self._captures:
            return
        if len(self._items) >= _MAX_ITEMS or self._room <= 0:
            self._more += 1
            return
        self._items.append(item)
        if isinstance(item, str):
            self._room -= len(item)

    @guarded(None)
    def end(self, error: BaseException | None = None) -> None:
        """The first call counts."""
        observation = self._observation
        if not observation.is_recording():
            return
        if self._captures:
            observation.update(output=self._output())
        if error is not None:
            observation.fail(error)
        observation.end()

    def _output(self) -> Any:
        items, self._items = self._items, []
        if self._to_text is not None:
            try:
                return self._to_text(items)
            except Exception as error:
                report("transform_to_string", error)
        more = f"… {self._more} more" if self._more else ""
        if all(isinstance(item, str) for item in items):
            return "".join(items) + more
        return [*items, more] if more else items


def _inside(observation: Observation) -> contextvars.Context:
    """A context like the present one, in which the observation is current."""
    context = contextvars.copy_context()
    context.run(attach, trace.set_span_in_context(observation))
    return context


class ObservedGenerator(Generator[Any, Any, Any]):
    """Runs each step in a context of its own, so that what is observed between two steps is none of it."""

    def __init__(
        self,
        generator: Generator[Any, Any, Any],
        observation: Observation,
        captures: bool,
        to_text: Callable[[list[Any]], Any] | None,
    ) -> None:
        self._generator, self._context = generator, _inside(observation)
        self._yielded = _Yielded(observation, captures, to_text)

    def send(self, value: Any) -> Any:
        return self._step(self._generator.send, value)

    def throw(self, kind: Any, value: BaseException | object = None, traceback: TracebackType | None = None) -> Any:
        error = kind if isinstance(kind, BaseException) else _exception(kind, value)
        return self._step(self._generator.throw, error.with_traceback(traceback) if traceback else error)

    def close(self) -> None:
        try:
            self._context.run(self._generator.close)
        except BaseException as error:
            self._yielded.end(error)
            raise
        self._yielded.end()

    def __del__(self) -> None:
        self._yielded.end()

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            item = self._context.run(step, value)
        except StopIteration:
            self._yielded.end()
            raise
        except BaseException as error:
            self._yielded.end(error)
            raise
        self._yielded.add(item)
        return item


class ObservedAsyncGenerator(AsyncGenerator[Any, Any]):
    """The same for `async for`."""

    def __init__(
        self,
        generator: AsyncGenerator[Any, Any],
        observation: Observation,
        captures: bool,
        to_text: Callable[[list[Any]], Any] | None,
    ) -> None:
        self._generator, self._context = generator, _inside(observation)
        self._yielded = _Yielded(observation, captures, to_text)

    async def __anext__(self) -> Any:
        return await self._step(self._generator.__anext__())

    async def asend(self, value: Any) -> Any:
        return await self._step(self._generator.asend(value))

    async def athrow(
        self, kind: Any, value: BaseException | object = None, traceback: TracebackType | None = None
    ) -> Any:
        error = kind if isinstance(kind, BaseException) else _exception(kind, value)
        return await self._step(self._generator.athrow(error.with_traceback(traceback) if traceback else error))

    async def aclose(self) -> None:
        try:
            await _Within(self._context, self._generator.aclose())
        except BaseException as error:
            self._yielded.end(error)
            raise
        self._yielded.end()

    def __del__(self) -> None:
        self._yielded.end()

    async def _step(self, step: Awaitable[Any]) -> Any:
        try:
            item = await _Within(self._context, step)
        except StopAsyncIteration:
            self._yielded.end()
            raise
        except BaseException as error:
            self._yielded.end(error)
            raise
        self._yielded.add(item)
        return item


class _Within(Awaitable[T]):
    """Awaits in another context: each resumption of the awaited runs in it."""

    def __init__(self, context: contextvars.Context, awaited: Awaitable[T]) -> None:
        self._context, self._awaited = context, awaited

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaited.__await__()
        resume: Callable[[Any], Any] = steps.send
        told: Any = None
        while True:
            try:
                waiting_for = self._context.run(resume, told)
            except StopIteration as finished:
                return finished.value  # type: ignore[no-any-return]
            try:
                resume, told = steps.send, (yield waiting_for)
            except BaseException as error:
                resume, told = steps.throw, error


def _exception(kind: type[BaseException], value: object) -> BaseException:
    if isinstance(value, BaseException):
        return value
    return kind() if value is None else kind(value)
