"""OTLP over gRPC: one request, and what became of it."""

import base64
import contextlib
import enum
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from lodestream._endpoint import Endpoint
from lodestream._retry_info import retry_seconds
from lodestream._settings import MIB, Settings
from lodestream._version import SDK_NAME, __version__

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_POSITION = "lodestream-position"
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", 4 * MIB),
    ("grpc.enable_retries", 0),  # ours know what the server asked for
)
_GRACE_SECONDS = 2.0  # for gRPC to notice a deadline; one that does not, in the child of a fork, is given up


class Why(enum.Enum):
    """Why a request was not taken."""

    AWAY = "away"
    """It may be taken later: nobody answered, or the server said so."""
    SETUP = "setup"
    """A key or an address is wrong; it may be taken when people have put that right."""
    BROKEN = "broken"
    """The server failed at it; trying again may help."""
    INVALID = "invalid"
    """It will never be taken as it is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The server has it, but for `rejected` spans that it will never take."""

    rejected: int = 0
    message: str = ""
    position: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not have it, as far as is known."""

    why: Why
    reason: str
    retry_after: float | None = None
    """Seconds, when the server told."""


_WHY = {
    **dict.fromkeys(
        (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.OUT_OF_RANGE,
            grpc.StatusCode.DATA_LOSS,
        ),
        Why.AWAY,
    ),  # OTLP's list of what clients retry
    **dict.fromkeys(
        (
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.NOT_FOUND,
        ),
        Why.SETUP,
    ),
    grpc.StatusCode.INTERNAL: Why.BROKEN,
    grpc.StatusCode.UNKNOWN: Why.BROKEN,
}


class Transport:
    """A channel that is opened by the first request, never before: a process may fork until then without trouble."""

    def __init__(self, settings: Settings) -> None:
        self.endpoint = settings.endpoint
        self._metadata = metadata_of(settings)
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._cancelled = False

    def send(self, request: bytes, *, timeout: float) -> Taken | Refused:
        """Deliver an ExportTraceServiceRequest. Raises nothing that gRPC raises."""
        if self._channel is None:
            self._channel = open_channel(self.endpoint)
        export: Any = self._channel.unary_unary(_EXPORT, response_deserializer=ExportTraceServiceResponse.FromString)
        self._call = call = export.future(request, timeout=timeout, metadata=self._metadata)
        if self._cancelled:
            call.cancel()
        try:
            answer = call.result(timeout + _GRACE_SECONDS)
        except grpc.FutureTimeoutError:
            self.close()
            return Refused(Why.AWAY, f"{self.endpoint.target}: gRPC does not notice its own deadline")
        except grpc.FutureCancelledError:
            return Refused(Why.AWAY, "cancelled")
        except grpc.RpcError:
            return refusal_of(call, self.endpoint)
        finally:
            self._call = None
        partial = answer.partial_success
        trailing = dict(call.trailing_metadata() or ())
        return Taken(int(partial.rejected_spans), partial.error_message, str(trailing.get(_POSITION, "")))

    def cancel(self) -> None:
        """Give up the request that is under way, and those to come, from another thread."""
        self._cancelled = True
        if (call := self._call) is not None:
            call.cancel()

    def close(self) -> None:
        """Hang up. The next request connects anew."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(Exception):
                channel.close()


def open_channel(endpoint: Endpoint) -> grpc.Channel:
    """Not connected yet."""
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


def refusal_of(call: Any, endpoint: Endpoint) -> Refused:
    """What a failed call means for the request."""
    code, details = call.code(), call.details() or ""
    delay = retry_seconds(call.trailing_metadata() or ())
    why = _WHY.get(code, Why.INVALID)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and delay is not None:
        why = Why.AWAY
    return Refused(why, f"{endpoint.target} answered {code.name}: {details}", delay)
