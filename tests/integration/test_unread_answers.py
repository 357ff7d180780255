"""A client that never reads what is answered costs no process more memory than its project may have, by either port."""

import asyncio
import re
import secrets
from contextlib import AsyncExitStack

import grpc
import pytest
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.experiments_pb2 import WatchExperimentRequest
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from tests.conftest import StartService
from tests.support.experiment_records import folding_experiments, requested, result
from tests.support.experiment_records import record as experiment_record
from tests.support.gateway import bearer, metric, new_key
from tests.support.http2 import calls_unread
from tests.support.memory import MIB, peak, resident
from tests.support.polling import until
from tests.support.projecting import projecting
from tests.support.read_model import get
from tests.support.records import record, span

TAIL_TRACES = "/lodestream_proto.v1.QueryService/TailTraces"
WATCH_EXPERIMENT = "/lodestream_proto.v1.ExperimentService/WatchExperiment"
GET_TRACE = "/lodestream_proto.v1.QueryService/GetTrace"
_CALLS = re.compile(r'^lodestream_calls_total\{code="(\w+)",method="GetTrace"\} ([\d.]+)$', re.MULTILINE)
_CONNECTIONS, _CALLS_EACH, _STREAMS = 2, 90, 40
_OPENINGS = ("WatchExperiment.open", "TailTraces.open")


def calls(metrics: str) -> dict[str, int]:
    """How many were answered, by their status."""
    status, page = get(metrics, "/metrics")
    assert status == 200
    return {code: int(float(number)) for code, number in _CALLS.findall(page.decode())}


def streams_beyond_share(metrics: str, method: str) -> float:
    """How many streams were refused because the project has too many."""
    return metric(metrics, rf'lodestream_calls_total\{{code="RESOURCE_EXHAUSTED",method="{method}"\}}', missing=0.0)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("port", ["query", "gateway"])
async def test_answers_and_streams_that_nobody_reads_are_bounded(
    database: str, service: StartService, port: str
) -> None:
    hostile, other = await new_key(database, "hostile"), await new_key(database, "other")
    noise = [span(1, n, attributes={"input.value": secrets.token_hex(MIB // 2)}) for n in range(1, 13)]
    async with projecting(database) as process:
        for offset, each in enumerate(noise):
            await process.fold(record([each], offset=offset, project="hostile"))
        await process.fold(record([span(2, 1)], partition=1, offset=0, project="other"))
    results = [result(f"{n}", output_json=f'"{secrets.token_hex(50_000)}"') for n in range(60)]
    async with folding_experiments(database) as experiments:
        for offset, told in enumerate([requested("r"), *results]):
            await experiments.fold(experiment_record(told, offset, project="hostile"))
    query = await service("services.read.query", LODESTREAM_POSTGRES=database)
    gateway = await service("services.write.gateway", LODESTREAM_POSTGRES=database, LODESTREAM_QUERY=query.address)
    door = {"query": query, "gateway": gateway}[port]
    before = {each: resident(each.process) for each in (query, gateway)}
    request = pb.GetTraceRequest(trace_id=f"{1:032x}", with_content=True).SerializeToString()
    streams = {
        WATCH_EXPERIMENT: WatchExperimentRequest(run_id="r", with_items=True).SerializeToString(),
        TAIL_TRACES: pb.TailTracesRequest().SerializeToString(),
    }
    async with AsyncExitStack() as stack:
        for method, asked in streams.items():
            unread = calls_unread(door.address, method, asked, dict(bearer(hostile)), count=_STREAMS)
            await stack.enter_async_context(unread)
        for _ in range(_CONNECTIONS):
            unread = calls_unread(door.address, GET_TRACE, request, dict(bearer(hostile)), count=_CALLS_EACH)
            await stack.enter_async_context(unread)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(door.address))

        async def all_answered() -> bool:
            answered = await asyncio.to_thread(calls, query.metrics)
            return sum(answered.values()) >= _CONNECTIONS * _CALLS_EACH

        async def streams_refused() -> bool:
            refused = [await asyncio.to_thread(streams_beyond_share, query.metrics, method) for method in _OPENINGS]
            return sum(refused) >= _STREAMS

        await until(all_answered, deadline=120)
        await until(streams_refused, deadline=60)
        answer = await QueryServiceStub(channel).GetTrace(
            pb.GetTraceRequest(trace_id=f"{2:032x}"), metadata=bearer(other), timeout=10
        )
        assert answer.trace.span_count == 1
        grown = {each.process.command.name: peak(each.process) - size for each, size in before.items()}
        assert max(grown.values()) < 512 * MIB, grown
