"""Gateways come and go: several on a port, a gentle end under load, and clear words when they can't start."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.all_in_one.ports import find_port
from shared.event_log.codec import LogRecord
from tests.conftest import StartService
from tests.support.gateway import MODULE, Door, new_key, opened, request_of, spans_in
from tests.support.log_access import ends, read_range
from tests.support.polling import until
from tests.support.records import span
from tests.support.servers import Servers

# CANCELLED: gRPC says so of a call that came in while the server was closing its port. OTLP's clients retry both.
RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_two_processes_share_a_port_and_one_may_leave(
    servers: Servers, database: str, service: StartService
) -> None:
    port, key, shared = find_port(), await new_key(database), {"LODESTREAM_GATEWAY_REUSE_PORT": "true"}
    first = await service(MODULE, port=port, LODESTREAM_POSTGRES=database, **shared)
    second = await service(MODULE, port=port, LODESTREAM_POSTGRES=database, **shared)

    async def write(number: int) -> str:
        async with opened(first.address, key) as door:  # a connection each: the kernel deals them out
            return (await door.export(request_of(span(number, 1))))[1]

    calls = 'lodestream_calls_total{code="OK",method="Export"}'

    async def write_until_both_have_served() -> bool:
        await asyncio.gather(*(write(number) for number in range(1, 9)))
        return all([await served(gateway.metrics, calls) for gateway in (first, second)])

    await until(write_until_both_have_served, deadline=20, what="both serve")
    await first.process.stop()
    assert all(await asyncio.gather(*(write(number) for number in range(1, 9))))


async def served(metrics: str, name: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection(*metrics.split(":"))
    except OSError:  # the port answers already, by the other process
        return False
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return name in page


async def test_a_taken_port_is_told_in_a_line(servers: Servers, database: str, service: StartService) -> None:
    first = await service(MODULE, LODESTREAM_POSTGRES=database)
    child = await asyncio.create_subprocess_exec(
        *first.process.command.argv,
        env={**(first.process.command.environment or {}), "LODESTREAM_METRICS_PORT": "0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 1
    assert b"LODESTREAM_GATEWAY_PORT: can't listen on" in said
    assert b"Traceback" not in said


async def test_sigterm_under_load_ends_no_call_badly(servers: Servers, database: str, service: StartService) -> None:
    gateway, key = await service(MODULE, LODESTREAM_POSTGRES=database), await new_key(database)
    outcomes: list[grpc.StatusCode] = []
    acked: set[int] = set()
    before = await ends(servers.kafka)
    async with opened(gateway.address, key) as door:

        async def load(worker: int) -> None:
            for number in range(10_000):
                trace = worker * 10_000 + number + 1
                try:
                    await door.export(request_of(span(trace, 1)))
                except grpc.aio.AioRpcError as error:
                    outcomes.append(error.code())
                    return
                acked.add(trace)

        workers = [asyncio.create_task(load(worker)) for worker in range(8)]
        await until(lambda: len(acked) > 100, what="it is under load")
        assert await health(door) == HealthCheckResponse.SERVING
        begin = time.monotonic()
        pid = gateway.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        assert await gateway.process.ended() == 0
        assert time.monotonic() - begin < 10
        await asyncio.gather(*workers)
    assert set(outcomes) <= RETRYABLE
    stored = {
        int.from_bytes(found.trace_id, "big")
        for record in await read_events(servers.kafka, before)
        for found in spans_in(record)
    }
    assert acked <= stored


async def read_events(kafka: str, before: Mapping[int, int]) -> list[LogRecord]:
    return [record for record in await read_range(kafka, before) if record.event]


async def health(door: Door, service: str = "") -> int:
    stub: HealthStub = HealthStub(door.channel)
    return int((await stub.Check(HealthCheckRequest(service=service), timeout=5)).status)
