"""Deliveries: a request of spans or of events, and what became of it."""

from collections.abc import Sequence
from typing import Any

from lodestream._delivery.channel import Line, LineError
from lodestream._delivery.outcome import Refused, Taken, Why
from lodestream._settings import Settings
from lodestream._wire.otlp import delimited, request_of
from lodestream._wire.payloads import EVENT
from lodestream._wire.protobuf import fields, signed

_RECORD = "/lodestream_proto.v1.IngestService/Record"
_REFUSED = 2  # EVENT_OUTCOME_REFUSED
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_POSITION = "lodestream-position"


class Transport:
    """Sends requests one after the other, over a line of its own."""

    def __init__(self, settings: Settings) -> None:
        self.endpoint = settings.endpoint
        self._line = Line(settings)

    def send(self, payloads: Sequence[bytes], *, timeout: float) -> Taken | Refused:
        """Deliver the payloads of frames of one kind. Raises nothing that gRPC raises."""
        try:
            if payloads and payloads[0].startswith(EVENT):
                response, _ = self._line.ask(_RECORD, _record_of(payloads), timeout=timeout)
                return recorded_of(response)
            response, trailing = self._line.ask(_EXPORT, request_of(payloads), timeout=timeout)
            return taken_of(response, trailing)
        except LineError as error:
            return Refused(error.why, str(error), error.retry_after)
        except ValueError as error:
            return Refused(Why.BROKEN, f"{self.endpoint.target} answered what can't be read: {error}")

    def cancel(self) -> None:
        """Give up the request that is under way, and those to come, from another thread."""
        self._line.cancel()

    def close(self) -> None:
        """Hang up. The next request connects anew."""
        self._line.close()


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


def recorded_of(response: bytes) -> Taken:
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
    return Taken(rejected, message, position)


def _record_of(payloads: Sequence[bytes]) -> bytes:
    """A RecordRequest."""
    return b"".join(delimited(b"\x0a", payload[len(EVENT) :]) for payload in payloads)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
