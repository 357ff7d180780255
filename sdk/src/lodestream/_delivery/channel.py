"""The gRPC channel to the server: calls behind the fork guard, retried where that may help.

gRPC is imported by the first call.
"""

import base64
import contextlib
import enum
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import thread as _  # noqa: F401 - gRPC's import needs it, and it can't be imported at the end
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lodestream._delivery.fork_guard import FORK_GUARD, channel_opened
from lodestream._lifecycle import EXIT_SECONDS, never_starts_threads
from lodestream._settings import MIB, Endpoint, Settings
from lodestream._version import SDK_NAME, __version__
from lodestream._wire.protobuf import fields, signed, submessages

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message


class FailureKind(enum.Enum):
    """Why a request was not taken."""

    UNAVAILABLE = "away"
    """The request may be taken later: nobody answered, or the server said so."""
    MISCONFIGURED = "setup"
    """A key or an address is wrong; it may be taken when people have put that right."""
    FORK_UNUSABLE = "stranded"
    """This process can't send, others can."""
    SERVER_ERROR = "broken"
    """The server failed at it; trying again may help."""
    PERMANENT = "invalid"
    """The request will never be taken as it is."""


FAILURE_KINDS = {
    **dict.fromkeys(
        ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS"),
        FailureKind.UNAVAILABLE,
    ),  # OTLP's list of what clients retry
    **dict.fromkeys(("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"), FailureKind.MISCONFIGURED),
    **dict.fromkeys(("INTERNAL", "UNKNOWN"), FailureKind.SERVER_ERROR),
}
"""The kind of each gRPC status; one that is not in here is PERMANENT."""


_DETAILS = "grpc-status-details-bin"
_TYPE = b"type.googleapis.com/google.rpc.RetryInfo"


def retry_seconds(trailing: Sequence[tuple[str, str | bytes]]) -> float | None:
    """The delay that a refusal's trailing metadata names; None without one."""
    try:
        for key, value in trailing:
            if key == _DETAILS and isinstance(value, bytes):
                for detail in submessages(value, 3):  # google.rpc.Status.details
                    if _TYPE in submessages(detail, 1):  # google.protobuf.Any
                        return next(
                            (_seconds(delay) for info in submessages(detail, 2) for delay in submessages(info, 1)), None
                        )
    except ValueError:
        pass
    return None


def _seconds(duration: bytes) -> float:
    parts = {field.number: signed(field.value) for field in fields(duration) if isinstance(field.value, int)}
    return max(parts.get(1, 0) + parts.get(2, 0) / 1e9, 0.0)


_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # what connecting may take; by default 20 s
    ("grpc.max_receive_message_length", 16 * MIB),
    ("grpc.enable_retries", 0),  # ours know what the server asked for
)
_GRACE_SECONDS = 2.0  # for gRPC to notice a deadline; one that does not, in the child of a fork, is given up
_LAST_SECONDS = EXIT_SECONDS - 1.0  # for a call at the end of the process
_STRANDED = (
    "this process was forked while gRPC was at work and could not be stopped (others in it use gRPC too?); "
    "what it has to tell is left to other processes"
)


