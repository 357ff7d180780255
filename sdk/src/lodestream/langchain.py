"""LangChain and LangGraph: what chains, agents, models, tools and retrievers do becomes observations.

from lodestream.langchain import CallbackHandler

chain.invoke({"question": "How long?"}, config={"callbacks": [CallbackHandler()]})

Needs langchain-core 1 or newer: `pip install lodestream[langchain]`.
"""

import contextlib
import datetime as dt
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from uuid import UUID

try:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables.config import var_child_runnable_config
    from langchain_core.tracers.context import register_configure_hook
except ImportError as error:
    raise ImportError("lodestream.langchain needs langchain-core: pip install 'lodestream[langchain]'") from error
from opentelemetry import trace
from opentelemetry.context import Context, get_current

from lodestream._diagnostics import never_raises, report_internal_error, warn_once
from lodestream._integrations.langchain_values import (
    document_value,
    model_name,
    model_parameters,
    plain,
    result_fields,
)
from lodestream._integrations.media import without_media
from lodestream._integrations.openai_calls import leave_to
from lodestream._recording.clients import client_for, current_client
from lodestream._recording.context import current_context, follow_framework
from lodestream._recording.propagation import propagate_attributes
from lodestream._recording.recorder import Recorder
from lodestream._recording.span import Observation

__all__ = ["CallbackHandler"]

MAX_RUNS = 10_000
"""Runs that a handler keeps track of at once: of those beyond, the oldest are ended as they are."""
_PREFIX = "lodestream_"
_USER, _SESSION = ("lodestream_user_id", "user_id"), ("lodestream_session_id", "session_id", "thread_id")
_TAGS, _TRACE_NAME, _PROMPT = "lodestream_tags", "lodestream_trace_name", "lodestream_prompt"
_INTERNAL_TAGS = ("seq:step:", "map:key:", "branch:", "condition:", "graph:step:", "langsmith:")
_HIDDEN = "langsmith:hidden"


class _Run:
    """A run that has not ended."""

    __slots__ = ("__weakref__", "metadata", "observation", "parent", "prompt", "propagation", "speaks")

    def __init__(
        self, observation: Observation, parent: "_Run | None", metadata: Mapping[str, Any], propagation: Any
    ) -> None:
        self.observation, self.parent = observation, parent
        self.metadata = metadata
        """As it was given, with what runs below inherit from runs above."""
        self.propagation = propagation
        """What observations below it get, of this run and those above, each a `propagate_attributes`."""
        self.prompt: Any = None
        """The prompt of a template in it, for the generation that comes next."""
        self.speaks = False
        """Whether a token has come."""


