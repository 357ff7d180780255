"""Deliveries: a request of spans or of events, and what became of it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lodestream._delivery.channel import FailureKind, RpcChannel, RpcError
from lodestream._receipts import ConnectionCheck
from lodestream._settings import Settings
from lodestream._wire.otlp import request_of
from lodestream._wire.payloads import EVENT
from lodestream._wire.protobuf import delimited, fields, signed

_RECORD = "/lodestream_proto.v1.IngestService/Record"
_REFUSED = 2  # EVENT_OUTCOME_REFUSED
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_POSITION = "lodestream-position"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The server has it, but for `rejected` spans that it will never take."""

    rejected: int = 0
    message: str = ""
    position: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The server does not have it, as far as is known."""

    kind: FailureKind
    reason: str
    retry_after: float | None = None
    """Seconds, when the server told."""


class Transport:
    """Sends requests one after the other, over a line of its own."""

    def __init__(self, settings: Settings) -> None:
        self.endpoint = settings.endpoint
        self._channel = RpcChannel(settings)

    def send(self, payloads: Sequence[bytes], *, timeout: float) -> Delivered | Failed:
        """Deliver the payloads of frames of one kind. Raises nothing that gRPC raises."""
        try:
            if payloads and payloads[0].startswith(EVENT):
                response, _ = self._channel.call(_RECORD, _record_of(payloads), timeout=timeout)
                return record_outcome(response)
            response, trailing = self._channel.call(_EXPORT, request_of(payloads), timeout=timeout)
            return export_outcome(response, trailing)
        except RpcError as error:
            return Failed(error.kind, str(error), error.retry_after)
        except ValueError as error:
            return Failed(FailureKind.SERVER_ERROR, f"{self.endpoint.target} answered what can't be read: {error}")

    def cancel(self) -> None:
        """Give up the request that is under way, and those to come, from another thread."""
        self._channel.cancel()

    def close(self) -> None:
        """Hang up. The next request connects anew."""
        self._channel.close()


def export_outcome(response: bytes, trailing: dict[str, Any]) -> Delivered:
    """What an ExportTraceServiceResponse says. Raises ValueError when it is none."""
    rejected, message = 0, ""
    for partial in (field.value for field in fields(response) if field.number == 1):
        for number, value, _raw in fields(partial) if isinstance(partial, bytes) else ():
            if number == 1 and isinstance(value, int):
                rejected = signed(value)
            elif number == 2 and isinstance(value, bytes):
                message = value.decode("utf-8", "replace")
    return Delivered(rejected, message, str(trailing.get(_POSITION, "")))


def record_outcome(response: bytes) -> Delivered:
    """What a RecordResponse says. Raises ValueError when it is none."""
    rejected, message, position = 0, "", ""
    for number, value, _raw in fields(response):
        if number == 2 and isinstance(value, bytes):
            position = value.decode("utf-8", "replace")
        elif number == 1 and isinstance(value, bytes):
            result = {field.number: field.value for field in fields(value)}
            if result.get(2) == _REFUSED:
                rejected += 1
                message = message or ": ".join(_text(result.get(part)) for part in (3, 4))
    return Delivered(rejected, message, position)


def _record_of(payloads: Sequence[bytes]) -> bytes:
    """A RecordRequest."""
    return b"".join(delimited(b"\x0a", payload[len(EVENT) :]) for payload in payloads)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


_TOO_LONG = 20  # digits; an offset has 63 bits


class Positions:
    """The furthest position of each partition, from tokens like `lodestream.traces:3:1234,lodestream.traces:5:77`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._furthest: dict[str, int] = {}

    def add(self, token: str) -> None:
        """What makes no sense is passed over."""
        with self._lock:
            for part in token.split(",") if token else ():
                partition, _, offset = part.rpartition(":")
                if partition and offset.isdecimal() and len(offset) < _TOO_LONG:
                    self._furthest[partition] = max(int(offset), self._furthest.get(partition, -1))

    @property
    def token(self) -> str:
        """Give it to a read as `wait_for`; empty when nothing was delivered, or the server tells no positions."""
        with self._lock:
            return ",".join(f"{partition}:{offset}" for partition, offset in sorted(self._furthest.items()))


def check_connection(settings: Settings, timeout: float) -> ConnectionCheck:
    """Sends an export of no spans: it takes the way that spans take, key included."""
    if not settings.tracing_enabled:
        return ConnectionCheck(ok=False, message="tracing is off (no key, or switched off)")
    transport, endpoint = Transport(settings), settings.endpoint
    try:
        outcome = transport.send([], timeout=timeout)
    finally:
        transport.close()
    if isinstance(outcome, Delivered):
        return ConnectionCheck(ok=True, message=f"{endpoint.target} answers and takes the key")
    if outcome.kind is FailureKind.MISCONFIGURED:
        return ConnectionCheck(ok=False, message=f"the key or the address is wrong: {outcome.reason}")
    if outcome.kind is not FailureKind.UNAVAILABLE:
        return ConnectionCheck(ok=False, message=outcome.reason)
    hint = "TLS is spoken, put http:// in front for plaintext" if endpoint.tls else "plaintext is spoken"
    return ConnectionCheck(ok=False, message=f"{endpoint.target} can't be reached ({hint}): {outcome.reason}")
