"""Where the tests' servers come from: the environment's addresses, else containers if asked for, else embedded ones."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer

from services.all_in_one.ports import HOST, find_port
from services.all_in_one.probes import kafka_answers, postgres_answers, redis_answers
from services.all_in_one.processes import Process, ProcessManager
from services.all_in_one.servers import embed_servers
from shared.event_log.topics import MAX_RECORD_BYTES
from tests.support.polling import until

VARIABLES = ("LODESTREAM_KAFKA", "LODESTREAM_POSTGRES", "LODESTREAM_REDIS")
SHORT_SESSION = {"LODESTREAM_KAFKA_SESSION_SECONDS": "6"}
"""Tests that kill a projection wait until its group notices; Kafka takes no shorter session."""


class ContainersUnavailableError(Exception):
    """Containers were asked for where there is no Docker."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of one Kafka, Postgres and Redis, and the processes behind those that are embedded."""

    kafka: str
    """host:port"""
    postgres: str
    """The dsn of an owner's database, in which databases may be created."""
    redis: str
    """url"""
    processes: Mapping[str, Process]
    """By name ("kafka", "postgres", "valkey"): pid, kill, pause, resume, stop, restart."""

    @property
    def environment(self) -> dict[str, str]:
        """What a service reads. Others take over from a projection that was killed as soon as Kafka allows it."""
        addresses = dict(zip(VARIABLES, (self.kafka, self.postgres, self.redis), strict=True))
        return addresses | SHORT_SESSION


@asynccontextmanager
async def running_servers(ground: ProcessManager) -> AsyncIterator[Servers]:
    """Servers for one test session, ready."""
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    origin = os.environ.get("LODESTREAM_TEST_SERVERS", "embedded")
    if origin not in {"embedded", "containers"}:
        raise ValueError(f"LODESTREAM_TEST_SERVERS is {origin!r}; it may be embedded or containers")
    async with _containers(given) if origin == "containers" else _nothing(given) as found:
        embedded = await embed_servers(ground, given=found, say=print, defaults=False, durable=False)
        try:
            await asyncio.gather(*(process.start() for process in embedded.processes))
            yield Servers(
                kafka=embedded.addresses["LODESTREAM_KAFKA"],
                postgres=embedded.addresses["LODESTREAM_POSTGRES"],
                redis=embedded.addresses["LODESTREAM_REDIS"],
                processes={process.command.name: process for process in embedded.processes},
            )
        finally:
            await asyncio.gather(*(process.stop() for process in embedded.processes))


@asynccontextmanager
async def _nothing(given: Mapping[str, str]) -> AsyncIterator[Mapping[str, str]]:
    yield given


@asynccontextmanager
async def _containers(given: Mapping[str, str]) -> AsyncIterator[Mapping[str, str]]:
    """What is not given, from the images that docker-compose.yml runs.

    Raises ContainersUnavailableError.
    """
    makers = {"LODESTREAM_KAFKA": _kafka, "LODESTREAM_POSTGRES": _postgres, "LODESTREAM_REDIS": _valkey}
    try:
        made = {name: maker() for name, maker in makers.items() if name not in given}
    except DockerException as error:
        raise ContainersUnavailableError(f"LODESTREAM_TEST_SERVERS=containers needs Docker: {error}") from error
    try:
        for container, _, _ in made.values():
            await asyncio.to_thread(container.start)
        for name, (_, address, answers) in made.items():
            await until(partial(answers, address), deadline=60, what=f"{name} at {address}")
        yield {**given, **{name: address for name, (_, address, _) in made.items()}}
    finally:
        for container, _, _ in made.values():
            await asyncio.to_thread(container.stop)


_Made = tuple[DockerContainer, str, Callable[[str], Awaitable[bool]]]


def _kafka() -> _Made:
    port = find_port()  # the broker tells its clients this address, so it is fixed before the start
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_MESSAGE_MAX_BYTES": str(MAX_RECORD_BYTES + 65_536),
    }
    container = DockerContainer("apache/kafka:4.3.1").with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env(name, value)
    return container, f"{HOST}:{port}", kafka_answers


def _postgres() -> _Made:
    port = find_port()
    container = DockerContainer("postgres:18").with_bind_ports(5432, port)
    container = container.with_env("POSTGRES_USER", "lodestream").with_env("POSTGRES_PASSWORD", "lodestream")
    return container, f"postgresql://lodestream:lodestream@{HOST}:{port}/lodestream", postgres_answers


def _valkey() -> _Made:
    port = find_port()
    return DockerContainer("valkey/valkey:9").with_bind_ports(6379, port), f"redis://{HOST}:{port}/0", redis_answers
