"""Real servers and services for tests. What a test needs and can't have fails it; nothing is skipped."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import grpc
import pytest

from services.all_in_one import kafka, postgres, valkey
from services.all_in_one.ports import find_port
from services.all_in_one.processes import Process, ProcessManager
from services.all_in_one.reaper import Reaper
from services.all_in_one.services import LOCAL_PROVIDERS, SERVICES, service_command
from shared.auth.keys import NewKey, create_key, create_project
from shared.event_log.topics import EXPERIMENTS, PROMPTS, SCORES, create_topics
from shared.runtime.settings import KafkaSettings
from shared.storage.migrate import migrate
from shared.storage.postgres import SEARCH_PATH
from tests.support.all_in_one import StartAllInOne, starting_all_in_one
from tests.support.forked import forking
from tests.support.prompts import forget_prompts
from tests.support.read_model import begin_at_the_end, offer_providers
from tests.support.servers import Servers, running_servers
from tests.support.stack import Stack

_LOG_SHOWN = 3_000  # characters


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the ends of the logs that its processes have written meanwhile."""
    report = yield
    ground = getattr(item, "funcargs", {}).get("ground")
    if report.failed and ground:
        for log in sorted(ground.data.rglob("logs/*.log"), key=lambda path: path.stat().st_mtime):
            if log.stat().st_mtime >= call.start:
                report.sections.append((f"end of {log.name}", log.read_text(errors="replace")[-_LOG_SHOWN:]))
    return report


@pytest.fixture(scope="session")
async def ground() -> AsyncIterator[ProcessManager]:
    """A temporary place for processes, gone with them at the end, also when the tests are killed.

    Services start there as forks of a process that has imported their libraries; with LODESTREAM_TEST_STARTS=exec as
    `python -m` does it, which `services.all_in_one` and its tests always do.
    """
    folder = Path(tempfile.mkdtemp(prefix="lodestream-tests-"))
    with Reaper(remove=folder) as reaper:
        manager = ProcessManager(folder, reaper)
        if os.environ.get("LODESTREAM_TEST_STARTS") == "exec":
            yield manager
        else:
            async with forking(manager) as forks:
                yield forks


@pytest.fixture(scope="session")
async def servers(ground: ProcessManager) -> AsyncIterator[Servers]:
    """The session's Kafka (its topics created), Postgres and Redis. Tests share them: use your own project ids."""
    async with running_servers(ground) as running:
        await create_topics(KafkaSettings(bootstrap_servers=running.kafka))
        yield running


