"""A query service over the experiments projection, and projects in it that tests fold events into."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import grpc
import pytest
from lodestream_proto.v1 import datasets_pb2, experiments_pb2
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub

from services.all_in_one.processes import Process, ProcessManager
from services.all_in_one.services import SERVICES, service_command
from shared.auth.keys import create_key, create_project
from shared.storage.postgres import SEARCH_PATH
from tests.support.experiment_records import folding_experiments, record
from tests.support.projecting import Projecting
from tests.support.servers import Servers

DATASET_RPCS = {method.name for method in datasets_pb2.DESCRIPTOR.services_by_name["DatasetService"].methods}


@dataclass(frozen=True, slots=True)
class Reading:
    """The service, and the projection before it."""

    dsn: str
    query: Process
    channel: grpc.aio.Channel
    projection: Projecting
    offsets: count = field(default_factory=count)  # type: ignore[type-arg]

    async def project(self) -> "Project":
        """A new one, with a key."""
        project_id = f"p-{uuid4().hex[:8]}"
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": SEARCH_PATH})
        try:
            await create_project(connection, project_id, project_id)
            key = await create_key(connection, project_id)
        finally:
            await connection.close()
        return Project(self, project_id, key.secret_key)


@dataclass(frozen=True, slots=True)
class Project:
    """A project of the service's."""

    reading: Reading
    project_id: str
    secret_key: str

    @property
    def bearer(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.secret_key}"),)

    async def tell(self, *events: Event, after_ms: int | None = None) -> None:
        """Fold events, in order and in one batch; each is appended a second after the one before unless it is said."""
        records = [
            record(event, next(self.reading.offsets), project=self.project_id, after_ms=after_ms) for event in events
        ]
        await self.reading.projection.fold(*records)

    async def ask(self, rpc: str, **fields: Any) -> Any:
        """The answer of an RPC of DatasetService or ExperimentService."""
        of_datasets = rpc in DATASET_RPCS
        stub: Any = (DatasetServiceStub if of_datasets else ExperimentServiceStub)(self.reading.channel)
        request = getattr(datasets_pb2 if of_datasets else experiments_pb2, f"{rpc}Request")(**fields)
        return await getattr(stub, rpc)(request, metadata=self.bearer, timeout=20)

    async def pages(self, rpc: str, rows: str, **fields: Any) -> list[list[Any]]:
        """The rows of all pages of a list."""
        found, token = [], ""
        while True:
            page = await self.ask(rpc, page_token=token, **fields)
            found.append(list(getattr(page, rows)))
            token = page.next_page_token
            if not token:
                return found

    async def refusal(self, rpc: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.ask(rpc, **fields)
        return raised.value.code(), str(raised.value.details())

    def watch(self, run_id: str, *, with_items: bool = False, timeout: float = 60) -> Any:
        """A stream of WatchExperiment."""
        stub: Any = ExperimentServiceStub(self.reading.channel)
        request = experiments_pb2.WatchExperimentRequest(run_id=run_id, with_items=with_items)
        return stub.WatchExperiment(request, metadata=self.bearer, timeout=timeout)


@asynccontextmanager
async def reading_experiments(ground: ProcessManager, dsn: str, environment: dict[str, str]) -> AsyncIterator[Reading]:
    """A query service on a migrated database."""
    known = next(known for known in SERVICES if known.module == "services.read.query")
    command = service_command(known, {**os.environ, **environment, "LODESTREAM_POSTGRES": dsn})
    query = ground.process(replace(command, name=f"{command.name}-{uuid4().hex[:8]}"))
    await query.start()
    try:
        async with grpc.aio.insecure_channel(command.address) as channel, folding_experiments(dsn) as projection:
            yield Reading(dsn, query, channel, projection)
    finally:
        query.kill()
        await query.stop()


@asynccontextmanager
async def database_of_its_own(servers: Servers, template: str) -> AsyncIterator[str]:
    """The owner's dsn of a fresh, migrated database."""
    name = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(servers.postgres, timeout=10)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield urlunsplit(urlsplit(servers.postgres)._replace(path=f"/{name}"))
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
