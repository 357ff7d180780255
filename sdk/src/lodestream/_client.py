"""The client: everything a program says to Lodestream. Recording never raises and never waits; only `flush` does."""

import datetime as dt
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast, overload

from lodestream_evals.prompt import ChatPrompt, Prompt, TextPrompt
from opentelemetry import trace

from lodestream._arguments import require_list, texts_of
from lodestream._datasets.errors import DatasetRefusedError, DatasetUnavailableError
from lodestream._delivery.channel import RpcChannel
from lodestream._delivery.fork_guard import renew_after_fork
from lodestream._delivery.pipeline import Pipeline
from lodestream._delivery.transport import check_connection
from lodestream._diagnostics import log_to_stderr, never_raises, report_internal_error, warn_once
from lodestream._ids import new_trace_id, seeded_trace_id
from lodestream._lifecycle import EXIT_SECONDS
from lodestream._opentelemetry.tracer import TracerProvider, take_part
from lodestream._prompts.errors import PromptError, PromptNotFoundError, PromptUnavailableError
from lodestream._prompts.prompt import Messages, PromptType, fallback_of
from lodestream._receipts import ConnectionCheck, FlushReceipt
from lodestream._recording.attributes import ObservationFields, ObservationType, attributes_of
from lodestream._recording.clients import CurrentClient, current_client, make_clients_with, register, unregister
from lodestream._recording.context import current_context
from lodestream._recording.recorder import Recorder, Where
from lodestream._recording.span import CurrentObservation, Observation
from lodestream._scores import ScoreFields, Target
from lodestream._settings import (
    Fsync,
    Mask,
    ShouldExport,
    has_keys,
    prompts_dir,
    resolve,
    resource_attributes,
    spool_root,
)
from lodestream._wire.otlp import resource_of

if TYPE_CHECKING:
    from lodestream._datasets.dataset import Dataset, DatasetItem, ItemStatus, RecordedItems
    from lodestream._prompts.cache import PromptCache
    from lodestream._results import ExperimentOptions, ExperimentResult

_NO_PROMPT_SERVER = "there is no server to ask for prompts: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY"
_NO_SERVER = "there is no server to ask: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY"


class TraceContext(TypedDict, total=False):
    """Where an observation belongs, when that is known from elsewhere."""

    trace_id: str
    """32 hex digits."""
    parent_span_id: str | None
    """16 hex digits; without it the observation is the trace's root."""


