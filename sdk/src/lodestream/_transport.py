"""OTLP over gRPC: one request, and what became of it.

gRPC is imported by the first request, and used within the gate only.
"""

import base64
import contextlib
import time
from concurrent.futures import thread as _  # noqa: F401 - gRPC's import needs it, and it can't be imported at the end
from typing import TYPE_CHECKING, Any

from lodestream._endpoint import Endpoint
from lodestream._forks import GATE, channel_opened
from lodestream._outcome import WHY, Refused, Taken, Why
from lodestream._retry_info import retry_seconds
from lodestream._settings import MIB, Settings
from lodestream._version import SDK_NAME, __version__
from lodestream._wire import fields, signed

if TYPE_CHECKING:
    import grpc

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_POSITION = "lodestream-position"
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # what connecting may take; by default 20 s
    ("grpc.max_receive_message_length", 4 * MIB),
    ("grpc.enable_retries", 0),  # ours know what the server asked for
)
_GRACE_SECONDS = 2.0  # for gRPC to notice a deadline; one that does not, in the child of a fork, is given up

_STRANDED = (
    "this process was forked while gRPC was at work and could not be stopped (others in it use gRPC too?); "
    "its spans are left to other processes"
)


class Transport:
    """A channel that is opened by the first request, never before, and anew by the first one after a fork."""

    def __init__(self, settings: Settings) -> None:
        self.endpoint = settings.endpoint
        self._metadata = metadata_of(settings)
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._cancelled = self._interrupted = False

    def send(self, request: bytes, *, timeout: float) -> Taken | Refused:
        """Deliver an ExportTraceServiceRequest. Raises nothing that gRPC raises.

        A fork interrupts it; then it is sent again, within the same time.
        """
        end = time.monotonic() + timeout
        while True:
            with GATE.entered(self) as usable:
                if not usable:
                    return Refused(Why.STRANDED, _STRANDED)
                outcome = self._sent(request, max(end - time.monotonic(), 0.0))
                if outcome is not None:
                    return outcome
                self.hang_up()  # which waits until gRPC is done with the call, as being cancelled does not

    def cancel(self) -> None:
        """Give up the request that is under way, and those to come, from another thread."""
        self._cancelled = True
        if (call := self._call) is not None:
            call.cancel()

    def close(self) -> None:
        """Hang up. The next request connects anew."""
        if self._channel is not None:
            with GATE.entered(self):
                self.hang_up()

    # --- Of the gate --------------------------------------------------------------------------------------------------

    def admitted(self) -> None:
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        if (call := self._call) is not None:
            call.cancel()

    def hang_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(Exception):
                channel.close()

    def strand(self) -> None:
        left, self._channel, self._call = (self._channel, self._call), None, None
        if any(thing is not None for thing in left):
            import ctypes  # came with gRPC

            for thing in left:  # finalising them may hang, also at the process's end: they stay referenced for ever
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

    def _sent(self, request: bytes, timeout: float) -> Taken | Refused | None:
        """What became of it; None when it was interrupted."""
        with GATE.imports():
            import ctypes  # noqa: F401 - for a child, which had better import nothing

            import grpc

        if self._channel is None:
            self._channel = open_channel(self.endpoint)
            channel_opened()
        export: Any = self._channel.unary_unary(_EXPORT)
        self._call = call = export.future(request, timeout=timeout, metadata=self._metadata)
        if self._cancelled or self._interrupted:
            call.cancel()
        try:  # `result` would raise the call itself, whose traceback then keeps it and its channel
            if call.exception(timeout + _GRACE_SECONDS) is not None:
                return refusal_of(call, self.endpoint)
            return taken_of(call.result(), dict(call.trailing_metadata() or ()))
        except grpc.FutureTimeoutError:
            self.hang_up()
            return Refused(Why.AWAY, f"{self.endpoint.target}: gRPC does not notice its own deadline")
        except grpc.FutureCancelledError:
            return None if self._interrupted and not self._cancelled else Refused(Why.AWAY, "cancelled")
        except ValueError as error:
            return Refused(Why.BROKEN, f"{self.endpoint.target} answered what is not OTLP: {error}")
        finally:
            self._call = None


def open_channel(endpoint: Endpoint) -> "grpc.Channel":
    """Not connected yet."""
    import grpc

    if endpoint.tls:
        return grpc.secure_channel(endpoint.target, grpc.ssl_channel_credentials(), _OPTIONS)
    return grpc.insecure_channel(endpoint.target, _OPTIONS)


def metadata_of(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Who sends, and with which key."""
    told = (("lodestream-sdk-name", SDK_NAME), ("lodestream-sdk-version", __version__))
    if not settings.secret_key:
        return told
    if not settings.public_key:
        return (("authorization", f"Bearer {settings.secret_key}"), *told)
    pair = base64.b64encode(f"{settings.public_key}:{settings.secret_key}".encode()).decode()
    return (("authorization", f"Basic {pair}"), *told)


def taken_of(response: bytes, trailing: dict[str, Any]) -> Taken:
    """What an ExportTraceServiceResponse says. Raises ValueError when it is none."""
    rejected, message = 0, ""
    for partial in (field.value for field in fields(response) if field.number == 1):
        for number, value, _raw in fields(partial) if isinstance(partial, bytes) else ():
            if number == 1 and isinstance(value, int):
                rejected = signed(value)
            elif number == 2 and isinstance(value, bytes):
                message = value.decode("utf-8", "replace")
    return Taken(rejected, message, str(trailing.get(_POSITION, "")))


def refusal_of(call: Any, endpoint: Endpoint) -> Refused:
    """What a failed call means for the request."""
    status, details = call.code().name, call.details() or ""
    delay = retry_seconds(call.trailing_metadata() or ())
    why = WHY.get(status, Why.INVALID)
    if status == "RESOURCE_EXHAUSTED" and delay is not None:
        why = Why.AWAY
    return Refused(why, f"{endpoint.target} answered {status}: {details}", delay)
