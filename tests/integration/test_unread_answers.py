"""A client that never reads what is answered costs no process more memory than its project may have, by either port."""

import asyncio
import re
import secrets
from contextlib import AsyncExitStack

import grpc
import pytest
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from tests.conftest import StartService
from tests.gateway import bearer, new_key
from tests.http2 import calls_unread
from tests.memory import MIB, peak, resident
from tests.polling import until
from tests.projecting import projecting
from tests.read_model import get
from tests.records import record, span

GET_TRACE = "/lodestream_proto.v1.QueryService/GetTrace"
_CALLS = re.compile(r'^lodestream_calls_total\{code="(\w+)",method="GetTrace"\} ([\d.]+)$', re.MULTILINE)
_CONNECTIONS, _CALLS_EACH = 2, 90


def calls(metrics: str) -> dict[str, int]:
    """How many were answered, by their status."""
    status, page = get(metrics, "/metrics")
    assert status == 200
    return {code: int(float(number)) for code, number in _CALLS.findall(page.decode())}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("port", ["query", "gateway"])
async def test_answers_that_nobody_reads_are_bounded(database: str, service: StartService, port: str) -> None:
    hostile, other = await new_key(database, "hostile"), await new_key(database, "other")
    noise = [span(1, n, attributes={"input.value": secrets.token_hex(MIB // 2)}) for n in range(1, 13)]
    async with projecting(database) as process:
        for offset, each in enumerate(noise):
            await process.fold(record([each], offset=offset, project="hostile"))
        await process.fold(record([span(2, 1)], partition=1, offset=0, project="other"))
    query = await service("services.read.query", LODESTREAM_POSTGRES=database)
    gateway = await service("services.write.gateway", LODESTREAM_POSTGRES=database, LODESTREAM_QUERY=query.address)
    door = {"query": query, "gateway": gateway}[port]
    before = {each: resident(each.process) for each in (query, gateway)}
    request = pb.GetTraceRequest(trace_id=f"{1:032x}", with_content=True).SerializeToString()
    async with AsyncExitStack() as stack:
        for _ in range(_CONNECTIONS):
            unread = calls_unread(door.address, GET_TRACE, request, dict(bearer(hostile)), count=_CALLS_EACH)
            await stack.enter_async_context(unread)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(door.address))

        async def all_answered() -> bool:
            answered = await asyncio.to_thread(calls, query.metrics)
            return sum(answered.values()) >= _CONNECTIONS * _CALLS_EACH

        await until(all_answered, deadline=120)
        answer = await QueryServiceStub(channel).GetTrace(
            pb.GetTraceRequest(trace_id=f"{2:032x}"), metadata=bearer(other), timeout=10
        )
        assert answer.trace.span_count == 1
        grown = {each.process.command.name: peak(each.process) - size for each, size in before.items()}
        assert max(grown.values()) < 512 * MIB, grown