class RpcError(Exception):
    """A call was not answered; the status is gRPC's, by its name."""

    def __init__(self, status: str, reason: str, *, details: str = "", retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status, self.details, self.retry_after = status, details or reason, retry_after
        self.kind = (
            FailureKind.FORK_UNUSABLE
            if status == _STRANDED_STATUS
            else FAILURE_KINDS.get(status, FailureKind.PERMANENT)
        )
        if status == "RESOURCE_EXHAUSTED" and retry_after is not None:
            self.kind = FailureKind.UNAVAILABLE


_STRANDED_STATUS = "FORK_UNUSABLE"


class RpcChannel:
    """Any thread may call, several at the same time. A fork interrupts calls; they are made again after it."""

    def __init__(self, settings: Settings, *, patient: bool = True) -> None:
        """`patient`: a fork leaves its calls a moment to end by themselves."""
        self.endpoint, self.patient = settings.endpoint, patient
        self._metadata = metadata_of(settings)
        self._channel: grpc.Channel | None = None
        self._calls: set[Any] = set()
        self._cancelled = self._interrupted = False

    def call(self, method: str, request: bytes, *, timeout: float) -> tuple[bytes, dict[str, Any]]:
        """The answer to one request, and its trailing metadata.

        Raises LineError.
        """
        end = time.monotonic() + timeout
        while True:
            with self._entered():
                answer = self._answered(method, request, max(end - time.monotonic(), 0.0))
                if answer is not None:
                    return answer
                self.disconnect()  # which waits until gRPC is done with the call, as being cancelled does not

    def stream(self, method: str, request: bytes, take: Callable[[bytes], None], *, timeout: float) -> None:
        """Hand over what the server streams until it ends, `timeout` seconds have passed, or it is given up.

        Raises LineError.
        """
        with self._entered():
            stream: Any = self._open().unary_stream(method)
            import grpc

            call = stream(request, timeout=timeout, metadata=self._metadata)
            with self._under_way(call):
                try:
                    for message in call:
                        take(message)
                except grpc.RpcError:
                    if call.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
                        raise self._error_of(call) from None
            if self._interrupted:
                self.disconnect()

    def cancel_calls(self) -> None:
        """Give up what is under way, from another thread."""
        for call in list(self._calls):
            call.cancel()

    def cancel(self) -> None:
        """Give up what is under way and all that is to come, from another thread."""
        self._cancelled = True
        self.cancel_calls()

    def close(self) -> None:
        """Hang up. The next call connects anew."""
        if self._channel is not None:
            with FORK_GUARD.entered(self):
                self.disconnect()

    # --- Of the gate --------------------------------------------------------------------------------------------------

    def on_enter(self) -> None:
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        self.cancel_calls()

    def disconnect(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(Exception):
                channel.close()

    def abandon(self) -> None:
        left, self._channel, self._calls = (self._channel, *self._calls), None, set()
        if any(thing is not None for thing in left):
            import ctypes  # came with gRPC

            for thing in left:  # finalising them may hang, also at the process's end: they stay referenced for ever
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

    # --- Inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if sys.is_finalizing():  # gRPC would start threads
            raise RpcError("CANCELLED", "the interpreter is ending")
        with FORK_GUARD.entered(self) as usable:
            if not usable:
                raise RpcError(_STRANDED_STATUS, _STRANDED)
            yield

    def _open(self) -> "grpc.Channel":
        with FORK_GUARD.imports():
            import ctypes  # noqa: F401 - for a child, which had better import nothing

            import grpc  # noqa: F401

        if self._channel is None:
            self._channel = open_channel(self.endpoint)
            channel_opened()
        return self._channel

    def _answered(self, method: str, request: bytes, timeout: float) -> tuple[bytes, dict[str, Any]] | None:
        """None when it was interrupted."""
        unary: Any = self._open().unary_unary(method)
        import grpc

        try:
            call = unary.future(request, timeout=timeout, metadata=self._metadata)
        except RuntimeError as error:  # it starts a thread
            if not never_starts_threads():
                raise RpcError("UNAVAILABLE", f"{self.endpoint.target}: {error}") from None
            return self._answered_without_threads(unary, request, min(timeout, _LAST_SECONDS))
        with self._under_way(call):
            try:  # `result` would raise the call itself, whose traceback then keeps it and its channel
                failed = call.exception(timeout + _GRACE_SECONDS) is not None
            except grpc.FutureTimeoutError:
                self.disconnect()
                reason = f"{self.endpoint.target}: gRPC does not notice its own deadline"
                raise RpcError("DEADLINE_EXCEEDED", reason) from None
            except grpc.FutureCancelledError:
                if self._interrupted and not self._cancelled:
                    return None
                raise RpcError("CANCELLED", "cancelled") from None
            if failed:
                raise self._error_of(call)
            return call.result(), dict(call.trailing_metadata() or ())

    def _answered_without_threads(self, unary: Any, request: bytes, timeout: float) -> tuple[bytes, dict[str, Any]]:
        """At the end of a process; the call can't be given up."""
        import grpc

        try:
            response, call = unary.with_call(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error_of(error) from None
        return response, dict(call.trailing_metadata() or ())

    @contextmanager
    def _under_way(self, call: Any) -> Iterator[None]:
        self._calls.add(call)
        if self._cancelled or self._interrupted:
            call.cancel()
        try:
            yield
        finally:
            self._calls.discard(call)

    def _error_of(self, call: Any) -> RpcError:
        status, details = call.code().name, call.details() or ""
        delay = retry_seconds(call.trailing_metadata() or ())
        reason = f"{self.endpoint.target} answered {status}: {details}"
        return RpcError(status, reason, details=details, retry_after=delay)


def open_channel(endpoint: Endpoint) -> "grpc.Channel":
    """Not connected yet."""
    import grpc

    if endpoint.tls:
        return grpc.secure_channel(endpoint.target, grpc.ssl_channel_credentials(), _OPTIONS)
    return grpc.insecure_channel(endpoint.target, _OPTIONS)


def metadata_of(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Who calls, and with which key."""
    sdk_metadata = (("lodestream-sdk-name", SDK_NAME), ("lodestream-sdk-version", __version__))
    if not settings.secret_key:
        return sdk_metadata
    if not settings.public_key:
        return (("authorization", f"Bearer {settings.secret_key}"), *sdk_metadata)
    pair = base64.b64encode(f"{settings.public_key}:{settings.secret_key}".encode()).decode()
    return (("authorization", f"Basic {pair}"), *sdk_metadata)


_PACKAGE = "/lodestream_proto.v1."
CONFLICT = "ABORTED"  # of a command; the same one has the same verdict
_LONGEST_PAUSE = 2.0


def call_with_retries(channel: RpcChannel, method: str, request: "Message", *, retries: int, timeout: float) -> bytes:
    """The answer to a service's method, for example "PromptService/GetPrompt".

    Raises LineError.
    """
    data, attempt = request.SerializeToString(), 0
    while True:
        try:
            return channel.call(_PACKAGE + method, data, timeout=timeout)[0]
        except RpcError as error:
            attempt += 1
            if (
                error.kind not in (FailureKind.UNAVAILABLE, FailureKind.SERVER_ERROR)
                or error.status == CONFLICT
                or attempt > retries
            ):
                raise
            pause = min(error.retry_after or 0.1 * 2**attempt, _LONGEST_PAUSE)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
