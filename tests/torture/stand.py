"""What is tortured: services, workloads and, where they are its own, Kafka, Postgres and Valkey, all by name."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import psutil

from services.all_in_one.ports import HOST, find_port
from services.all_in_one.processes import Command, Process, ProcessManager
from services.all_in_one.services import SERVICES, service_command
from shared.auth.keys import NewKey
from tests.support.gateway import new_key
from tests.support.log_access import ends
from tests.support.read_model import begin_at_the_end
from tests.support.servers import SHORT_SESSION
from tests.torture.checker import PROJECTIONS, Scene
from tests.torture.clock import set_clock
from tests.torture.findings import Report, report_from
from tests.torture.proxy import Proxy
from tests.torture.tables import read_positions

GATEWAY, QUERY, EVALUATOR = "services.write.gateway", "services.read.query", "services.write.evaluator"
_START_SECONDS = 120.0  # a server that is down while a service starts comes back within it
_WATCH_SECONDS = 0.5
_PROJECTS = 2


@dataclass(slots=True)
class Stand:
    """Addresses are straight ones; what goes through a proxy says so."""

    ground: ProcessManager
    kafka: str
    postgres: str
    redis: str
    tenants: Mapping[str, NewKey]
    """Keys by project. Spans are told of the first only."""
    hostile: tuple[str, NewKey]
    """A project that means harm, and its key."""
    gateway_port: int
    query_port: int
    proxies: Mapping[str, Proxy]
    """"client" before the gateway, "rows" before Postgres for the projections, "log" before Kafka for the gateway."""
    processes: dict[str, Process] = field(default_factory=dict)
    group: str = field(default_factory=lambda: f"torture-{uuid4().hex[:10]}")
    jumping: bool = False
    """Whether what is started from now on has a clock that can be set."""

    @property
    def folder(self) -> Path:
        """Ledgers, logs, and what the checker reads."""
        return self.ground.data

    @property
    def project(self) -> str:
        """The one whose spans are told of."""
        return next(iter(self.tenants))

    @property
    def key(self) -> NewKey:
        """Its key."""
        return self.tenants[self.project]

    @property
    def endpoint(self) -> str:
        """The gateway's, through the proxy."""
        return self.proxies["client"].address

    @property
    def spool(self) -> Path:
        """What all SDK workloads share."""
        return self.folder / "spool"

    @property
    def _rows(self) -> str:
        """Postgres through the proxy."""
        parts = urlsplit(self.postgres)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@{self.proxies['rows'].address}"))

    async def gateway(self, name: str = "gateway", *, mutant: str = "", **environment: str) -> Process:
        """Start the gateway on its port."""
        log = self.proxies.get("log")
        its = {"LODESTREAM_POSTGRES": self.postgres, "LODESTREAM_KAFKA": log.address if log else self.kafka}
        return await self._service(GATEWAY, name, mutant, {**its, **environment}, port=self.gateway_port)

    async def query(self, name: str = "query", *, mutant: str = "", **environment: str) -> Process:
        """Start the query service on its port."""
        its = {"LODESTREAM_POSTGRES": self.postgres, **environment}
        return await self._service(QUERY, name, mutant, its, port=self.query_port)

    async def projection(
        self, name: str = "traces-0", *, of: str = "traces", mutant: str = "", **environment: str
    ) -> Process:
        """Start a projection; `of` is its service's name."""
        its = {"LODESTREAM_POSTGRES": self._rows, f"LODESTREAM_{of.upper()}_GROUP": f"{self.group}-{of}", **environment}
        return await self._service(f"services.projections.{of}", name, mutant, its)

    async def evaluator(self, name: str = "evaluator-0", *, mutant: str = "", **environment: str) -> Process:
        """Start an evaluation worker that leases for seconds only, so that others soon take over from the dead."""
        providers = self.folder / "providers.json"
        providers.write_text('{"mock": {"kind": "mock"}}', encoding="utf-8")
        its = {
            "LODESTREAM_POSTGRES": self._rows,
            "LODESTREAM_PROVIDERS": str(providers),
            "LODESTREAM_EVALUATOR_GROUP": f"{self.group}-evaluator",
            "LODESTREAM_EVALUATOR_HEARTBEAT_SECONDS": "0.25",
            "LODESTREAM_EVALUATOR_LEASE_SECONDS": "3",
            "LODESTREAM_EVALUATOR_GRACE_SECONDS": "5",
            **environment,
        }
        return await self._service(EVALUATOR, name, mutant, its)

    async def workload(self, way: str, name: str = "", *, mutant: str = "", **options: object) -> Process:
        """Start a workload; options are those of its command line."""
        endpoint = self.kafka if way == "poison" else self.endpoint
        name = name or way
        ready = self.folder / f"{name}.ready"
        project, key = self.hostile if way == "hostile" else (self.project, self.key)
        its = {"ledgers": self.folder, "endpoint": endpoint, "project": project, "ready": ready}
        options = {**its, **options}
        if way == "sdk":
            options["spool"] = self.spool
        options |= {"tenants": self.folder / "tenants.json", "kafka": self.kafka}
        switches = [switch for key, value in options.items() if value for switch in _switch(key, value)]
        environment = {
            **os.environ,
            "LODESTREAM_PUBLIC_KEY": key.public_key,
            "LODESTREAM_SECRET_KEY": key.secret_key,
        }
        argv = (*self._python("tests.torture.workload", name, mutant), way, *switches)

        def forget() -> None:
            ready.unlink(missing_ok=True)

        async def is_ready() -> bool:
            return ready.exists()

        return await self._start(
            Command(name=name, argv=argv, environment=environment, grace=60, clear=forget, ready=is_ready)
        )

    async def done(self, name: str) -> None:
        """Wait for a workload's end by itself; it must be a good one."""
        process = self.processes.pop(name)
        assert await asyncio.wait_for(process.ended(), 90) == 0, process.last_output()

    async def finish(self, name: str) -> None:
        """Ask a workload to settle what is under way and to end; it must end well."""
        process = self.processes[name]
        assert process.pid is not None, process.last_output()
        os.kill(process.pid, signal.SIGTERM)
        await self.done(name)

    def set_clock(self, name: str, seconds: float) -> None:
        """By how much the clock of this process is wrong from now on; it has one only if the stand was `jumping`."""
        set_clock(self._clock(name), seconds)

    async def judged(self, *, settle: float = 60.0) -> Report:
        """What the checker, a process of its own, says once all is folded."""
        self._note_deaths()
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        options = ("--settle", str(settle), "--json", str(report))
        argv = [sys.executable, "-m", "tests.torture.checker", str(self.folder), *options]
        checker = self.ground.process(Command(name="checker", argv=argv))
        await checker.start()
        try:
            code = await asyncio.wait_for(checker.ended(), settle + 90)
        finally:
            await checker.stop()
        assert code in {0, 1}, checker.last_output()
        return report_from(json.loads(report.read_text(encoding="utf-8")))

    async def watch(self) -> None:
        """Write down positions and memory again and again, until cancelled."""
        while True:
            self.note_memory()
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self.note_positions()
            await asyncio.sleep(_WATCH_SECONDS)

    def note_memory(self) -> None:
        """Write down how much memory each process has, its children's included."""
        now = {name: rss for name, process in self.processes.items() if (rss := _resident(process.pid))}
        with (self.folder / "memory.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(now) + "\n")

    async def note_positions(self) -> None:
        """Write down the positions, for the checker to see whether they ever go back."""
        positions = await read_positions(self.postgres)
        with (self.folder / "positions.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(positions) + "\n")

    async def _service(
        self, module: str, name: str, mutant: str, environment: Mapping[str, str], *, port: int | None = None
    ) -> Process:
        known = next(service for service in SERVICES if service.module == module)
        its = {
            **SHORT_SESSION,
            "LODESTREAM_KAFKA": self.kafka,
            "LODESTREAM_REDIS": self.redis,
            "LODESTREAM_QUERY": f"{HOST}:{self.query_port}",
            **environment,
        }
        command = service_command(known, {**os.environ, **its}, port=port)
        return await self._start(replace(command, name=name, argv=self._python(module, name, mutant)))

    def _python(self, module: str, name: str, mutant: str) -> tuple[str, ...]:
        launchers: list[str] = []
        if self.jumping:
            self.set_clock(name, 0)
            launchers += ["tests.torture.clock", str(self._clock(name)), "--"]
        if mutant:
            launchers += ["tests.torture.mutants", mutant, "--"]
        return (sys.executable, "-m", *launchers, module)

    def _clock(self, name: str) -> Path:
        return self.folder / f"{name}.clock"

    async def _start(self, command: Command) -> Process:
        assert command.name not in self.processes, f"{command.name} runs already"
        process = self.processes[command.name] = self.ground.process(command)
        await process.start(_START_SECONDS)
        return process

    def _note_deaths(self) -> None:
        """Everything that still has a name ought to run."""
        with (self.folder / "deaths.jsonl").open("a", encoding="utf-8") as file:
            for name, process in self.processes.items():
                if process.pid is None:
                    file.write(json.dumps({"name": name, "words": process.last_output()}) + "\n")


def _resident(pid: int | None) -> int:
    """Bytes of memory of a process and its children; 0: there is none."""
    if pid is None:
        return 0
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(each.memory_info().rss for each in family)
    return 0


@asynccontextmanager
async def standing(
    ground: ProcessManager,
    kafka: str,
    postgres: str,
    redis: str,
    *,
    servers: Mapping[str, Process] | None = None,
    log: Proxy | None = None,
) -> AsyncIterator[Stand]:
    """A stand on which nothing runs but `servers`, and that begins at the log's end. What it starts ends with it."""
    projects = [f"torture-{uuid4().hex[:8]}" for _ in range(_PROJECTS)]
    hostile = f"hostile-{uuid4().hex[:8]}"
    begin = {topic: await ends(kafka, topic) for topic in PROJECTIONS.values()}
    for projection, topic in PROJECTIONS.items():
        await begin_at_the_end(kafka, postgres, projection, topic)
    await begin_at_the_end(kafka, postgres, "evaluator", PROJECTIONS["experiments"])
    Scene(kafka, postgres, projects, begin, redis, [hostile]).write(ground.data)
    tenants = {project: await new_key(postgres, project) for project in projects}
    document = [{"project": project, "secret": key.secret_key} for project, key in tenants.items()]
    (ground.data / "tenants.json").write_text(json.dumps(document), encoding="utf-8")
    async with AsyncExitStack() as stack:
        gateway_port, query_port = find_port(), find_port()
        client = await stack.enter_async_context(Proxy(f"{HOST}:{gateway_port}"))
        rows = await stack.enter_async_context(Proxy(urlsplit(postgres).netloc.rpartition("@")[2]))
        proxies = {"client": client, "rows": rows, **({"log": log} if log else {})}
        harmful = hostile, await new_key(postgres, hostile)
        stand = Stand(
            ground, kafka, postgres, redis, tenants, harmful, gateway_port, query_port, proxies, dict(servers or {})
        )
        try:
            yield stand
        finally:
            for name, process in stand.processes.items():
                if name not in (servers or {}):
                    process.kill()
                    await process.stop()


def _switch(key: str, value: object) -> list[str]:
    return [f"--{key}"] if value is True else [f"--{key}", str(value)]