class CallbackHandler(BaseCallbackHandler):  # type: ignore[misc]
    """Records what LangChain and LangGraph run; for synchronous and asynchronous calls, streams and batches alike.

    One handler serves any number of calls, threads and tasks. Runs become observations below the run that they are part
    of, root runs below what is current; observations that tools, nodes and functions make become children of their run.
    Nothing raises into the program.

    `config["metadata"]` of a call may name `lodestream_session_id`, `lodestream_user_id`, `lodestream_tags` (a list),
    `lodestream_trace_name`, and `lodestream_prompt` (a prompt, for the generations of the call). Without those,
    `session_id`, else `thread_id` is the session, `user_id` the user. The tags of a root run are tags of the trace.

    Example:
        ::

            from lodestream.langchain import CallbackHandler

            agent = create_agent(model, tools)
            agent.invoke(
                {"messages": [("user", "Where is order 7?")]},
                config={"callbacks": [CallbackHandler()], "metadata": {"lodestream_user_id": "ada"}},
            )
    """

    run_inline = True
    """Events come in their order, in the task whose events they are: what is current there is known."""

    def __init__(self, *, public_key: str | None = None) -> None:
        """Make a handler.

        Args:
            public_key: The key of a client's project, for programs with several. Default: the client of the context of
                a root run, else the process's only one.
        """
        self._public_key = public_key
        self._runs: dict[UUID, _Run] = {}

    # --- Chains and graphs --------------------------------------------------------------------------------------------

    @never_raises(None)
    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        parent = self._runs.get(parent_run_id) if parent_run_id is not None else None
        name, metadata = _name_of(serialized, kwargs, "chain"), metadata or {}
        kind = "agent" if _begins_agent(name, metadata, parent.metadata if parent is not None else {}) else "chain"
        run = self._start(run_id, parent_run_id, name, kind, tags, metadata, {"input": plain(inputs)})
        prompt = metadata.get(_PROMPT)
        if prompt is not None and parent is not None and prompt is not parent.metadata.get(_PROMPT):
            parent.prompt = prompt  # of a template: the model that it is for is its sibling
        elif prompt is not None:
            run.prompt = prompt

    @never_raises(None)
    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **_: Any) -> None:
        # Of a stream the input is known only now: at the start it was empty.
        self._end(run_id, lambda: {"output": plain(outputs), "input": plain(inputs)})

    @never_raises(None)
    def on_chain_error(self, error: BaseException, *, run_id: UUID, inputs: Any = None, **_: Any) -> None:
        self._fail(run_id, error, lambda: {"input": plain(inputs)})

    # --- Models -------------------------------------------------------------------------------------------------------

    @never_raises(None)
    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        asked = [plain(message) for batch in messages for message in batch]
        self._start_model(serialized, asked, run_id, parent_run_id, tags, metadata or {}, kwargs)

    @never_raises(None)
    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        asked = prompts[0] if len(prompts) == 1 else list(prompts)
        self._start_model(serialized, asked, run_id, parent_run_id, tags, metadata or {}, kwargs)

    def _start_model(  # noqa: PLR0917
        self,
        serialized: dict[str, Any] | None,
        asked: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: list[str] | None,
        metadata: dict[str, Any],
        given: dict[str, Any],
    ) -> None:
        parameters = given.get("invocation_params") or {}
        tools = parameters.get("tools") or parameters.get("functions")
        fields = {
            "input": {"messages": asked, "tools": without_media(tools)} if tools else asked,
            "model": model_name(metadata, parameters),
            "model_parameters": model_parameters(parameters) or None,
            "prompt": self._prompt_for(parent_run_id, metadata),
        }
        name = _name_of(serialized, given, "model")
        _asked.set(weakref.ref(self._start(run_id, parent_run_id, name, "generation", tags, metadata, fields)))

    @never_raises(None)
    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        run = self._runs.get(run_id)
        if run is not None and not run.speaks:
            run.speaks = True
            run.observation.update(completion_start_time=dt.datetime.now(dt.UTC))

    @never_raises(None)
    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        if isinstance(event, Mapping) and str(event.get("event", "")).startswith("content"):
            self.on_llm_new_token("", run_id=run_id)

    @never_raises(None)
    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, lambda: result_fields(response))

    @never_raises(None)
    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: Any = None, **_: Any) -> None:
        self._fail(run_id, error, lambda: result_fields(response) if response is not None else {})

    # --- Tools and retrievers -----------------------------------------------------------------------------------------

    @never_raises(None)
    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        given = {"input": plain(input_str if inputs is None else inputs)}
        self._start(
            run_id, parent_run_id, _name_of(serialized, kwargs, "tool"), "tool", tags, metadata or {}, given
        )  # fmt: skip

    @never_raises(None)
    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, lambda: {"output": plain(output), **_failure(output)})

    @never_raises(None)
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._fail(run_id, error)

    @never_raises(None)
    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        name = _name_of(serialized, kwargs, "retriever")
        self._start(run_id, parent_run_id, name, "retriever", tags, metadata or {}, {"input": query})

    @never_raises(None)
    def on_retriever_end(self, documents: Sequence[Any], *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, lambda: {"output": [document_value(document) for document in documents]})

    @never_raises(None)
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._fail(run_id, error)

    # --- What happens in between --------------------------------------------------------------------------------------

    @never_raises(None)
    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        outcome = getattr(retry_state, "outcome", None)
        error = outcome.exception() if outcome is not None and outcome.failed else None
        attributes = {"attempt": getattr(retry_state, "attempt_number", 0)}
        run.observation.add_event("retry", attributes)
        if error is not None:
            run.observation.record_exception(error)

    @never_raises(None)
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            event = run.observation.start_observation(name=name, as_type="event", input=plain(data))
            event.end()

    # --- Runs ---------------------------------------------------------------------------------------------------------

    def _start(  # noqa: PLR0917
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str,
        as_type: str,
        tags: list[str] | None,
        metadata: Mapping[str, Any],
        fields: Mapping[str, Any],
    ) -> _Run:
        parent = self._runs.get(parent_run_id) if parent_run_id is not None else None
        context, recorder = self._place_of(parent, parent_run_id)
        propagation = () if parent is None else parent.propagation
        if (added := _propagation_of(metadata, tags, parent)) is not None:
            propagation = (*propagation, added)
            context = added._within(context)
        inherited = {} if parent is None else parent.metadata
        own = {
            key: value
            for key, value in metadata.items()
            if not key.startswith(_PREFIX) and (key not in inherited or inherited[key] != value)
        }
        if tags:
            own["tags"] = tags
        hidden = {"level": "DEBUG"} if tags and _HIDDEN in tags else {}
        observation = recorder.observe(name, as_type, {**fields, **hidden, "metadata": own or None}, context=context)
        observation._run_id = run_id
        run = _Run(observation, parent, metadata, propagation)
        self._runs[run_id] = run
        if len(self._runs) > MAX_RUNS:
            self._end_oldest()
        return run

    def _end_oldest(self) -> None:
        """Give up the run that began first: a task that was cancelled never says that its runs ended."""
        with contextlib.suppress(RuntimeError, StopIteration):  # other threads begin and end runs meanwhile
            oldest = self._runs.pop(next(iter(self._runs)), None)
            if oldest is not None:
                why = f"more than {MAX_RUNS} LangChain runs are under way: the oldest are taken to have ended"
                warn_once("runs", why)
                oldest.observation.update(level="WARNING", status_message="its end was not reported").end()

    def _place_of(self, parent: _Run | None, parent_run_id: UUID | None) -> tuple[Context, Recorder]:
        """The context in which a run's observation begins, and who records it.

        What the program began in the parent run, and is current, is nearer than the parent run.
        """
        if parent is None:
            context = current_context()
            key = self._public_key
            client = client_for(context) if key is None else current_client(public_key=key)
            return context, client._recorder
        context = get_current()
        if getattr(trace.get_current_span(context), "_run_id", None) != parent_run_id:
            context = _context_of(parent, context)
        return context, parent.observation._recorder  # type: ignore[return-value]

    def _prompt_for(self, parent_run_id: UUID | None, metadata: Mapping[str, Any]) -> Any:
        """The prompt of a generation: of its own metadata, else of the template that ran last in a run around it."""
        if (prompt := metadata.get(_PROMPT)) is not None:
            return prompt
        run = self._runs.get(parent_run_id) if parent_run_id is not None else None
        while run is not None:
            if (prompt := run.prompt) is not None:
                run.prompt = None
                return prompt
            run = run.parent
        return None

    def _end(self, run_id: UUID, fields: Callable[[], dict[str, Any]]) -> None:
        """End a run, whether or not what is known of it can be read."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        try:
            run.observation.update(**fields())
        except Exception as error:
            report_internal_error("reading what LangChain gave", error)
        finally:
            run.observation.end()

    def _fail(self, run_id: UUID, error: BaseException, fields: Callable[[], dict[str, Any]] = dict[str, Any]) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        if any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__):  # how LangGraph hands control up
            run.observation.update(status_message=type(error).__name__, output=plain(_interrupts(error)))
        else:
            run.observation.fail(error)
        self._end(run_id, fields)


def _context_of(run: _Run, context: Context) -> Context:
    """The context in which what a run does begins."""
    context = trace.set_span_in_context(run.observation, context)
    for added in run.propagation:
        context = added._within(context)
    return context


def _within_run(context: Context) -> Context:
    """The context with the run current that LangChain says the code is part of, unless something in it is current."""
    config = var_child_runnable_config.get()
    callbacks: Any = config.get("callbacks") if config else None
    run_id = getattr(callbacks, "parent_run_id", None)
    if run_id is None or getattr(trace.get_current_span(context), "_run_id", None) == run_id:
        return context
    for handler in callbacks.handlers:
        if isinstance(handler, CallbackHandler):
            run = handler._runs.get(run_id)
            return context if run is None else _context_of(run, context)
    return context


def _name_of(serialized: Mapping[str, Any] | None, given: Mapping[str, Any], otherwise: str) -> str:
    if name := given.get("name"):
        return str(name)
    if serialized:
        if name := serialized.get("name"):
            return str(name)
        if path := serialized.get("id"):
            return str(path[-1])
    return otherwise


def _begins_agent(name: str, metadata: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether a run is an agent as a whole, and not a step of one: their metadata is inherited by all steps."""
    agent = metadata.get("lc_agent_name")
    if agent is not None:
        return bool(agent != above.get("lc_agent_name") and name == agent)
    of_agent = metadata.get("ls_integration") == "langchain_create_agent"
    return of_agent and above.get("ls_integration") != "langchain_create_agent"