@pytest.fixture(scope="session")
async def template(servers: Servers) -> AsyncIterator[str]:
    """The name of a migrated database to copy."""
    name = f"template_{uuid4().hex[:12]}"
    await _execute(servers.postgres, f"CREATE DATABASE {name}")
    await migrate(_in_database(servers.postgres, name))
    yield name
    await _execute(servers.postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(servers: Servers, template: str) -> AsyncIterator[str]:
    """The owner's dsn of a fresh, migrated database."""
    async with _fresh_database(servers, template) as dsn:
        yield dsn


PrivateServer = Callable[[], Awaitable[Process]]


@pytest.fixture
async def private_kafka(ground: ProcessManager) -> AsyncIterator[PrivateServer]:
    """Starts a Kafka of the test's own, to be killed, paused and restarted at will; `.command.address` is host:port."""
    started: list[Process] = []

    async def start() -> Process:
        process = await kafka.embed(_apart(ground), port=find_port(), progress=lambda _done, _of: None)
        started.append(process)
        await process.start()
        await create_topics(KafkaSettings(bootstrap_servers=process.command.address))
        return process

    yield start
    for process in started:
        await process.stop()


@pytest.fixture
async def private_postgres(ground: ProcessManager) -> AsyncIterator[PrivateServer]:
    """Starts a Postgres of the test's own, migrated; `.command.address` is the owner's dsn."""
    started: list[Process] = []

    async def start() -> Process:
        process = await postgres.embed(_apart(ground), port=find_port(), durable=False)
        started.append(process)
        await process.start()
        await migrate(process.command.address)
        return process

    yield start
    for process in started:
        await process.stop()


@pytest.fixture
async def private_redis(ground: ProcessManager) -> AsyncIterator[PrivateServer]:
    """Starts a Valkey of the test's own; `.command.address` is its url."""
    started: list[Process] = []

    async def start() -> Process:
        process = await valkey.embed(_apart(ground), port=find_port())
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        await process.stop()


@pytest.fixture(scope="module")
async def own_log(ground: ProcessManager) -> AsyncIterator[str]:
    """host:port of a Kafka whose log holds what the tests of one file wrote, and nothing else."""
    process = await kafka.embed(_apart(ground), port=find_port(), progress=lambda _done, _of: None)
    await process.start()
    await create_topics(KafkaSettings(bootstrap_servers=process.command.address))
    yield process.command.address
    await process.stop()


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service as its own process, ready when you get it."""

    process: Process
    address: str
    """host:port of its gRPC; of its metrics and health where it serves no gRPC."""
    metrics: str
    """host:port of its metrics and health."""


StartService = Callable[..., Awaitable[RunningService]]


@pytest.fixture
async def service(ground: ProcessManager, servers: Servers) -> AsyncIterator[StartService]:
    """Starts `python -m <module>` on free ports with the session's servers.

    `await service("services.write.gateway", LODESTREAM_POSTGRES=database)`: keywords are environment variables; `port`
    fixes the gRPC port. All are killed at the end of the test.
    """
    async with _starting(ground, servers) as start:
        yield start


@pytest.fixture(scope="module")
async def shared_stack(ground: ProcessManager, servers: Servers, template: str) -> AsyncIterator[Stack]:
    """A gateway, the projections and a query service, with the keys of the projects "acme" and "other".

    One for all tests of a file: use names of your own.
    """
    async with (
        _fresh_database(servers, template) as dsn,
        _starting(ground, servers) as start,
        _stack(servers, dsn, start) as its,
    ):
        yield its


@pytest.fixture
async def stack(shared_stack: Stack) -> AsyncIterator[Stack]:
    """The same processes, but "acme" and "other" are projects of the test's own. A gateway it kills comes back."""
    yield replace(shared_stack, keys=await _new_projects(shared_stack.dsn, mark=f"-{uuid4().hex[:8]}"))
    if shared_stack.gateway.pid is None:
        await shared_stack.gateway.start()


@pytest.fixture
async def all_in_one(tmp_path: Path) -> AsyncIterator[StartAllInOne]:
    """Starts `python -m services.all_in_one`; what still runs at the end of the test is killed."""
    async with starting_all_in_one(tmp_path) as start:
        yield start


@asynccontextmanager
async def _fresh_database(servers: Servers, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    await _execute(servers.postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _in_database(servers.postgres, name)
    finally:
        await _execute(servers.postgres, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _starting(ground: ProcessManager, servers: Servers) -> AsyncIterator[StartService]:
    started: list[Process] = []

    async def start(module: str, *, port: int | None = None, **environment: str) -> RunningService:
        known = next(known for known in SERVICES if known.module == module)
        command = service_command(
            known, {**LOCAL_PROVIDERS, **os.environ, **servers.environment, **environment}, port=port
        )
        process = ground.process(replace(command, name=f"{command.name}-{uuid4().hex[:8]}"))
        started.append(process)
        await process.start()
        assert command.environment is not None
        metrics_port = command.environment["LODESTREAM_METRICS_PORT"]
        return RunningService(process, command.address, f"{command.address.rpartition(':')[0]}:{metrics_port}")

    try:
        yield start
    finally:
        for process in reversed(started):
            process.kill()
            await process.stop()


@asynccontextmanager
async def _stack(servers: Servers, database: str, service: StartService) -> AsyncIterator[Stack]:
    await begin_at_the_end(servers.kafka, database)
    await begin_at_the_end(servers.kafka, database, "prompts", PROMPTS)
    await forget_prompts(servers.redis)
    await begin_at_the_end(servers.kafka, database, "scores", SCORES)
    await begin_at_the_end(servers.kafka, database, "experiments", EXPERIMENTS)
    await offer_providers(database, "mock")
    keys = await _new_projects(database)
    group = f"test-{uuid4().hex[:8]}"
    environment = {
        "LODESTREAM_POSTGRES": database,
        "LODESTREAM_TRACES_GROUP": group,
        "LODESTREAM_PROMPTS_GROUP": f"{group}-prompts",
        "LODESTREAM_SCORES_GROUP": f"{group}-scores",
        "LODESTREAM_EXPERIMENTS_GROUP": f"{group}-experiments",
    }
    query, *_ = await asyncio.gather(
        service("services.read.query", **environment),
        service("services.projections.traces", **environment),
        service("services.projections.prompts", **environment),
        service("services.projections.scores", **environment),
        service("services.projections.experiments", **environment),
    )
    gateway = await service("services.write.gateway", LODESTREAM_QUERY=query.address, **environment)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield Stack(database, channel, keys, gateway.process, query.process)


async def _new_projects(dsn: str, *, mark: str = "") -> dict[str, NewKey]:
    """Keys of two projects, by what tests call these; `mark` comes after that in their ids."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": SEARCH_PATH})
    try:
        keys = {}
        for name in ("acme", "other"):
            await create_project(connection, f"{name}{mark}", name)
            keys[name] = await create_key(connection, f"{name}{mark}")
        return keys
    finally:
        await connection.close()


def _apart(ground: ProcessManager) -> ProcessManager:
    return ProcessManager(Path(tempfile.mkdtemp(dir=ground.data)), ground.reaper)


def _in_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
