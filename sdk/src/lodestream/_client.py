"""The client: everything a program says to Lodestream. Nothing raises into it, nothing but `flush` makes it wait."""

import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

from opentelemetry import trace

from lodestream._datasets.methods import DatasetMethods
from lodestream._delivery.channel import RpcChannel
from lodestream._delivery.fork_guard import renew_after_fork
from lodestream._delivery.pipeline import Pipeline
from lodestream._delivery.transport import check_connection
from lodestream._diagnostics import log_to_stderr, never_raises, report_internal_error, warn_once
from lodestream._ids import new_trace_id, seeded_trace_id
from lodestream._lifecycle import EXIT_SECONDS
from lodestream._opentelemetry.tracer import TracerProvider, take_part
from lodestream._prompts.methods import PromptMethods
from lodestream._receipts import ConnectionCheck, FlushReceipt
from lodestream._recording.attributes import ObservationFields, ObservationType, attributes_of
from lodestream._recording.clients import CurrentClient, current_client, make_clients_with, register, unregister
from lodestream._recording.recorder import Recorder, Where
from lodestream._recording.span import CurrentObservation, Observation
from lodestream._scoring import ScoreMethods
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
    from lodestream._prompts.cache import PromptCache


class TraceContext(TypedDict, total=False):
    """Where an observation belongs, when that is known from elsewhere."""

    trace_id: str
    """32 hex digits."""
    parent_span_id: str | None
    """16 hex digits; without it the observation is the trace's root."""


class Lodestream(PromptMethods, ScoreMethods, DatasetMethods):
    """Settings that are not given come from the environment (see README). `get_client` gives the one that is meant."""

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
        """For instrumentations that are to be given one; the process's own is ours unless another is installed."""
        self._prompt_store: PromptCache | None = None
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
        """A child of what is current, or of what `trace_context` names. Yours to end; it does not become current."""
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
        """The same for `with`: current within the block, an exception is recorded, and it ends with the block."""
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
        """Something that happened at one moment. It has ended."""
        event = self._recorder.observe(name, "event", fields, where=_where(trace_context))
        event._end_at_start()
        return event

    @never_raises(None)
    def update_current_span(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
        """Tell more of the current observation, also when it is a span of another instrumentation."""
        current = trace.get_current_span()
        if isinstance(current, Observation):
            current.update(name=name, **fields)
        elif current.is_recording():
            if name is not None:
                current.update_name(name)
            current.set_attributes(attributes_of(fields, self._recorder.shown))

    def update_current_generation(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> None:
        """The same; it reads better where a model was called."""
        self.update_current_span(name=name, **fields)

    def as_current(self) -> "CurrentClient[Lodestream]":
        """Within the block, `get_client`, `observe` and the spans of instrumentation libraries are for this client.

        For programs with several projects. An observation that becomes current in the block makes its own client the
        one that is meant.
        """
        return CurrentClient(self)

    # --- Ids ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def create_trace_id(*, seed: str | None = None) -> str:
        """A trace id; from the same seed always the same one."""
        return f"{new_trace_id():032x}" if seed is None else seeded_trace_id(str(seed))

    @staticmethod
    def get_current_trace_id() -> str | None:
        """None outside of any trace."""
        current = trace.get_current_span().get_span_context()
        return f"{current.trace_id:032x}" if current.is_valid else None

    @staticmethod
    def get_current_observation_id() -> str | None:
        """None outside of any trace."""
        current = trace.get_current_span().get_span_context()
        return f"{current.span_id:016x}" if current.is_valid else None

    # --- Delivery -----------------------------------------------------------------------------------------------------

    def flush(self, timeout: float = 10.0) -> FlushReceipt:
        """Wait, at most `timeout` seconds, until all that ended is delivered. What is pending then stays spooled."""
        try:
            return self._pipeline.flush(timeout)
        except Exception as error:
            report_internal_error("flush", error)
            return FlushReceipt(problem=str(error))

    def shutdown(self, timeout: float = EXIT_SECONDS) -> FlushReceipt:
        """Flush, and stop for good. What could not be delivered is left to the next process that uses the spool.

        `get_client` no longer gives this client, and what it is told from now on is refused and logged.
        """
        unregister(self)
        self._recorder.close()
        if self._prompt_store is not None:
            self._prompt_store.close()
        self._channel.close()
        try:
            return self._pipeline.close(timeout)
        except Exception as error:
            report_internal_error("shutdown", error)
            return FlushReceipt(problem=str(error))

    @property
    def receipt(self) -> FlushReceipt:
        """What has become of the spans so far, without waiting."""
        return self._pipeline.receipt()

    @property
    def position(self) -> str:
        """Where in the server's log the last delivered spans are, to be given to a read as `wait_for`."""
        return self._pipeline.position

    def check_connection(self, timeout: float = 5.0) -> ConnectionCheck:
        """Whether the server answers and takes our key, and if not, what to do. For start-up and for people."""
        try:
            return check_connection(self.settings, timeout)
        except Exception as error:
            report_internal_error("check_connection", error)
            return ConnectionCheck(ok=False, message=str(error))

    def auth_check(self) -> bool:
        """The same as yes or no; a no is logged with its reason."""
        check = self.check_connection()
        if not check.ok:
            warn_once("auth_check", check.message)
        return check.ok

    # --- The process --------------------------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """In the child: what was under way is the parent's to deliver; we begin with nothing."""
        self._pipeline.forget()
        self._pipeline, self._channel = self._new_pipeline(), RpcChannel(self.settings)
        self._recorder.sink = self._pipeline
        self._making = threading.RLock()
        if self._prompt_store is not None:
            self._prompt_store.after_fork()

    @property
    def _prompts(self) -> "PromptCache | None":
        if self._prompt_store is None and self._is_on() and not sys.is_finalizing():
            with self._making:
                if self._prompt_store is None:
                    from lodestream._prompts.cache import PromptCache  # and protobuf, which programs without don't load

                    self._prompt_store = PromptCache(self.settings, prompts_dir(self.settings))
        return self._prompt_store

    @property
    def _delivers(self) -> bool:
        return self._is_on() and self._recorder.sink is self._pipeline

    def _is_on(self) -> bool:
        return self.settings.tracing_enabled or self._find_keys()

    def _find_keys(self) -> bool:
        """Whether keys that were missing have come since, as by load_dotenv; then it begins."""
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
        """In what the process traces."""
        register(self)
        if self.settings.tracing_enabled and self.settings.global_tracing:
            take_part()

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(self.settings, resource_of(resource_attributes(self.settings)), spool_root(self.settings))


def get_client(*, public_key: str | None = None) -> Lodestream:
    """Return the client that this call is for; it is made from the environment where there is none.

    Where there is no such client, or it is not clear which one is meant, a client is returned that records nothing, and
    the reason is logged.

    Args:
        public_key: The key of a client's project, for programs with several. Default: the client of the current
            context (`Lodestream.as_current()`, or that of the current observation), else the process's only one.

    Returns:
        The client. Never raises.
    """
    return cast("Lodestream", current_client(public_key=public_key))


make_clients_with(Lodestream)


def _where(given: TraceContext | None) -> Where | None:
    return (given.get("trace_id", ""), given.get("parent_span_id")) if given else None