def _propagation_of(
    metadata: Mapping[str, Any], tags: Sequence[str] | None, parent: _Run | None
) -> propagate_attributes | None:
    """The user, session, tags and name that a run's metadata adds to those of the run that it is part of."""
    above = {} if parent is None else parent.metadata

    def added(*names: str) -> Any:
        name = next((name for name in names if metadata.get(name)), None)
        return metadata[name] if name is not None and metadata[name] != above.get(name) else None

    trace_tags = added(_TAGS)
    trace_tags = [trace_tags] if isinstance(trace_tags, str) else list(trace_tags or ())
    if parent is None:
        trace_tags += [tag for tag in tags or () if not tag.startswith(_INTERNAL_TAGS)]
    given = {"user_id": added(*_USER), "session_id": added(*_SESSION), "trace_name": added(_TRACE_NAME)}
    given = {name: str(value) for name, value in given.items() if value is not None}
    return propagate_attributes(**given, tags=trace_tags or None) if given or trace_tags else None


def _failure(output: Any) -> dict[str, Any]:
    """What a tool's message says of a failure: an agent's tools may hand their errors to the model."""
    failed = getattr(output, "status", None) == "error" and hasattr(output, "content")
    return {"level": "ERROR", "status_message": str(output.content)} if failed else {}


