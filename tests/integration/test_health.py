"""Each service says how it fares: healthy, not while what it depends on is frozen, and healthy again by itself."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from services.all_in_one.processes import Process
from shared.runtime.probe import grpc_serves
from tests.conftest import PrivateServer, RunningService, StartService
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION, get
from tests.support.servers import Servers

GATEWAY, QUERY = "services.write.gateway", "services.read.query"
WRITES = "opentelemetry.proto.collector.trace.v1.TraceService"
READS = "lodestream_proto.v1.QueryService"


@contextmanager
def frozen(server: Process) -> Iterator[None]:
    """Connected and silent, with its children: a session of Postgres is a process of its own."""
    leader = psutil.Process(server.pid)
    family = [leader, *leader.children(recursive=True)]
    for each in family:
        each.suspend()
    try:
        yield
    finally:
        for each in family:
            each.resume()


async def says(service: RunningService, name: str, *, serving: bool) -> None:
    """Wait until it says so of one of its services."""

    async def it_does() -> bool:
        return await grpc_serves(service.address, name) is serving

    await until(it_does, deadline=20, what=f"{name} serving: {serving}")


async def page(projection: RunningService) -> tuple[int, str]:
    """The status and the reason on /health."""
    status, body = await asyncio.to_thread(get, projection.metrics, "/health")
    return status, json.loads(body).get("reason", "")


async def test_the_query_service_is_as_well_as_postgres(private_postgres: PrivateServer, service: StartService) -> None:
    postgres = await private_postgres()
    query = await service(QUERY, LODESTREAM_POSTGRES=postgres.command.address)
    await says(query, READS, serving=True)
    with frozen(postgres):
        await says(query, READS, serving=False)
        assert await grpc_serves(query.address), "the process itself is alive: there is no cause to restart it"
    await says(query, READS, serving=True)
    await postgres.stop()
    await says(query, READS, serving=False)
    await postgres.start()
    await says(query, READS, serving=True)


async def test_the_gateway_tells_of_writes_and_reads_apart(
    private_kafka: PrivateServer, database: str, service: StartService
) -> None:
    kafka = await private_kafka()
    query = await service(QUERY, LODESTREAM_POSTGRES=database)
    gateway = await service(
        GATEWAY, LODESTREAM_POSTGRES=database, LODESTREAM_KAFKA=kafka.command.address, LODESTREAM_QUERY=query.address
    )
    await says(gateway, WRITES, serving=True)
    await says(gateway, READS, serving=True)
    with frozen(kafka):  # nobody writes: silence has to be noticed without a record that gets no answer
        await says(gateway, WRITES, serving=False)
        assert await grpc_serves(gateway.address, READS)
        assert await grpc_serves(gateway.address)
    await says(gateway, WRITES, serving=True)
    with frozen(query.process):
        await says(gateway, READS, serving=False)
        assert await grpc_serves(gateway.address, WRITES)
    await says(gateway, READS, serving=True)


@pytest.mark.parametrize("name", ["kafka", "postgres"])
async def test_a_projection_that_hears_nothing_says_so(
    private_kafka: PrivateServer, private_postgres: PrivateServer, service: StartService, name: str
) -> None:
    kafka, postgres = await private_kafka(), await private_postgres()
    addresses = {"LODESTREAM_KAFKA": kafka.command.address, "LODESTREAM_POSTGRES": postgres.command.address}
    projection = await service(TRACES_PROJECTION, **addresses)
    server = {"kafka": kafka, "postgres": postgres}[name]
    assert await page(projection) == (200, "")

    async def unwell() -> bool:
        status, reason = await page(projection)
        return status == 503 and "has not answered for" in reason

    async def well() -> bool:
        return (await page(projection))[0] == 200

    with frozen(server):
        await until(unwell, deadline=30)
    await until(well, deadline=30)


async def test_a_projection_that_is_asked_to_end_ends_without_complaint(
    servers: Servers, database: str, service: StartService
) -> None:
    projection = await service(
        TRACES_PROJECTION,
        LODESTREAM_POSTGRES=database,
        LODESTREAM_TRACES_GROUP="health-end",
        LODESTREAM_LOG_FORMAT="json",
    )
    await projection.process.stop()
    assert await projection.process.ended() == 0
    ending = projection.process.output().partition('"event": "projecting"')[2]
    assert '"level": "error"' not in ending.partition('"event": "Shutting down"')[2], ending
