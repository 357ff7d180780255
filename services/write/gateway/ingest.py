"""IngestService: events in, a result for each; on single calls or on one open stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import grpc
from lodestream_proto.v1 import ingest_pb2 as pb

from services.write.gateway import metrics
from services.write.gateway.events import CheckedEvent, ReferenceLookup, check_event, read_events
from services.write.gateway.otlp_request import WireError, split
from services.write.gateway.spans import OTLP_REQUEST, opened_total
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.runtime.fairness import OverloadedError
from shared.runtime.refusal import Context, InvalidError, UnavailableError, answering

SERVICE = pb.DESCRIPTOR.services_by_name["IngestService"].full_name
_RECORD = pb.StreamRequest.RECORD_FIELD_NUMBER


class IngestService:
    """Takes events of any kind but commands; answers when the log has every accepted one."""

    def __init__(self, rpcs: WriteRpcs, references: ReferenceLookup) -> None:
        self._rpcs, self._references = rpcs, references

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return every method of the service, from bytes to bytes."""
        methods = {
            "Record": self._rpcs.unary("Record", self._record),
            "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _record(self, call: WriteCall) -> pb.RecordResponse:
        """Record events, each of which is accepted or refused by itself.

        Args:
            call: A RecordRequest of at most `max_events` events.

        Returns:
            A result for each event, in order, and the position of those that were accepted.

        Raises:
            InvalidError: The bytes are not a RecordRequest, or it has too many events.
            TooMuchError: The events are too much together, in spans, bytes or JSON values: none of them is kept.
            UnavailableError: The log or the tables that events refer to don't answer: nothing is known to be stored.
        """
        settings, admission = self._rpcs.settings, self._rpcs.admission
        with call.hold_room() as room:
            async with admission.turns.of(call.project_id) as turn:
                events = await read_events(call.request, settings.max_events, turn)
                # Compressed spans hold the room that they take when they are decompressed, before any of them is.
                room.grow(opened_total(events, max_bytes=settings.max_message_bytes))
            references = await self._references.resolve(call.project_id, events)
            checked = []
            async with admission.turns.of(call.project_id) as turn:
                for event in events:
                    checked.append(
                        await check_event(
                            event, call.project_id, call.context, settings, references, turn=turn, room=room
                        )
                    )
                    await turn.give()
            records = [record for event in checked for record in event.records]
            if spans := sum(event.spans.spans for event in checked if event.spans):
                lane = admission.lane(call.project_id, size=room.size, spans=spans)
                records = [replace(record, lane=lane) for record in records]
            position = await call.append(records)
        return pb.RecordResponse(results=_results(checked), position=position)

    async def _stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Record the events of each message; up to `max_pipelined` of them at the same time.

        Args:
            requests: StreamRequests.
            context: The call, which may stay open for ever.

        Yields:
            A StreamResponse for each request, in order: what Record answers, or when to send the request again.

        A request that Record refuses for good ends the stream with that status.
        """
        admission = self._rpcs.admission
        await answering("Stream.open", context, partial(admission.project_of, context))
        under_way: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(self._rpcs.settings.max_pipelined)
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
                yield await answering("Stream", context, partial(_result_of, task))
        finally:
            for unfinished in (reading, *tasks):
                unfinished.cancel()
            await asyncio.gather(reading, *tasks, return_exceptions=True)

    async def _answer(self, request: bytes, context: Context) -> bytes:
        """Admit one message of a stream, which is paced like a call, and record its events."""
        admission = self._rpcs.admission
        try:
            await admission.pacer.pace(await admission.project_of(context))
            project_id = await admission.admit(context)
            recorded = await self._record(WriteCall(project_id, _record_in(request), context, self._rpcs))
        except (OverloadedError, UnavailableError) as refused:
            retry = pb.StreamRetry(reason=refused.reason, retry_after_ms=int((refused.retry_seconds or 1) * 1000))
            return pb.StreamResponse(retry=retry).SerializeToString()
        return pb.StreamResponse(recorded=recorded).SerializeToString()


def _results(checked: Sequence[CheckedEvent]) -> list[pb.EventResult]:
    """Return what became of each event, now that the log has what was kept of them."""
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
            pb.EventResult(
                event_id=event.event_id,
                outcome=pb.EVENT_OUTCOME_ACCEPTED if event.records else pb.EVENT_OUTCOME_REFUSED,
                field=field,
                reason=reason,
                rejected_spans=len(refused),
            )
        )
    return results


def _record_in(request: bytes) -> bytes:
    """Return the bytes of the RecordRequest in a StreamRequest."""
    try:
        parts, _ = split(request, _RECORD, "request")
    except WireError as error:
        raise InvalidError("request", f"is no StreamRequest: {error}") from None
    return b"".join(parts)


async def _result_of(task: asyncio.Task[bytes]) -> bytes:
    return await task