def _interrupts(error: BaseException) -> Any:
    """What an interrupt asks for: the values that were given to LangGraph's `interrupt`."""
    values = [
        each.value
        for argument in error.args
        if isinstance(argument, list | tuple)
        for each in argument
        if hasattr(each, "value")
    ]
    return values or None


class _Everywhere(CallbackHandler):
    """The handler that every call has while `lodestream.instrument("langchain")` holds."""

    _wanted = False

    def _ignored(self) -> bool:
        return not self._wanted

    ignore_agent = ignore_chain = ignore_chat_model = ignore_custom_event = property(_ignored)
    ignore_llm = ignore_retriever = ignore_retry = property(_ignored)


def observe_everywhere(wanted: bool) -> None:
    """Give every call of the process a handler, unless it has one of ours, or no longer."""
    if wanted and not _everywhere:
        handler = _Everywhere()
        _everywhere.append(handler)
        variable: ContextVar[Any] = ContextVar("lodestream-langchain-handler", default=handler)
        register_configure_hook(variable, inheritable=True, handle_class=CallbackHandler)
    for handler in _everywhere:
        handler._wanted = wanted


def _asks_a_model() -> bool:
    """Whether the code is the call of a model that LangChain makes: its run is open, and nothing has come of it yet."""
    asked = _asked.get()
    run = asked() if asked is not None else None
    return run is not None and run.observation.is_recording() and not run.speaks


_everywhere: list[_Everywhere] = []
_asked: ContextVar["weakref.ref[_Run] | None"] = ContextVar("lodestream-langchain-asked", default=None)
"""The model run that began last in this context, which may have ended since."""
follow_framework(_within_run)
leave_to(_asks_a_model)
