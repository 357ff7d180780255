"""Small requests that arrive together share records; each keeps its own answer, position and project."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.conftest import StartService
from tests.support.gateway import MODULE, Door, new_key, opened, refusal, request_of, spans_in
from tests.support.log_access import ends, read_range
from tests.support.records import span
from tests.support.servers import Servers

MANY = 80


@pytest.fixture
async def door(servers: Servers, database: str, service: StartService) -> AsyncIterator[Door]:
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database)
    async with opened(gateway.address, await new_key(database), dsn=database, kafka=servers.kafka) as door:
        yield door


async def test_each_of_many_is_where_its_position_says(door: Door) -> None:
    answers = await asyncio.gather(*(door.export(request_of(span(n, 1), span(n, 2))) for n in range(1, MANY + 1)))
    traces_at: dict[str, set[int]] = defaultdict(set)
    for n, (answer, token) in enumerate(answers, 1):
        assert not answer.partial_success.rejected_spans
        traces_at[token].add(n)
    assert len(traces_at) < MANY, "some shared a record"
    for token, traces in traces_at.items():
        (record,) = await door.at(token)
        assert record.event is not None
        found = spans_in(record)
        assert record.event.spans_recorded.span_count == len(found)
        assert {int.from_bytes(each.trace_id, "big") for each in found} == traces
        assert len(found) == 2 * len(traces)


async def test_a_bad_request_among_many_hurts_no_other(door: Door) -> None:
    half_bad = span(1, 2)
    half_bad.span_id = b""
    good = [door.export(request_of(span(n, 1))) for n in range(2, MANY)]
    bad = [refusal(door.export_bytes(garbage)) for garbage in (b"\x0a\x05abc", b"\xff")]
    errors, (partly, token), answers = await asyncio.gather(
        asyncio.gather(*bad), door.export(request_of(span(1, 1), half_bad)), asyncio.gather(*good)
    )
    assert {error.code() for error in errors} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert partly.partial_success.rejected_spans == 1
    assert partly.partial_success.error_message.startswith("resource_spans[0].scope_spans[0].spans[1].span_id: ")
    assert {answer.partial_success.rejected_spans for answer, _ in answers} == {0}
    kept = [found for record in await door.at(token) for found in spans_in(record) if found.trace_id[-1] == 1]
    assert [found.span_id[-1] for found in kept] == [1]


async def test_projects_never_share(door: Door) -> None:
    other = door.with_key(await new_key(door.dsn, "umbrella"))
    answers = await asyncio.gather(
        *((other if n % 2 else door).export(request_of(span(n, 1))) for n in range(1, MANY + 1))
    )
    projects = set()
    for token in {token for _, token in answers}:
        (record,) = await door.at(token)
        assert record.event is not None
        odd = {found.trace_id[-1] % 2 for found in spans_in(record)}
        assert odd == {1 if record.event.project_id == "umbrella" else 0}
        projects.add(record.event.project_id)
    assert projects == {"acme", "umbrella"}


async def test_a_deadline_too_near_is_told_and_costs_no_other(door: Door) -> None:
    hasty, (_, token) = await asyncio.gather(
        refusal(door.export(request_of(span(1, 1)), timeout=0.1)), door.export(request_of(span(2, 1)))
    )
    assert hasty.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert token


async def test_killed_between_the_logs_acknowledgement_and_the_replies(
    servers: Servers, database: str, service: StartService
) -> None:
    key, before = await new_key(database), await ends(servers.kafka)
    doomed = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_FAILPOINTS="gateway.acked=kill@40")
    async with opened(doomed.address, key) as door:
        requests = {n: request_of(span(n, 1)).SerializeToString() for n in range(1, MANY + 1)}
        calls = [door.export_bytes(raw) for raw in requests.values()]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert await doomed.process.ended() == -9
    unsure = [n for n, outcome in zip(requests, outcomes, strict=True) if isinstance(outcome, BaseException)]
    assert 0 < len(unsure) <= MANY
    again = await service(MODULE, LODESTREAM_POSTGRES=database)
    async with opened(again.address, key) as door:
        await asyncio.gather(*(door.export_bytes(requests[n]) for n in unsure))
    records = [record for record in await read_range(servers.kafka, before) if record.event]
    stored = {int.from_bytes(found.trace_id, "big") for record in records for found in spans_in(record)}
    assert stored == set(requests), "acknowledged or sent again: nothing is lost, nothing invented"
