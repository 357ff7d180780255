"""A project that asks for too much at once is told so, with a time to come back, while another is served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from shared.auth.keys import NewKey
from shared.event_log.position import Position, to_token
from shared.event_log.topics import TRACES
from tests.conftest import StartService
from tests.support.gateway import bearer, new_key, refusal, retry_delay

NEVER = to_token([Position(TRACES, 0, 10**9)])


@asynccontextmanager
async def reading(service: StartService, database: str, **limits: str) -> AsyncIterator[Any]:
    query = await service("services.read.query", LODESTREAM_POSTGRES=database, **limits)
    async with grpc.aio.insecure_channel(query.address) as channel:
        yield QueryServiceStub(channel)


async def listed(query: Any, key: NewKey, *, wait_for: str = "") -> pb.ListTracesResponse:
    waiting = pb.WaitFor(position=wait_for, timeout_ms=30_000) if wait_for else None
    request = pb.ListTracesRequest(wait_for=waiting)
    answer: pb.ListTracesResponse = await query.ListTraces(request, metadata=bearer(key), timeout=30)
    return answer


async def test_reads_beyond_a_projects_share_are_refused(database: str, service: StartService) -> None:
    greedy, other = await new_key(database, "greedy"), await new_key(database, "other")
    async with reading(service, database, LODESTREAM_QUERY_REQUESTS_PER_PROJECT="2") as query:
        await listed(query, greedy)
        waiting = [asyncio.create_task(listed(query, greedy, wait_for=NEVER)) for _ in range(3)]
        (refused,), rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        error = refused.exception()
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "too many reads at once: this project has 2" in str(error.details())
        assert retry_delay(error)
        assert not (await listed(query, other)).traces
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def test_streams_beyond_a_projects_share_are_refused(database: str, service: StartService) -> None:
    greedy, other = await new_key(database, "greedy"), await new_key(database, "other")
    async with reading(service, database, LODESTREAM_QUERY_STREAMS_PER_PROJECT="1") as query:
        tails = [query.TailTraces(pb.TailTracesRequest(), metadata=bearer(greedy), timeout=30) for _ in range(2)]
        ends = [asyncio.create_task(refusal(tail.read())) for tail in tails]
        (first,), _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert first.result().code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        tail = query.TailTraces(pb.TailTracesRequest(), metadata=bearer(other), timeout=1)
        assert (await refusal(tail.read())).code() == grpc.StatusCode.DEADLINE_EXCEEDED  # it was let in
        for each in tails:
            each.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
