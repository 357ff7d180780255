"""A Kafka, a Postgres and a Valkey of the run's own, to be killed, frozen and cut off at will."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.all_in_one import kafka, postgres, valkey
from services.all_in_one.ports import HOST, find_port
from services.all_in_one.processes import Process, ProcessManager
from shared.event_log.topics import create_topics
from shared.runtime.settings import KafkaSettings
from shared.storage.migrate import migrate
from tests.torture.proxy import Proxy


@dataclass(frozen=True, slots=True)
class OwnServers:
    """All run, with topics and tables; `log` is the proxy that Kafka names to whoever comes through it."""

    kafka: Process
    postgres: Process
    valkey: Process
    log: Proxy

    @property
    def processes(self) -> Mapping[str, Process]:
        """By the names that the nemesis knows them by."""
        return {"kafka": self.kafka, "postgres": self.postgres, "valkey": self.valkey}

    @property
    def addresses(self) -> tuple[str, str, str]:
        """Kafka's, Postgres' and Valkey's."""
        kafka, postgres, valkey = (process.command.address for process in self.processes.values())
        return kafka, postgres, valkey


@asynccontextmanager
async def own_servers(ground: ProcessManager) -> AsyncIterator[OwnServers]:
    """Started; stopped at the end."""
    apart = ProcessManager(Path(tempfile.mkdtemp(dir=ground.data, prefix="servers-")), ground.reaper)
    second = find_port()
    broker = await kafka.embed(apart, port=find_port(), progress=lambda _done, _of: None)
    database = await postgres.embed(apart, port=find_port(), durable=False)
    cache = await valkey.embed(apart, port=find_port())
    try:
        async with Proxy(f"{HOST}:{second}") as log:
            _add_listener(apart.data / "kafka" / "server.properties", second, log)
            await asyncio.gather(broker.start(), database.start(), cache.start())
            await create_topics(KafkaSettings(bootstrap_servers=broker.command.address))
            await migrate(database.command.address)
            yield OwnServers(broker, database, cache, log)
    finally:
        for process in (broker, database, cache):
            await process.stop()
        for name in ("kafka", "postgres", "valkey"):
            shutil.rmtree(apart.data / name, ignore_errors=True)


def _add_listener(properties: Path, port: int, proxy: Proxy) -> None:
    """A second door that tells its clients the proxy's address: a broker sends them to where it says it is."""
    before = dict(line.split("=", 1) for line in properties.read_text(encoding="utf-8").splitlines())
    more = {
        "listeners": f"{before['listeners']},PROXIED://{HOST}:{port}",
        "advertised.listeners": f"{before['advertised.listeners']},PROXIED://{proxy.address}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
    }
    properties.write_text("".join(f"{key}={value}\n" for key, value in {**before, **more}.items()), encoding="utf-8")
