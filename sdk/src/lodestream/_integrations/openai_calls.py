"""Calls of OpenAI's API, each an observation from the request to the end of its answer, streams included.

All requests of a client go through its `post`; what that is given and returns is observed, and returned as it is.
"""

import copy
import datetime as dt
import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, cast

from opentelemetry import trace

from lodestream._diagnostics import never_raises, report_internal_error
from lodestream._integrations.openai_values import ENDPOINTS, Endpoint, Parts
from lodestream._recording.clients import current_client
from lodestream._recording.context import current_context, enter, leave
from lodestream._recording.propagation import propagate_attributes
from lodestream._recording.recorder import Where
from lodestream._recording.span import Observation

OURS = frozenset(
    {
        "name",
        "lodestream_prompt",
        "lodestream_metadata",
        "lodestream_trace_id",
        "lodestream_parent_observation_id",
        "lodestream_public_key",
    }
)
"""Keyword arguments of a call that are for its observation, and that the API does not see."""
_PREFIX = "lodestream_"
_RAW = "X-Stainless-Raw-Response"
"""The header with which the client asks itself for a response object: "true", or "stream" for one not read yet."""
_arguments: ContextVar[Mapping[str, Any] | None] = ContextVar("lodestream-openai-arguments", default=None)


_asking: list[Callable[[], bool]] = []


def leave_to(asks: Callable[[], bool]) -> None:
    """Leave calls to a framework that records its own calls of models.

    Args:
        asks: Whether the framework is asking a model right here; then the call is not observed a second time.
    """
    if asks not in _asking:
        _asking.append(asks)


# --- A call -----------------------------------------------------------------------------------------------------------


class _Call:
    """A request that is under way, with its observation."""

    def __init__(self, observation: Observation, endpoint: Endpoint, raw: str) -> None:
        self.observation, self.raw = observation, raw
        self._endpoint = endpoint
        self._parts: Parts | None = None
        self._streams = self._speaks = False
        self.stepping = False
        """Whether its answer, or a chunk of it, is being read right now."""

    @never_raises(None)
    def answered(self, answer: Any) -> None:
        """Take what the client gives; the observation ends, or will when a stream does."""
        if self.raw == "stream":
            _watch_parsing(answer, self)
        elif self.raw == "true":
            try:
                parsed = answer.parse()  # kept by the response: the program gets the same object
            except Exception:  # the program will see that it cannot be read, when it asks for it
                parsed = None
            self._parsed(parsed)
        else:
            self._parsed(answer)

    @never_raises(None)
    def _parsed(self, answer: Any) -> None:
        if _is_stream(answer):
            self._streams = True
            _watch_stream(answer, self)
        else:
            self.end(answer)

    @never_raises(None)
    def end(self, answer: Any = None) -> None:
        """End with an answer. The first call counts."""
        if self.observation.is_recording() and answer is not None:
            try:
                self.observation.update(**self._endpoint.fields_of(answer))
            except Exception as error:
                report_internal_error("reading OpenAI's answer", error)
        self.observation.end()

    @never_raises(None)
    def fail(self, error: BaseException) -> None:
        """End with what was raised."""
        self._update_from_parts()
        self.observation.fail(error)
        self.observation.end()

    # --- Streams ------------------------------------------------------------------------------------------------------

    @never_raises(None)
    def add(self, chunk: Any) -> None:
        """Take a chunk of a stream."""
        if not self.observation.is_recording() or self._endpoint.parts is None:
            return
        if self._parts is None:
            self._parts = self._endpoint.parts()
        if self._parts.add(chunk) and not self._speaks:
            self._speaks = True
            self.observation.update(completion_start_time=dt.datetime.now(dt.UTC))

    @never_raises(None)
    def end_stream(self, *, early: bool) -> None:
        """End with what has come of a stream, which the program may not have read to its end. The first call counts."""
        if self.observation.is_recording():
            self._update_from_parts()
            if early and self._streams:
                self.observation.update(metadata={"closed_early": True})
            self.observation.end()

    def _update_from_parts(self) -> None:
        if self._parts is not None and self.observation.is_recording():
            self.observation.update(**self._parts.fields())

    def __del__(self) -> None:
        self.end_stream(early=True)


