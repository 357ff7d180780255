"""IngestService: events in, a result for each; on single calls or on one open stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

from lodestream_proto.v1.ingest_pb2 import (
    EVENT_OUTCOME_ACCEPTED,
    EVENT_OUTCOME_REFUSED,
    EventResult,
    RecordResponse,
    StreamResponse,
    StreamRetry,
)

from services.write.gateway import metrics
from services.write.gateway.admission import Admission, OverQuotaError
from services.write.gateway.events import CheckedEvent, Known, check_event, read_events
from services.write.gateway.otlp_request import WireError, split
from services.write.gateway.spans import OTLP_REQUEST, append_all, opened_total
from services.write.gateway.write_rpc import exhausted, the_request
from shared.event_log.append import Appender
from shared.event_log.position import to_token
from shared.runtime.fairness import OverloadedError
from shared.runtime.refusal import Context, InvalidError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings

SERVICE = "lodestream_proto.v1.IngestService"
_RECORD = 1  # field number in StreamRequest


class IngestService:
    """Answers when the log has every accepted event."""

    def __init__(self, settings: GatewaySettings, admission: Admission, appender: Appender, known: Known) -> None:
        self._settings, self._admission, self._appender, self._known = settings, admission, appender, known

    async def record(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Record, bytes to bytes."""

        async def answer() -> bytes:
            try:
                project_id = await self._admission.admit(context)
                request = await the_request(requests)
                return (await self._record(request, project_id, context)).SerializeToString()
            except OverQuotaError as refused:
                raise exhausted(refused) from None

        return await answering("Record", context, answer)

    async def stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Stream, bytes to bytes: answers in the order of the requests, some of which are handled at the same time."""
        await answering("Stream.open", context, partial(self._admission.project_of, context))
        under_way: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(self._settings.max_pipelined)
        tasks: set[asyncio.Task[bytes]] = set()

        async def read() -> None:
            async for request in requests:
                task = asyncio.create_task(self._answer(request, context))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                await under_way.put(task)
            await under_way.put(None)

        reading = asyncio.create_task(read())
        try:
            while (task := await under_way.get()) is not None:
                yield await answering("Stream", context, partial(_outcome, task))
        finally:
            for unfinished in (reading, *tasks):
                unfinished.cancel()
            await asyncio.gather(reading, *tasks, return_exceptions=True)

    async def _answer(self, request: bytes, context: Context) -> bytes:
        try:
            project_id = await self._admission.project_of(context)
            await self._admission.pacer.pace(project_id)
            project_id = await self._admission.admit(context)
            recorded = await self._record(_record_in(request), project_id, context)
        except (OverloadedError, UnavailableError) as refused:
            retry = StreamRetry(reason=refused.reason, retry_after_ms=int((refused.retry_seconds or 1) * 1000))
            return StreamResponse(retry=retry).SerializeToString()
        return StreamResponse(recorded=recorded).SerializeToString()

    async def _record(self, request: bytes, project_id: str, context: Context) -> RecordResponse:
        settings = self._settings
        with self._admission.hold(project_id, len(request)) as room:
            async with self._admission.turns.of(project_id) as turn:
                events = await read_events(request, settings.max_events, turn)
                # What came compressed is held as it will be when it is opened, before anything is.
                room.grow(opened_total(events, max_bytes=settings.max_message_bytes))
            named = await self._known.find(project_id, events)
            checked = []
            async with self._admission.turns.of(project_id) as turn:
                for event in events:
                    checked.append(await check_event(event, project_id, context, settings, named, turn=turn, room=room))
                    await turn.give()
            records = [record for event in checked for record in event.records]
            if told := sum(event.spans.spans for event in checked if event.spans):
                lane = self._admission.lane(project_id, size=room.size, spans=told)
                records = [replace(record, lane=lane) for record in records]
            positions = await append_all(self._appender, records, context, most=settings.ack_seconds)
        return RecordResponse(results=_results(checked), position=to_token(positions))


def _results(checked: Sequence[CheckedEvent]) -> list[EventResult]:
    """What became of each event, now that the log has what was kept of them."""
    results = []
    for event in checked:
        field, reason, refused = event.field, event.reason, event.spans.refused if event.spans else ()
        if event.spans:
            metrics.SPANS.labels("accepted").inc(event.spans.kept)
            metrics.SPANS.labels("refused").inc(len(refused))
        else:
            metrics.EVENTS.labels(event.kind, "accepted" if event.records else "refused").inc()
        if refused:
            field, reason = f"{OTLP_REQUEST}.{refused[0].path}", refused[0].reason
        results.append(
            EventResult(
                event_id=event.event_id,
                outcome=EVENT_OUTCOME_ACCEPTED if event.records else EVENT_OUTCOME_REFUSED,
                field=field,
                reason=reason,
                rejected_spans=len(refused),
            )
        )
    return results


def _record_in(request: bytes) -> bytes:
    """The RecordRequest in a StreamRequest."""
    try:
        parts, _ = split(request, _RECORD, "request")
    except WireError as error:
        raise InvalidError("request", f"is no StreamRequest: {error}") from None
    return b"".join(parts)


async def _outcome(task: asyncio.Task[bytes]) -> bytes:
    return await task
