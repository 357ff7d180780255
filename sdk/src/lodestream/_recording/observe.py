"""`observe`: a function's calls become observations."""

import functools
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, ParamSpec, TypeVar, cast, overload

from opentelemetry import trace

from lodestream._diagnostics import report_internal_error, warn_once
from lodestream._recording.attributes import ObservationType
from lodestream._recording.clients import current_client
from lodestream._recording.context import enter, leave
from lodestream._recording.recorder import Where
from lodestream._recording.span import Observation
from lodestream._recording.streams import (
    Stream,
    async_steps,
    asyncio_future,
    awaited,
    iterated,
    steps_of,
    streamed_body,
)

P = ParamSpec("P")
R = TypeVar("R")
ToText = Callable[[list[Any]], Any]

_PLAIN = frozenset({str, dict, list, tuple, int, float, bool, bytes, type(None)})
"""Types of results that are what they are at once."""
TRACE_ID, PARENT_ID = "lodestream_trace_id", "lodestream_parent_observation_id"
PUBLIC_KEY = "lodestream_public_key"


@overload
def observe(func: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def observe(
    func: None = None,
    /,
    *,
    name: str | None = None,
    as_type: ObservationType | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    transform_to_string: ToText | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def observe(
    func: Any = None,
    /,
    *,
    name: str | None = None,
    as_type: ObservationType | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    transform_to_string: ToText | None = None,
) -> Any:
    """Make each call of a function an observation: its arguments are the input, what it returns or yields the output.

    For functions, methods, coroutine functions and generators of both kinds, with and without parentheses. What the
    function raises is recorded and raised on. A generator's observation begins with its first step, as its body does,
    and lasts until it is exhausted, closed or collected; it is current while the generator runs, not in between. Where
    a function returns a generator, a coroutine, a future or a streaming response of Starlette's, its observation ends
    when that does.

    A call may say where it belongs with `lodestream_trace_id=` (32 hex digits) and `lodestream_parent_observation_id=`
    (16), and in programs with several projects whose it is with `lodestream_public_key=`; the function does not see
    these.

    Args:
        func: The function, where `observe` is used without parentheses.
        name: The observations' name. Default: the function's.
        as_type: "span", "generation", "embedding", "agent", "tool", "chain", "retriever", "evaluator", "guardrail" or
            "event". Default: "span".
        capture_input: Whether the arguments are kept, by their names. Default: the client's `capture_io`.
        capture_output: Whether the result is kept. Default: the client's `capture_io`.
        transform_to_string: Makes the output of a list of what was yielded. Default: texts are joined, anything else is
            a list.

    Returns:
        The function, observed; with the same signature.

    Example:
        ::

            @observe
            def answer(question: str) -> str:
                return complete(f"Answer briefly: {question}")

            @observe(as_type="generation", name="llm")
            def complete(prompt: str) -> str:
                reply = model.generate(prompt)
                get_client().update_current_generation(model=reply.model, usage_details=reply.usage)
                return reply.text
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(function)(decorate(function.__func__))
        called = _Observed(
            function,
            name,
            as_type or "span",
            capture_input=capture_input,
            capture_output=capture_output,
            to_text=transform_to_string,
        )
        if inspect.iscoroutinefunction(function):
            return called.coroutine_function()
        if inspect.isgeneratorfunction(function):
            return called.generator_function()
        return called.async_generator_function() if inspect.isasyncgenfunction(function) else called.function()

    return decorate if func is None else decorate(func)


class _Observed:
    """A function, and how its calls are told."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        as_type: ObservationType,
        *,
        capture_input: bool | None,
        capture_output: bool | None,
        to_text: ToText | None,
    ) -> None:
        self._function = function
        self._name = name or str(getattr(function, "__name__", type(function).__name__))
        self._as_type, self._to_text = as_type, to_text
        self._capture_input, self._capture_output = capture_input, capture_output
        self._names, self._skip = _parameters(function)

    def function(self) -> Callable[..., Any]:
        function = self._function

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            observation = self._begin(args, kwargs)
            if observation is None:
                return function(*args, **kwargs)
            entered = enter(trace.set_span_in_context(observation))
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                _fail(observation, error)
                raise
            finally:
                leave(entered)
            return self._finish(observation, result)

        return wrapper

    def coroutine_function(self) -> Callable[..., Any]:
        function = self._function

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            observation = self._begin(args, kwargs)
            if observation is None:
                return await function(*args, **kwargs)
            entered = enter(trace.set_span_in_context(observation))
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                _fail(observation, error)
                raise
            finally:
                leave(entered)
            return self._finish(observation, result)

        return wrapper

    def generator_function(self) -> Callable[..., Any]:
        function = self._function

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            observation = self._begin(args, kwargs)
            generator = self._opened(observation, args, kwargs)
            return (yield from (generator if observation is None else steps_of(generator, self._stream(observation))))

        return wrapper

    def async_generator_function(self) -> Callable[..., Any]:
        def opened(*args: Any, **kwargs: Any) -> tuple[Any, Stream | None]:
            observation = self._begin(args, kwargs)
            generator = self._opened(observation, args, kwargs)
            return generator, None if observation is None else self._stream(observation)

        return functools.wraps(self._function)(async_steps(opened))

    def _opened(self, observation: Observation | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return self._function(*args, **kwargs)
        except BaseException as error:  # wrong arguments
            if observation is not None:
                _fail(observation, error)
            raise

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation | None:
        """None where nothing is to be observed. Takes what is meant for us out of the keyword arguments."""
        where = _where(kwargs) if TRACE_ID in kwargs or PARENT_ID in kwargs else None
        public_key = kwargs.pop(PUBLIC_KEY, None) if kwargs else None
        try:
            client = current_client() if public_key is None else current_client(public_key=public_key)
            if not (client._recorder.enabled or client._recorder.is_on):
                return None
            fields: Mapping[str, Any] = {}
            if client.settings.capture_io if self._capture_input is None else self._capture_input:
                fields = {"input": self._arguments(args, kwargs)}
            return client._recorder.observe(self._name, self._as_type, fields, where=where)
        except Exception as error:
            report_internal_error(f"observing {self._name}", error)
            return None

    def _finish(self, observation: Observation, result: Any) -> Any:
        """End the observation with a result, or have it end when the result does; gives what the caller gets."""
        kind = type(result)
        if kind not in _PLAIN:
            if kind is GeneratorType:
                return _named_as(result, steps_of(result, self._stream(observation)))
            if kind is AsyncGeneratorType:
                return _named_as(result, async_steps(lambda: (result, self._stream(observation)))())
            if kind is CoroutineType:
                stream = Stream(observation, captures=False)
                return _named_as(result, awaited(result, stream, partial(self._finish, observation)))
            if asyncio_future(result):
                result.add_done_callback(partial(self._settle, observation))
                return result
            if (body := streamed_body(result)) is not None:
                result.body_iterator = iterated(body, self._stream(observation))
                return result
        if self._captures_output():
            observation.update(output=result)
        observation.end()
        return result

    def _settle(self, observation: Observation, future: Any) -> None:
        """A future is done. Asking it for its exception would keep asyncio from logging that nobody else has."""
        if future.cancelled():
            from asyncio import CancelledError  # loaded, or there were no future

            _fail(observation, CancelledError())
        elif (error := future._exception) is not None:
            _fail(observation, error)
        else:
            self._finish(observation, future.result())

    def _stream(self, observation: Observation) -> Stream:
        return Stream(observation, self._captures_output(), self._to_text)

    def _captures_output(self) -> bool:
        return current_client().settings.capture_io if self._capture_output is None else self._capture_output

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments by their names; those that have none as "args"."""
        named = dict(zip(self._names, args[self._skip :], strict=False))
        if unnamed := args[self._skip + len(self._names) :]:
            named["args"] = unnamed
        named.update(kwargs)
        return named


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], int]:
    """The names of positional parameters, and how many come before those worth telling: a method's `self`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some that are written in C
        return (), 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = tuple(parameter.name for parameter in parameters if parameter.kind in positional)
    skip = 1 if names and names[0] in {"self", "cls"} else 0
    return names[skip:], skip


def _where(kwargs: dict[str, Any]) -> Where | None:
    trace_id, parent_id = kwargs.pop(TRACE_ID, None), kwargs.pop(PARENT_ID, None)
    if trace_id is None:
        if parent_id is not None:
            warn_once(PARENT_ID, f"{PARENT_ID} needs {TRACE_ID} beside it; it is ignored")
        return None
    return cast("Where", (trace_id, parent_id))


def _named_as(original: Any, generator: Any) -> Any:
    generator.__name__, generator.__qualname__ = original.__name__, original.__qualname__
    return generator


def _fail(observation: Observation, error: BaseException) -> None:
    observation.fail(error)
    observation.end()