def _begin(path: str, given: dict[str, Any]) -> _Call | None:
    """Begin the observation of a request, and take what is ours out of its metadata. None where none is wanted."""
    endpoint = ENDPOINTS.get(path)
    body = given.get("body")
    if endpoint is None or not isinstance(body, Mapping):
        return None
    ours = _arguments.get() or {}
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    if any(str(key).startswith(_PREFIX) for key in metadata):
        given["body"] = body = _without_ours(body, metadata)
    try:
        if any(asks() for asks in _asking):
            return None
        return _observed(endpoint, body, given, ours, metadata)
    except Exception as error:
        report_internal_error("observing a call of OpenAI", error)
        return None


def _observed(
    endpoint: Endpoint,
    body: Mapping[str, Any],
    given: Mapping[str, Any],
    ours: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> _Call:
    headers = (given.get("options") or {}).get("headers") or {}
    raw = next((str(value) for name, value in headers.items() if str(name).lower() == _RAW.lower()), "")
    key = ours.get("lodestream_public_key")
    client = current_client() if key is None else current_client(public_key=key)
    context = current_context()
    propagated: dict[str, Any] = {
        name: metadata.get(f"{_PREFIX}{name}") for name in ("user_id", "session_id", "trace_name", "tags")
    }
    if any(propagated.values()):
        context = propagate_attributes(**propagated)._within(context)
    shown = {name: value for name, value in metadata.items() if not str(name).startswith(_PREFIX)}
    fields = endpoint.request_fields(body)
    if given.get("files"):
        fields["metadata"] = {"files": len(given["files"])}
    own = ours.get("lodestream_metadata")
    fields["metadata"] = {**fields.get("metadata", {}), **shown, **(own if isinstance(own, Mapping) else {})} or None
    where = (ours.get("lodestream_trace_id"), ours.get("lodestream_parent_observation_id"))
    observation = client._recorder.observe(
        ours.get("name") or f"{endpoint.operation} {body.get('model') or ''}".rstrip(),
        endpoint.as_type,
        {**fields, "prompt": ours.get("lodestream_prompt")},
        where=cast("Where", where) if where[0] is not None else None,
        context=context,
    )
    return _Call(observation, endpoint, raw)


def _without_ours(body: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in metadata.items() if not str(name).startswith(_PREFIX)}
    rest = {name: value for name, value in body.items() if name != "metadata"}
    return {**rest, "metadata": kept} if kept else rest


# --- Clients ----------------------------------------------------------------------------------------------------------


def observed_post(post: Callable[..., Any]) -> Callable[..., Any]:
    """Return a client's `post` with its requests observed."""

    @functools.wraps(post)
    def wrapper(path: str, **given: Any) -> Any:
        call = _begin(path, given)
        if call is None:
            return post(path, **given)
        entered = enter(trace.set_span_in_context(call.observation))
        try:
            answer = post(path, **given)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            leave(entered)
        call.answered(answer)
        return answer

    return wrapper


def observed_async_post(post: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return an asynchronous client's `post` with its requests observed."""

    @functools.wraps(post)
    async def wrapper(path: str, **given: Any) -> Any:
        call = _begin(path, given)
        if call is None:
            return await post(path, **given)
        entered = enter(trace.set_span_in_context(call.observation))
        try:
            answer = await post(path, **given)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            leave(entered)
        call.answered(answer)
        return answer

    return wrapper


def accept_arguments(resource: Any, *methods: str) -> None:
    """Have methods of a resource of a client take our keyword arguments beside the API's.

    Args:
        resource: For example `client.chat.completions`; its methods are replaced on the object, its type stays.
        *methods: Their names. Those that there are not in this version of the library are passed over.
    """
    for name in methods:
        method = getattr(resource, name, None)
        if method is None:
            continue
        setattr(resource, name, _accepting_later(method) if name == "stream" else _accepting(method))


def _accepting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        ours = _taken(kwargs)
        token = _arguments.set(ours)
        try:
            answer = method(*args, **kwargs)
        finally:
            _arguments.reset(token)
        return _awaited(answer, ours) if ours and inspect.iscoroutine(answer) else answer

    return wrapper


async def _awaited(answer: Awaitable[Any], ours: Mapping[str, Any]) -> Any:
    token = _arguments.set(ours)
    try:
        return await answer
    finally:
        _arguments.reset(token)


def _accepting_later(method: Any) -> Callable[..., Any]:
    """For `stream`, which gives a manager that calls `create` when it is entered."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        ours = _taken(kwargs)
        if not ours:
            return method(*args, **kwargs)
        resource = copy.copy(method.__self__)
        resource.create = functools.partial(resource.create, **ours)
        return method.__func__(resource, *args, **kwargs)

    return wrapper


def _taken(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take what is ours out of keyword arguments."""
    return {name: kwargs.pop(name) for name in OURS & kwargs.keys()}


# --- Streams and responses that are read later ------------------------------------------------------------------------


def _is_stream(answer: Any) -> bool:
    return hasattr(answer, "_iterator") and hasattr(answer, "response")


def _watch_stream(stream: Any, call: _Call) -> None:
    """Have a stream's chunks pass by the call; it ends with the stream, or when the response is closed."""
    asynchronous = hasattr(stream._iterator, "__anext__")
    stream._iterator = (_asteps if asynchronous else _steps)(stream._iterator, call)
    _watch_closing(stream.response, call, "aclose" if asynchronous else "close")


def _steps(chunks: Iterator[Any], call: _Call) -> Generator[Any, None, None]:
    try:
        while True:
            call.stepping = True
            try:
                chunk = next(chunks)
            except StopIteration:
                break
            finally:
                call.stepping = False
            call.add(chunk)
            yield chunk
    except GeneratorExit:
        call.end_stream(early=True)
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        if (close := getattr(chunks, "close", None)) is not None:
            close()
    call.end_stream(early=False)


async def _asteps(chunks: AsyncIterator[Any], call: _Call) -> AsyncGenerator[Any, None]:
    try:
        while True:
            call.stepping = True
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            finally:
                call.stepping = False
            call.add(chunk)
            yield chunk
    except GeneratorExit:
        call.end_stream(early=True)
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()
    call.end_stream(early=False)


def _watch_closing(response: Any, call: _Call, name: str) -> None:
    """End a call when its HTTP response is closed, unless the stream closes it itself at its end."""
    known, method, of_call = weakref.ref(response), getattr(type(response), name), weakref.ref(call)

    def ended() -> None:
        ending = of_call()
        if ending is not None and not ending.stepping:
            ending.end_stream(early=True)

    def close() -> None:
        if (itself := known()) is not None:
            method(itself)
        ended()

    async def aclose() -> None:
        if (itself := known()) is not None:
            await method(itself)
        ended()

    setattr(response, name, aclose if name == "aclose" else close)


def _watch_parsing(answer: Any, call: _Call) -> None:
    """For `with_streaming_response`: the answer is known once the program has it parsed."""
    known, method = weakref.ref(answer), type(answer).parse
    asynchronous = inspect.iscoroutinefunction(method)
    _watch_closing(answer.http_response, call, "aclose" if asynchronous else "close")

    def parse(**kwargs: Any) -> Any:
        call.stepping = True
        try:
            parsed = method(known(), **kwargs)
        finally:
            call.stepping = False
        call._parsed(parsed)
        return parsed

    async def aparse(**kwargs: Any) -> Any:
        call.stepping = True
        try:
            parsed = await method(known(), **kwargs)
        finally:
            call.stepping = False
        call._parsed(parsed)
        return parsed

    answer.parse = aparse if asynchronous else parse
