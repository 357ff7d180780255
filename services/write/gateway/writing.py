"""From a request's bytes to the log's acknowledgement: the way every span takes, by OTLP or by Record."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Producer

from services.write.gateway import metrics, validation
from services.write.gateway.records import Envelope, SpansRecord, records_of
from services.write.gateway.refusal import Context, unavailable
from services.write.gateway.validation import RefusedSpan
from shared.event_log.append import Appender, LogUnavailableError
from shared.event_log.position import Position
from shared.event_log.topics import TRACES
from shared.runtime.failpoints import failpoint

_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in


@dataclass(frozen=True, slots=True)
class Checked:
    """A request's spans as records, what had to be refused of them, and how many are kept."""

    records: Sequence[SpansRecord]
    refused: Sequence[RefusedSpan]
    kept: int


def check(
    otlp_request: bytes,
    project_id: str,
    producer: Producer,
    *,
    field: str,
    event_id: str = "",
    occurred_at: Timestamp | None = None,
) -> Checked:
    """What can be kept of a request, bytes as they came unless something must be taken out.

    Raises RefusedError naming `field` when the bytes are no request.
    """
    request = validation.parse(otlp_request, field)
    spans = validation.count(request)
    refused = validation.take_out(request)
    if refused:
        otlp_request = request.SerializeToString()
    envelope = Envelope(project_id, producer, event_id, occurred_at)
    records, too_large = records_of(request, otlp_request, spans - len(refused), envelope)
    return Checked(records, [*refused, *too_large], spans - len(refused) - len(too_large))


async def append_all(appender: Appender, records: Sequence[SpansRecord], *, within: float) -> list[Position]:
    """Where the records are, once the log has all of them.

    Raises RefusedError (UNAVAILABLE) when it has not: nothing is known to be stored.
    """
    started = time.perf_counter()
    outcomes = await asyncio.gather(
        *(appender.append(TRACES, key=record.key, value=record.value(), within=within) for record in records),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, LogUnavailableError):
            raise unavailable(str(outcome)) from outcome
        if isinstance(outcome, BaseException):
            raise outcome
    metrics.APPEND_SECONDS.observe(time.perf_counter() - started)
    await failpoint("gateway.acked")
    return [outcome for outcome in outcomes if isinstance(outcome, Position)]


def time_left(context: Context, most: float) -> float:
    """Seconds an append may take, within the caller's deadline.

    Raises RefusedError when none are left.
    """
    remaining = context.time_remaining()
    left = most if remaining is None else min(most, remaining - _ANSWER_SECONDS)
    if left <= 0:
        raise unavailable("the call's deadline is too near")
    return left


def producer_of(context: Context) -> Producer:
    """The program that sends, by its own word: an SDK's headers, else the user agent's first product."""
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if name := metadata.get("x-langfuse-sdk-name"):
        return Producer(name=f"langfuse-{name}"[:64], version=metadata.get("x-langfuse-sdk-version", "")[:64])
    if name := metadata.get("lodestream-sdk-name"):
        return Producer(name=name[:64], version=metadata.get("lodestream-sdk-version", "")[:64])
    product, _, version = metadata.get("user-agent", "").partition(" ")[0].partition("/")
    return Producer(name=product[:64], version=version[:64])