class Lodestream:
    """A client of one Lodestream project: records observations and scores, and asks the server for what it knows.

    Recording (observations, scores) never raises and never waits: what is recorded goes to a spool on disk, and from
    there to the server in the background. What asks the server (prompts to be changed, datasets, experiments) waits for
    its answer and raises.

    Most programs need no client of their own: `observe` and `get_client()` make one from the environment.

    Attributes:
        settings: All settings as they hold, with their environment variables and defaults.
        tracer_provider: A tracer provider of OpenTelemetry's API whose spans go where observations go, for
            instrumentations that are to be given one. The process's own is ours unless another is installed.

    Example:
        Record a generation, and wait until it is delivered before a short program ends::

            from lodestream import Lodestream

            client = Lodestream(endpoint="https://traces.example.com", public_key="pk-…", secret_key="sk-…")
            with client.start_as_current_observation(name="answer", as_type="generation", model="gpt-5") as generation:
                generation.update(output=call_model(), usage_details={"input": 812, "output": 64})
            client.shutdown()
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        public_key: str | None = None,
        secret_key: str | None = None,
        environment: str | None = None,
        release: str | None = None,
        sample_rate: float | None = None,
        tracing_enabled: bool | None = None,
        capture_io: bool | None = None,
        mask: Mask | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_max_bytes: int | None = None,
        memory_max_bytes: int | None = None,
        flush_interval: float | None = None,
        fsync: Fsync | None = None,
        emit_starts: bool | None = None,
        debug: bool | None = None,
        service_name: str | None = None,
        resource_attributes: Mapping[str, str] | None = None,
        global_tracing: bool | None = None,
        should_export_span: ShouldExport | None = None,
    ) -> None:
        """Make a client. An argument wins over its environment variable, which wins over the default.

        A value that makes no sense is logged, and the next of the three is used. Nothing is raised, and nothing is
        started or connected before the first observation ends.

        Args:
            endpoint: The gateway: `host:port`, with `https://` in front for TLS or `http://` for plaintext. Default:
                LODESTREAM_ENDPOINT, else 127.0.0.1:4317.
            public_key: The project's public key. Default: LODESTREAM_PUBLIC_KEY.
            secret_key: The project's secret key. Default: LODESTREAM_SECRET_KEY. With neither key nor endpoint,
                tracing is off until they are in the environment.
            environment: For example "production". Default: LODESTREAM_ENVIRONMENT, else the server's default.
            release: The version of the application. Default: LODESTREAM_RELEASE.
            sample_rate: The share of traces that are kept, 0 to 1, decided by the trace id. Default:
                LODESTREAM_SAMPLE_RATE, else OTEL_TRACES_SAMPLER, else 1.
            tracing_enabled: False records nothing. Default: LODESTREAM_TRACING_ENABLED, else true.
            capture_io: Whether `observe` keeps arguments and results. Default:
                LODESTREAM_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED, else true.
            mask: Called as `mask(data=…)`, and `field=…` if it takes that, with a copy of what is about to be sent;
                returns what may be kept. Default: nothing is masked.
            spool_dir: The folder of the spool. Default: LODESTREAM_SPOOL_DIR, else lodestream/spool in XDG_STATE_HOME
                or ~/.local/state.
            spool_max_bytes: Bytes on disk that a process keeps at most; beyond, the oldest are dropped and that is
                logged. Default: LODESTREAM_SPOOL_MAX_BYTES, else 256 MiB.
            memory_max_bytes: Bytes that are kept in memory at most. Default: LODESTREAM_MEMORY_MAX_BYTES, else 16 MiB.
            flush_interval: Seconds that spans are gathered for before they are sent. Default:
                LODESTREAM_FLUSH_INTERVAL, else 0.5.
            fsync: "interval" (twice a second), "always" or "never". Default: LODESTREAM_FSYNC, else "interval".
            emit_starts: Send also that an observation began, so that running ones can be seen. Default:
                LODESTREAM_EMIT_STARTS, else false.
            debug: Log what is done. Default: LODESTREAM_DEBUG, else false.
            service_name: OpenTelemetry's `service.name`. Default: OTEL_SERVICE_NAME.
            resource_attributes: Further attributes of the resource. Default: OTEL_RESOURCE_ATTRIBUTES.
            global_tracing: Whether to be the process's tracer provider where there is none, and to take spans of
                another one where there is. Default: LODESTREAM_GLOBAL_TRACING, else true.
            should_export_span: Called with each `ReadableSpan` of another tracer provider; returns whether it is sent.
                Default: `is_llm_span`.
        """
        given = {
            "endpoint": endpoint,
            "public_key": public_key,
            "secret_key": secret_key,
            "environment": environment,
            "release": release,
            "sample_rate": sample_rate,
            "tracing_enabled": tracing_enabled,
            "capture_io": capture_io,
            "mask": mask,
            "spool_dir": spool_dir,
            "spool_max_bytes": spool_max_bytes,
            "memory_max_bytes": memory_max_bytes,
            "flush_interval": flush_interval,
            "fsync": fsync,
            "emit_starts": emit_starts,
            "debug": debug,
            "service_name": service_name,
            "resource_attributes": resource_attributes,
            "global_tracing": global_tracing,
            "should_export_span": should_export_span,
        }
        self._given = given
        self.settings = resolve(given, os.environ)
        if self.settings.debug:
            log_to_stderr()
        self._pipeline, self._channel = self._new_pipeline(), RpcChannel(self.settings)
        self._recorder = Recorder(self.settings, self._pipeline, self)
        self.tracer_provider = TracerProvider(self)
        self._prompt_cache: PromptCache | None = None
        self._making = threading.RLock()
        renew_after_fork(self)
        self._take_part()

    # --- Observations -------------------------------------------------------------------------------------------------

    def start_observation(
        self,
        *,
        name: str | None = None,
        as_type: ObservationType = "span",
        trace_context: TraceContext | None = None,
        **fields: Unpack[ObservationFields],
    ) -> Observation:
        """Begin an observation that does not become the current one. It is yours to end.

        Args:
            name: Its name. Default: its type.
            as_type: "span", "generation", "embedding", "agent", "tool", "chain", "retriever", "evaluator", "guardrail"
                or "event".
            trace_context: The trace, and the parent in it, that it belongs to. Default: what is current.
            **fields: What is known already: input, output, metadata, model, usage_details, … See `Observation.update`.

        Returns:
            The observation, a child of what is current. Where tracing is off it keeps nothing. Never raises.
        """
        return self._recorder.observe(name, as_type, fields, where=_where(trace_context))

    def start_as_current_observation(
        self,
        *,
        name: str | None = None,
        as_type: ObservationType = "span",
        trace_context: TraceContext | None = None,
        end_on_exit: bool = True,
        **fields: Unpack[ObservationFields],
    ) -> CurrentObservation:
        """Begin an observation for `with`: current within the block, and ended with it.

        An exception that leaves the block is recorded, and raised on.

        Args:
            name: Its name. Default: its type.
            as_type: As for `start_observation`.
            trace_context: The trace, and the parent in it, that it belongs to. Default: what is current.
            end_on_exit: False leaves it to you to end it.
            **fields: What is known already. See `Observation.update`.

        Returns:
            A context manager that gives the observation. Never raises.
        """
        return self._recorder.observe_as_current(
            name, as_type, fields, end_on_exit=end_on_exit, where=_where(trace_context)
        )

    def create_event(
        self,
        *,
        name: str | None = None,
        trace_context: TraceContext | None = None,
        **fields: Unpack[ObservationFields],
    ) -> Observation:
        """Record something that happened at one moment.

        Args:
            name: Its name. Default: "event".
            trace_context: The trace, and the parent in it, that it belongs to. Default: what is current.
            **fields: What is known of it. See `Observation.update`.

        Returns:
            The observation, which has ended. Never raises.
        """
        event = self._recorder.observe(name, "event", fields, where=_where(trace_context))
        event._end_at_start()
        return event

    @never_raises(None)
    def update_current_span(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
        """Add to the current observation, also when it is a span of another instrumentation. Never raises.

        Args:
            name: A new name.
            **fields: What is known of it now. See `Observation.update`.
        """
        current = trace.get_current_span(current_context())
        if isinstance(current, Observation):
            current.update(name=name, **fields)
        elif current.is_recording():
            if name is not None:
                current.update_name(name)
            current.set_attributes(attributes_of(fields, self._recorder.shown))

    def update_current_generation(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
        """Add to the current observation, like `update_current_span`, where a model was called. Never raises.

        Args:
            name: A new name.
            **fields: What is known of it now: output, model, usage_details, cost_details, … See `Observation.update`.
        """
        self.update_current_span(name=name, **fields)

    def as_current(self) -> "CurrentClient[Lodestream]":
        """Make this client the one that calls are for, within a block. For programs with several projects.

        Within it, `get_client`, `observe` and the spans of instrumentation libraries are for this client. An
        observation that becomes current in the block makes its own client the one that is meant.

        Returns:
            A context manager that gives the client.
        """
        return CurrentClient(self)

    # --- Scores -------------------------------------------------------------------------------------------------------

    def create_score(
        self,
        *,
        name: str,
        value: float | str | bool,
        trace_id: str | None = None,
        observation_id: str | None = None,
        session_id: str | None = None,
        dataset_run_id: str | None = None,
        **fields: Unpack[ScoreFields],
    ) -> str | None:
        """Score a trace, an observation in it, a session or an experiment run, now or long after.

        Scores take the way of observations: spooled, and delivered in the background. Never raises.

        Args:
            name: What is scored, for example "helpfulness".
            value: A number, true or false, or a text, which is a category unless `data_type="TEXT"`.
            trace_id: 32 hex digits. Exactly one of `trace_id`, `session_id` and `dataset_run_id` is given.
            observation_id: 16 hex digits, of an observation in the trace.
            session_id: A session.
            dataset_run_id: An experiment run.
            **fields: score_id (the same id again supersedes), data_type, comment, config_id, metadata, timestamp,
                environment, source, author, evaluator_version.

        Returns:
            The score's id. None: it was not taken, because it makes no sense (which is logged), its trace is not kept,
            or tracing is off.
        """
        target = Target(
            trace_id=trace_id or "",
            observation_id=observation_id or "",
            session_id=session_id or "",
            run_id=dataset_run_id or "",
        )
        return self._recorder.score(target, name, value, fields)

    def score_current_span(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Score the current observation. Never raises.

        Args:
            name: What is scored.
            value: As for `create_score`.
            **fields: As for `create_score`.

        Returns:
            The score's id; None when it was not taken, as when nothing is current.
        """
        target = _current_target(name)
        return self._recorder.score(target, name, value, fields) if target else None

    def score_current_trace(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Score the trace of the current observation. Never raises.

        Args:
            name: What is scored.
            value: As for `create_score`.
            **fields: As for `create_score`.

        Returns:
            The score's id; None when it was not taken, as when nothing is current.
        """
        target = _current_target(name)
        return self._recorder.score(Target(trace_id=target.trace_id), name, value, fields) if target else None

    # --- Ids ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def create_trace_id(*, seed: str | None = None) -> str:
        """Make a trace id (W3C Trace Context).

        Args:
            seed: The same seed always gives the same id: the first 16 bytes of its SHA-256. Default: a random id.

        Returns:
            32 hex digits.
        """
        return f"{new_trace_id():032x}" if seed is None else seeded_trace_id(str(seed))

    @staticmethod
    def get_current_trace_id() -> str | None:
        """Return the id of the current trace, 32 hex digits; None outside of any."""
        current = trace.get_current_span(current_context()).get_span_context()
        return f"{current.trace_id:032x}" if current.is_valid else None

    @staticmethod
    def get_current_observation_id() -> str | None:
        """Return the id of the current observation, 16 hex digits; None outside of any trace."""
        current = trace.get_current_span(current_context()).get_span_context()
        return f"{current.span_id:016x}" if current.is_valid else None

    # --- Prompts ------------------------------------------------------------------------------------------------------

    @overload
    def get_prompt(
        self, name: str, *, version: int | None = None, label: str | None = None, type: None = None,
        cache_ttl_seconds: float | None = 60, fallback: str | Messages | None = None, max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> Prompt: ...  # fmt: skip
    @overload
    def get_prompt(
        self, name: str, *, version: int | None = None, label: str | None = None, type: Literal["text"],
        cache_ttl_seconds: float | None = 60, fallback: str | None = None, max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> TextPrompt: ...  # fmt: skip
    @overload
    def get_prompt(
        self, name: str, *, version: int | None = None, label: str | None = None, type: Literal["chat"],
        cache_ttl_seconds: float | None = 60, fallback: Messages | None = None, max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> ChatPrompt: ...  # fmt: skip
    def get_prompt(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        type: PromptType | None = None,  # noqa: A002 - the name that callers know
        cache_ttl_seconds: float | None = 60,
        fallback: str | Messages | None = None,
        max_retries: int | None = 2,
        fetch_timeout_seconds: float | None = 5,
    ) -> Prompt:
        """Look a prompt up, by version or by label.

        The first look-up asks the server; later ones are a look into memory, kept up to date by a stream of changes.
        While that stream is down, a prompt is fetched again in the background after `cache_ttl_seconds`. Without the
        server the last known good on disk is returned, then `fallback`.

        Args:
            name: The prompt's name.
            version: A version, from 1. Default: the one that `label` points to.
            label: A label. Default: "production".
            type: "text" or "chat", where the caller needs that type. Default: either.
            cache_ttl_seconds: Seconds that an answer holds while there is no stream of changes; 0 asks every time.
            fallback: A text, or a list of messages, to use where the prompt can't be had. It is checked on each call.
            max_retries: How often a request that failed is made again.
            fetch_timeout_seconds: Seconds for each request.

        Returns:
            The prompt. `is_fallback` says whether it is the fallback.

        Raises:
            PromptNotFoundError: The project has no such prompt, and there is no fallback.
            PromptTypeError: It is of the other type, and there is no fallback.
            PromptUnavailableError: The server can't be reached, nothing is remembered, and there is no fallback.
            ValueError: Both a version and a label are given, or a message of the fallback makes no sense.
            TypeError: The fallback is no prompt, or not of `type`.

        Example:
            ::

                prompt = client.get_prompt("answer", type="chat", fallback=[{"role": "system", "content": "Be brief."}])
                messages = prompt.compile(question="How long does a refund take?")
                with client.start_as_current_observation(name="llm", as_type="generation", prompt=prompt) as generation:
                    generation.update(output=call_model(messages))
        """
        if version is not None and label is not None:
            raise ValueError("get_prompt takes a version or a label, not both")
        spare = None if fallback is None else fallback_of(name, fallback, type)
        try:
            return self._reachable_prompts().get(
                name,
                version if version is not None else label or "production",
                as_type=type,
                ttl=60 if cache_ttl_seconds is None else cache_ttl_seconds,
                retries=2 if max_retries is None else max_retries,
                timeout=5 if fetch_timeout_seconds is None else fetch_timeout_seconds,
            )
        except PromptError as error:
            if spare is None:
                raise
            if not isinstance(error, PromptNotFoundError):
                warn_once(f"prompt {name}", f"{error}; the fallback is used")
        except Exception as error:
            if spare is None:
                raise
            report_internal_error(f"looking up the prompt {name!r}", error)
        return spare

    def create_prompt(
        self,
        name: str,
        prompt: str | Messages,
        *,
        labels: Sequence[str] = (),
        tags: Sequence[str] = (),
        type: PromptType | None = None,  # noqa: A002 - the name that callers know
        config: Any = None,
        commit_message: str = "",
    ) -> Prompt:
        """Create a new version of a prompt, and wait for the server's decision.

        Args:
            name: The prompt's name. One that does not exist is made.
            prompt: A text, or a list of messages and placeholders; `{{name}}` in it is a variable.
            labels: Labels that point to the new version from now on.
            tags: Tags of the prompt.
            type: "text" or "chat", to check that `prompt` is one. Default: what it is.
            config: Anything that JSON can say, for example model parameters.
            commit_message: Why it was changed.

        Returns:
            The new version.

        Raises:
            TypeError: `labels` or `tags` is not a list of texts.
            ValueError: `prompt` is not of `type`.
            PromptRefusedError: The server refused it; the message names the field.
            PromptUnavailableError: The server can't be reached.
        """
        from lodestream._prompts import changes

        given = "text" if isinstance(prompt, str) else "chat"
        if type not in (None, given):
            raise ValueError(f"prompt: a {type} prompt is {'a text' if type == 'text' else 'a list of messages'}")
        labels, tags = texts_of(labels, "labels"), texts_of(tags, "tags")
        prompts = self._reachable_prompts()
        created = changes.create(
            prompts.channel, name, prompt, labels=labels, tags=tags, config=config, commit_message=commit_message
        )
        prompts.forget(name)
        return created

    def update_prompt(
        self, name: str, version: int, new_labels: Sequence[str], *, expected_revision: int | None = None
    ) -> Prompt:
        """Let labels point to a version, and wait for the server's decision.

        Args:
            name: The prompt's name.
            version: The version that the labels shall point to.
            new_labels: The labels.
            expected_revision: Only if this is the prompt's revision still. Default: in any case.

        Returns:
            The version.

        Raises:
            TypeError: `new_labels` is not a list of texts.
            PromptNotFoundError: There is no such version.
            PromptRefusedError: Somebody else was first, or the request makes no sense.
            PromptUnavailableError: The server can't be reached.
        """
        from lodestream._prompts import changes

        labels = texts_of(new_labels, "new_labels")
        prompts = self._reachable_prompts()
        moved = changes.move_labels(prompts.channel, name, version, labels, expected_revision=expected_revision)
        prompts.forget(name)
        return moved

    def roll_back_prompt(self, name: str, label: str = "production") -> Prompt:
        """Let a label point again to the version that it pointed to before.

        Args:
            name: The prompt's name.
            label: The label.

        Returns:
            The version that it points to now.

        Raises:
            PromptNotFoundError: There is no such prompt.
            PromptRefusedError: The label has no earlier version.
            PromptUnavailableError: The server can't be reached.
        """
        from lodestream._prompts import changes

        prompts = self._reachable_prompts()
        back = changes.roll_back(prompts.channel, name, label)
        prompts.forget(name)
        return back

    def clear_prompt_cache(self, name: str | None = None) -> None:
        """Ask the server anew at the next look-up.

        Args:
            name: For this prompt. Default: for all.
        """
        if (prompts := self._prompts) is not None:
            prompts.forget(name)

    # --- Datasets -----------------------------------------------------------------------------------------------------

    def create_dataset(
        self,
        name: str,
        *,
        description: str = "",
        metadata: Any = None,
        input_schema: Mapping[str, Any] | bool | None = None,
        expected_output_schema: Mapping[str, Any] | bool | None = None,
    ) -> "Dataset":
        """Create a dataset, or describe the one of that name anew. One that was archived is back.

        Args:
            name: The dataset's name.
            description: For people.
            metadata: Anything that JSON can say.
            input_schema: A JSON Schema that the inputs of items recorded from now on have to keep to.
            expected_output_schema: The JSON Schema of expected outputs.

        Returns:
            The dataset.

        Raises:
            DatasetRefusedError: Something makes no sense; `field` names it.
            DatasetUnavailableError: The server can't be reached.
        """
        from lodestream._datasets import requests

        channel = self._reachable_channel()
        created = requests.create(
            channel, name, description=description, metadata=metadata, input_schema=input_schema,
            expected_output_schema=expected_output_schema,
        )  # fmt: skip
        return requests.open_dataset(channel, created.dataset, runner=self)

    def get_dataset(
        self,
        name: str,
        *,
        version: int | dt.datetime | None = None,
        as_of: dt.datetime | None = None,
        splits: Sequence[str] = (),
    ) -> "Dataset":
        """Look a dataset up. Its items are loaded page by page when they are looked at; later changes don't show.

        Args:
            name: The dataset's name.
            version: A version, or an instant. Default: as it is now.
            as_of: As it was at this instant.
            splits: Only items with any of these splits. Default: all.

        Returns:
            The dataset at that version.

        Raises:
            DatasetNotFoundError: The project has no such dataset, or had none then.
            DatasetUnavailableError: The server can't be reached.
            ValueError: Both a version and an instant are given.
            TypeError: `splits` is not a list of texts.
        """
        from lodestream._datasets import requests
        from lodestream._datasets.messages import selector_of

        if version is not None and as_of is not None:
            raise ValueError("get_dataset takes a version or an instant, not both")
        if isinstance(version, dt.datetime):
            version, as_of = None, version
        chosen = texts_of(splits, "splits")
        selector = selector_of(name, version, as_of)
        return requests.get_dataset(self._reachable_channel(), selector, splits=chosen, runner=self)

    def create_dataset_item(
        self,
        *,
        dataset_name: str,
        input: Any,  # noqa: A002 - the name that callers know
        expected_output: Any = None,
        metadata: Any = None,
        id: str | None = None,  # noqa: A002
        source_trace_id: str | None = None,
        source_observation_id: str | None = None,
        splits: Sequence[str] = (),
        status: "ItemStatus" = "ACTIVE",
    ) -> "DatasetItem":
        """Add an item to a dataset; with the id of one that is there, change that.

        Values are anything that JSON can say: dataclasses, pydantic's models and datetimes are written out. What JSON
        can't say (NaN, an arbitrary object) is refused with its place.

        Args:
            dataset_name: The dataset.
            input: What goes into the task.
            expected_output: What is expected to come out.
            metadata: Anything else that is known of it.
            id: The item's id. Default: made of the content, so that equal content is the same item.
            source_trace_id: The trace it was taken from, 32 hex digits.
            source_observation_id: The observation in that trace, 16 hex digits.
            splits: Its splits, for example ["test"].
            status: "ACTIVE", or "ARCHIVED" for an item that later versions don't have.

        Returns:
            The item as the server has it.

        Raises:
            DatasetRefusedError: Something makes no sense; `field` names it, for example "input.lines[3]".
            DatasetNotFoundError: There is no such dataset.
            DatasetUnavailableError: The server can't be reached.
        """
        from lodestream._datasets import requests

        if status not in ("ACTIVE", "ARCHIVED"):
            raise DatasetRefusedError(f"status: {status!r} is neither ACTIVE nor ARCHIVED", field="status")
        row = {
            "id": id,
            "input": input,
            "expected_output": expected_output,
            "metadata": metadata,
            "source_trace_id": source_trace_id,
            "source_observation_id": source_observation_id,
            "splits": splits,
        }
        channel = self._reachable_channel()
        recorded, position = requests.record_items(channel, dataset_name, [row])
        (item_id,) = recorded.item_ids
        if status == "ARCHIVED":
            position = requests.archive_items(channel, dataset_name, [item_id]).position
        return requests.get_item(channel, dataset_name, item_id, position)

    def create_dataset_items(self, dataset_name: str, items: Iterable[Mapping[str, Any]]) -> "RecordedItems":
        """Add or change many items, at most 1,000 in a request.

        Args:
            dataset_name: The dataset.
            items: Mappings with the arguments of `create_dataset_item` as entries.

        Returns:
            The items' ids, in the order given, and the dataset's version with them.

        Raises:
            DatasetItemsRefusedError: Some were refused: `refused` lists them with their reasons; the others are stored.
            DatasetNotFoundError: There is no such dataset.
            DatasetUnavailableError: The server can't be reached. Sent again, items that were stored stay as they are.
            TypeError: `items` is not a list.
        """
        from lodestream._datasets import requests

        require_list(items, "items")
        return requests.record_items(self._reachable_channel(), dataset_name, items)[0]

    def archive_dataset_items(self, dataset_name: str, item_ids: Sequence[str]) -> int:
        """Leave items out of later versions of a dataset; earlier ones keep them.

        Args:
            dataset_name: The dataset.
            item_ids: The items' ids.

        Returns:
            The first version without them.

        Raises:
            DatasetError: The server refused it or can't be reached.
            TypeError: `item_ids` is not a list of texts.
        """
        from lodestream._datasets import requests

        chosen = texts_of(item_ids, "item_ids")
        return requests.archive_items(self._reachable_channel(), dataset_name, chosen).version

    def archive_dataset(self, name: str) -> int:
        """List a dataset no more. Its versions and runs stay; created again, it is back.

        Args:
            name: The dataset.

        Returns:
            Its version.

        Raises:
            DatasetError: The server refused it or can't be reached.
        """
        from lodestream._datasets import requests

        return requests.archive(self._reachable_channel(), name).version

    # --- Experiments --------------------------------------------------------------------------------------------------

    def run_experiment(
        self, *, name: str, data: Any, task: Callable[..., Any], **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult":
        """Run a task on each item of a dataset, evaluate what comes out, and record all of it. Waits until it is done.

        Functions are given what they ask for by the names of their parameters. Coroutine functions run in a loop of the
        experiment's own, the others in threads. A task that raises makes a failed item, and the run goes on. With a
        `run_name` that was begun before, only what is missing is done; a run that is complete is returned as it is.
        After the first Ctrl-C no item is begun, nor while the run is paused at the server; the second leaves at once.

        Args:
            name: The experiment's name.
            data: A `Dataset`, or a list of dicts or objects with `input`, `expected_output` and `metadata`.
            task: Called with any of item, input, expected_output, metadata, item_id, repetition, run_name; returns the
                output.
            **options: run_name, description, evaluators, composite_evaluator, run_evaluators, max_concurrency (items at
                the same time, default 50), repetitions (default 1), metadata, item_timeout (seconds, default none),
                progress, tools. Evaluators are functions, objects of `lodestream.evaluators` or their specs.

        Returns:
            The result: each item with its output, evaluations, trace, latency and cost.

        Raises:
            ExperimentError: Nothing was run, because something makes no sense or the server can't be reached.
            ExperimentStoppedError: Somebody ended the run meanwhile; `result` has what was done.
            DatasetError: Items could not be loaded.
            RegressionError: A run evaluator raised it. All is recorded.
            KeyboardInterrupt: It was stopped; with the same `run_name` it goes on.

        Example:
            ::

                def concise(output, expected_output):
                    return len(output) <= 2 * len(expected_output)

                result = client.run_experiment(
                    name="support answers",
                    data=client.get_dataset("support", splits=["test"]),
                    task=lambda input: answer(input["question"]),
                    evaluators=[concise, {"kind": "exact_match"}],
                )
                print(result.format())
        """
        from lodestream._experiments.runner import ExperimentRunner, run_apart

        runner = ExperimentRunner(self, name, data, task, options)
        return run_apart(runner.result, stop=runner.stop)

    async def run_experiment_async(
        self, *, name: str, data: Any, task: Callable[..., Any], **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult":
        """Run an experiment in the running loop, like `run_experiment`.

        Cancelled, it leaves what is under way; with the same `run_name` it goes on.

        Args:
            name: The experiment's name.
            data: As for `run_experiment`.
            task: As for `run_experiment`.
            **options: As for `run_experiment`.

        Returns:
            The result.

        Raises:
            ExperimentError: As for `run_experiment`, and so are the others.
        """
        from lodestream._experiments.runner import ExperimentRunner

        return await ExperimentRunner(self, name, data, task, options).result()

    # --- Delivery -----------------------------------------------------------------------------------------------------

    def flush(self, timeout: float = 10.0) -> FlushReceipt:
        """Wait until everything that has ended is delivered. What is pending then stays spooled. Never raises.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            How many are delivered, pending and dropped, and why some are pending.
        """
        try:
            return self._pipeline.flush(timeout)
        except Exception as error:
            report_internal_error("flush", error)
            return FlushReceipt(problem=str(error))

    def shutdown(self, timeout: float = EXIT_SECONDS) -> FlushReceipt:
        """Flush, and stop for good. Never raises.

        What could not be delivered is left to the next process that uses the spool. `get_client` no longer returns this
        client, and what is recorded with it from now on is refused and logged.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            How many are delivered, pending and dropped.
        """
        unregister(self)
        self._recorder.close()
        if self._prompt_cache is not None:
            self._prompt_cache.close()
        self._channel.close()
        try:
            return self._pipeline.close(timeout)
        except Exception as error:
            report_internal_error("shutdown", error)
            return FlushReceipt(problem=str(error))

    @property
    def receipt(self) -> FlushReceipt:
        """What has become of everything recorded so far, without waiting."""
        return self._pipeline.receipt()

    @property
    def position(self) -> str:
        """Where in the server's log the last delivered spans are, to be given to a read as `wait_for`."""
        return self._pipeline.position

    def check_connection(self, timeout: float = 5.0) -> ConnectionCheck:
        """Ask whether the server answers and takes the key. For start-up and for people. Never raises.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether it does, and if not, what to do.
        """
        try:
            return check_connection(self.settings, timeout)
        except Exception as error:
            report_internal_error("check_connection", error)
            return ConnectionCheck(ok=False, message=str(error))

    def auth_check(self) -> bool:
        """Return whether the server is reachable and accepts the key.

        Never raises. Waits for up to 5 s. When it is not, the reason is logged; `check_connection` returns it.
        """
        check = self.check_connection()
        if not check.ok:
            warn_once("auth_check", check.message)
        return check.ok

    # --- The process --------------------------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """Begin with nothing in the child of a fork: what was under way is the parent's to deliver."""
        self._pipeline.forget()
        self._pipeline, self._channel = self._new_pipeline(), RpcChannel(self.settings)
        self._recorder.sink = self._pipeline
        self._making = threading.RLock()
        if self._prompt_cache is not None:
            self._prompt_cache.after_fork()

    @property
    def _prompts(self) -> "PromptCache | None":
        """The prompts that were looked up; None where there is no server to ask."""
        if self._prompt_cache is None and self._is_on() and not sys.is_finalizing():
            with self._making:
                if self._prompt_cache is None:
                    from lodestream._prompts.cache import PromptCache  # and protobuf, which programs without don't load

                    self._prompt_cache = PromptCache(self.settings, prompts_dir(self.settings))
        return self._prompt_cache

    def _reachable_prompts(self) -> "PromptCache":
        prompts = self._prompts
        if prompts is None:
            raise PromptUnavailableError(_NO_PROMPT_SERVER)
        return prompts

    def _reachable_channel(self) -> RpcChannel:
        if not self._delivers:
            raise DatasetUnavailableError(_NO_SERVER)
        return self._channel

    @property
    def _delivers(self) -> bool:
        """Whether there is a server that gets what is recorded."""
        return self._is_on() and self._recorder.sink is self._pipeline

    def _is_on(self) -> bool:
        return self.settings.tracing_enabled or self._find_keys()

    def _find_keys(self) -> bool:
        """Begin if keys that were missing have come since, as by load_dotenv; return whether tracing is on."""
        if not self.settings.awaits_keys or not has_keys(os.environ):
            return False
        with self._making:
            if self.settings.awaits_keys and (settings := resolve(self._given, os.environ)).tracing_enabled:
                self.settings = settings
                self._pipeline, self._channel = self._new_pipeline(), RpcChannel(settings)
                self._recorder.begin(settings, self._pipeline)
                self._take_part()
        return self.settings.tracing_enabled

    def _take_part(self) -> None:
        """Take part in what the process traces."""
        register(self)
        if self.settings.tracing_enabled and self.settings.global_tracing:
            take_part()

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(self.settings, resource_of(resource_attributes(self.settings)), spool_root(self.settings))


def get_client(*, public_key: str | None = None) -> Lodestream:
    """Return the client that this call is for; it is made from the environment where there is none.

    Where there is no such client, or it is not clear which one is meant, a client is returned that records nothing, and
    the reason is logged. Never raises.

    Args:
        public_key: The key of a client's project, for programs with several. Default: the client of the current context
            (`Lodestream.as_current()`, or that of the current observation), else the process's only one.

    Returns:
        The client.
    """
    return cast("Lodestream", current_client(public_key=public_key))


def _where(given: TraceContext | None) -> Where | None:
    return (given.get("trace_id", ""), given.get("parent_span_id")) if given else None


def _current_target(name: str) -> Target | None:
    """The current observation as what is scored; None, which is logged, where nothing is current."""
    current = trace.get_current_span(current_context())
    ids = current.get_span_context()
    if not ids.is_valid:
        warn_once(f"score {name}", f"the score {name!r} was not taken: there is no current observation")
        return None
    if not (current._kept if isinstance(current, Observation) else ids.trace_flags.sampled):
        return None
    return Target(trace_id=f"{ids.trace_id:032x}", observation_id=f"{ids.span_id:016x}")


make_clients_with(Lodestream)
