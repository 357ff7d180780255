"""The whole stack: servers, migrations and topics, services; started in order and stopped in reverse."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from aiokafka.errors import KafkaError

from services.all_in_one.concurrency import run_all
from services.all_in_one.probes import kafka_answers, postgres_answers, redis_answers
from services.all_in_one.processes import Process, ProcessManager, StartFailedError
from services.all_in_one.servers import Say, embed_servers
from services.all_in_one.services import LOCAL_PROJECT, LOCAL_PROVIDERS, Service, assign_ports, client_environment
from shared.event_log.topics import create_topics
from shared.runtime.settings import KafkaSettings
from shared.storage.migrate import migrate

SERVERS: Mapping[str, Callable[[str], Awaitable[bool]]] = {
    "LODESTREAM_KAFKA": kafka_answers,
    "LODESTREAM_POSTGRES": postgres_answers,
    "LODESTREAM_REDIS": redis_answers,
}
_PATIENCE = 10.0  # seconds for a server that is not ours


@dataclass(frozen=True, slots=True)
class RunningStack:
    """The processes of a stack that is up, and how to reach it."""

    processes: tuple[Process, ...]
    addresses: Mapping[str, str]
    """The addresses of the servers and services, by the variables that name them."""
    client_environment: Mapping[str, str]
    """The variables that a program needs to send its traces here; empty when no services run."""

    @property
    def environment(self) -> dict[str, str]:
        """All of these variables."""
        return {**self.addresses, **self.client_environment}


@asynccontextmanager
async def running_stack(
    manager: ProcessManager, *, services: Sequence[Service], say: Say
) -> AsyncIterator[RunningStack]:
    """Start all processes; yield when every one is ready; stop them, services first and gently.

    Raises StartFailedError when one doesn't start; then those that did are stopped.
    """
    environment = {**LOCAL_PROJECT, **LOCAL_PROVIDERS, **os.environ}
    given = {name: environment[name] for name in SERVERS if environment.get(name)}
    servers = await embed_servers(manager, given=given, say=say)
    environment.update(servers.addresses)
    async with _stopping(servers.processes):
        await _start_all(servers.processes, say)
        await run_all(_await_given(name, given[name]) for name in given)
        say("migrating the database, creating the topics")
        await _bootstrap(servers.addresses)
        if not services:
            yield RunningStack(servers.processes, servers.addresses, {})
            return
        processes = [manager.process(command) for command in assign_ports(services, environment, say)]
        async with _stopping(processes[::-1]):
            await _start_all(processes, say)
            reached = {each.endpoint.address_variable for each in services if each.endpoint}
            yield RunningStack(
                (*servers.processes, *processes),
                {name: value for name, value in environment.items() if name in {*SERVERS, *reached}},
                client_environment(environment),
            )


async def _await_given(name: str, address: str) -> None:
    """Raise StartFailedError when a server that the environment names does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while not await SERVERS[name](address):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise StartFailedError(f"{name} names a server that did not answer within {_PATIENCE:.0f} s") from None


async def _bootstrap(addresses: Mapping[str, str]) -> None:
    """Make the schemas and topics that are missing."""
    try:
        await migrate(addresses["LODESTREAM_POSTGRES"])
    except asyncpg.PostgresError as error:
        raise StartFailedError(f"the database can't be migrated: {error}") from error
    try:
        await create_topics(KafkaSettings(bootstrap_servers=addresses["LODESTREAM_KAFKA"]))
    except KafkaError as error:
        raise StartFailedError(f"the topics can't be created: {error}") from error


@asynccontextmanager
async def _stopping(processes: Sequence[Process]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for process in processes:
            await process.stop()


async def _start_all(processes: Sequence[Process], say: Say) -> None:
    """Start all at once; the first that fails ends the wait for the others."""

    async def start(process: Process) -> None:
        await process.start()
        say(f"{process.command.name} is ready at {process.command.public_address}")

    await run_all(start(process) for process in processes)
