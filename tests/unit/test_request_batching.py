"""Small requests that come together go together; each is told where it is, or that nothing is known."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from services.write.gateway.batching import RequestBatcher, SmallRequest
from services.write.gateway.otlp_request import spans_of
from services.write.gateway.records import Envelope
from shared.event_log.append import Appender, LogUnavailableError, Record
from shared.event_log.position import Position
from shared.spans.blocks import open_block
from tests.support.records import span

NOW = Timestamp(seconds=1_800_000_000)


class HeldLog:
    """Takes records and acknowledges them when it is let."""

    def __init__(self) -> None:
        self.taken: list[Record] = []
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def append(self, records: Sequence[Record], *, within: float) -> list[Position]:
        assert within > 0
        self.taken += records
        at = len(self.taken)
        await self.open.wait()
        if self.failure:
            raise self.failure
        return [Position("t", 0, at)]

    def traces(self) -> list[list[int]]:
        """Of each record the traces in it, as numbers."""
        return [[int.from_bytes(each.trace_id, "big") for each in spans_of(_opened(record))] for record in self.taken]


def _opened(record: Record) -> ExportTraceServiceRequest:
    recorded = Event.FromString(record.value).spans_recorded
    request = open_block(recorded.compression, recorded.otlp_request)
    assert recorded.span_count == len(list(spans_of(request)))
    return request


def sharing(log: HeldLog) -> RequestBatcher:
    return RequestBatcher(cast("Appender", log), ack_seconds=5)


def small(trace: int, *, project: str = "p", producer: str = "x", payload: int = 0) -> SmallRequest:
    its = span(trace, 1, name="n" * payload or "step")
    raw = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[its])])])
    envelope = Envelope(project, Producer(name=producer), "01890000-0000-7000-8000-000000000000", NOW, NOW)
    return SmallRequest(envelope, raw.SerializeToString(), 1, its.trace_id)


def start(shared: RequestBatcher, *requests: SmallRequest, within: float = 5) -> list[asyncio.Task[Position]]:
    return [asyncio.create_task(shared.append(request, within=within)) for request in requests]


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_what_comes_together_goes_together_and_what_comes_meanwhile_goes_next() -> None:
    log = HeldLog()
    shared = sharing(log)
    first = start(shared, *(small(n) for n in (1, 2, 3)))
    await turns()
    later = start(shared, *(small(n) for n in (4, 5)))
    await turns()
    assert log.traces() == [[1, 2, 3]], "the others wait for company"
    log.open.set()
    assert {await task for task in first} == {Position("t", 0, 1)}
    assert {await task for task in later} == {Position("t", 0, 2)}
    assert log.traces() == [[1, 2, 3], [4, 5]]


async def test_only_one_project_and_one_producer_share() -> None:
    log = HeldLog()
    log.open.set()
    requests = [small(1), small(2, project="q"), small(3, producer="y"), small(4)]
    await asyncio.gather(*start(sharing(log), *requests))
    assert sorted(log.traces()) == [[1, 4], [2], [3]]
    projects = [Event.FromString(record.value).project_id for record in log.taken]
    assert sorted(projects) == ["p", "p", "q"]


async def test_enough_for_a_record_goes_at_once() -> None:
    log = HeldLog()
    tasks = start(sharing(log), *(small(n, payload=60_000) for n in range(1, 12)))
    await turns()
    assert log.traces() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], "without an acknowledgement of the first"
    log.open.set()
    await asyncio.gather(*tasks)
    assert log.traces()[2:] == [[11]]


async def test_a_deadline_is_its_owners_alone() -> None:
    log = HeldLog()
    (hasty,), (patient,) = start(shared := sharing(log), small(1), within=0.01), start(shared, small(2))
    with pytest.raises(LogUnavailableError, match=r"not acknowledged within 0\.0 s"):
        await hasty
    log.open.set()
    assert await patient == Position("t", 0, 1)


async def test_who_gave_up_while_gathering_is_not_appended() -> None:
    log = HeldLog()
    shared = sharing(log)
    (first,) = start(shared, small(1))
    await turns()
    gone, stayed = start(shared, small(2), small(3))
    await turns()
    gone.cancel()
    await turns()
    log.open.set()
    await asyncio.gather(first, stayed)
    assert log.traces() == [[1], [3]]


@pytest.mark.parametrize("failure", [LogUnavailableError("away"), ValueError("unforeseen")])
async def test_a_failure_is_told_to_all_and_the_next_are_tried(failure: Exception) -> None:
    log = HeldLog()
    log.failure = failure
    log.open.set()
    shared = sharing(log)
    outcomes: list[Any] = await asyncio.gather(*start(shared, small(1), small(2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(failure)] * 2
    log.failure = None
    assert (await shared.append(small(3), within=5)).offset == 2
