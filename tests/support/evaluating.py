"""Workers for tests: a database and a log's end of their own, a model to be asked, and as many processes as wanted."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from services.all_in_one.processes import Process, ProcessManager
from services.all_in_one.services import SERVICES, service_command
from shared.event_log.topics import EXPERIMENTS, PROMPTS
from tests.support.experiment_runs import Log, log_from_here
from tests.support.model_server import ModelServer, Says, model_server
from tests.support.read_model import begin_at_the_end
from tests.support.servers import Servers

MODULE = "services.write.evaluator"
QUICK = {
    "LODESTREAM_EVALUATOR_HEARTBEAT_SECONDS": "0.25",
    "LODESTREAM_EVALUATOR_LEASE_SECONDS": "3",
    "LODESTREAM_EVALUATOR_GRACE_SECONDS": "5",
    "LODESTREAM_EVALUATOR_PROVIDER_GRACE_SECONDS": "20",
}


@dataclass(slots=True)
class Workplace:
    """Where workers work."""

    ground: ProcessManager
    servers: Servers
    dsn: str
    log: Log
    model: ModelServer
    environment: dict[str, str]
    answers: list[Callable[[int, dict[str, Any]], Says | None]]
    """Asked in turn what the model says; what none of them answers is answered quickly and well."""
    started: list[Process] = field(default_factory=list)

    async def worker(self, *, wait: bool = True, **environment: str) -> Process:
        """Starts a worker; with `wait` it is ready. Each is in a group of its own: nobody waits for the dead.

        So each reads all partitions, and the fence sees to it that all is folded once.
        """
        service = next(each for each in SERVICES if each.module == MODULE)
        group = {"LODESTREAM_EVALUATOR_GROUP": f"test-{uuid4().hex[:10]}"}
        command = service_command(service, {**os.environ, **self.environment, **group, **environment})
        process = self.ground.process(replace(command, name=f"evaluator-{uuid4().hex[:8]}"))
        self.started.append(process)
        if wait:
            await process.start()
        return process

    async def stop(self) -> None:
        """Kill all of them."""
        for process in self.started:
            process.kill()
            await process.stop()
        self.started.clear()

    async def value(self, query: str, *arguments: object) -> Any:
        """A value from the database."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def projections_have_caught_up(self) -> None:
        """As if the projections of datasets and prompts had folded what there is."""
        await self.value(
            "DELETE FROM lodestream.projection_positions WHERE projection IN ('experiments', 'prompts')"
        )  # fmt: skip
        await begin_at_the_end(self.servers.kafka, self.dsn, "experiments", EXPERIMENTS)
        await begin_at_the_end(self.servers.kafka, self.dsn, "prompts", PROMPTS)


@asynccontextmanager
async def working(
    ground: ProcessManager, servers: Servers, template: str | None, folder: Path
) -> AsyncIterator[Workplace]:
    """A workplace without workers; at the end all is gone. Without a template the servers' own database is used."""
    name = f"test_{uuid4().hex[:12]}"
    dsn = urlunsplit(urlsplit(servers.postgres)._replace(path=f"/{name}")) if template else servers.postgres
    answers: list[Callable[[int, dict[str, Any]], Says | None]] = []

    def answer(n: int, body: dict[str, Any]) -> Says:
        return next((says for each in answers if (says := each(n, body))), Says())

    if template:
        await _execute(servers.postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    await begin_at_the_end(servers.kafka, dsn, "evaluator", EXPERIMENTS)
    async with model_server(answer) as model:
        environment = {
            **servers.environment,
            **QUICK,
            "LODESTREAM_POSTGRES": dsn,
            "LODESTREAM_PROVIDERS": model.providers(folder),
        }
        log = await log_from_here(servers.kafka)
        place = Workplace(ground, servers, dsn, log, model, environment, answers)
        try:
            yield place
        finally:
            await place.stop()
    if template:
        await _execute(servers.postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
