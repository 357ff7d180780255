"""The services that all_in_one runs, in one table: the same commands as in containers."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.all_in_one.ports import HOST, find_port
from services.all_in_one.processes import Command, plain_environment
from shared.event_log.projections import PROJECTIONS
from shared.runtime.probe import grpc_serves, http_healthy


@dataclass(frozen=True, slots=True)
class Door:
    """Where a service serves gRPC or HTTP, and what its health is asked of."""

    port_variable: str
    """Tells it its port."""
    usual_port: int
    address_variable: str
    """Tells others its address."""
    serves: str | None
    """The full name of a gRPC service; None: it serves HTTP, and tells on /health."""


_STORES = ("LODESTREAM_KAFKA", "LODESTREAM_POSTGRES")
_SECRETS = {
    *_STORES, "LODESTREAM_POSTGRES_READER", "LODESTREAM_REDIS", "LODESTREAM_INIT_SECRET_KEY", "LODESTREAM_SECRET_KEY",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the deployment: `python -m <module>`. Without a door it has metrics and health over HTTP only."""

    module: str
    door: Door | None = None
    secrets: Sequence[str] = _STORES
    """Variables that hold a secret, which this process needs; others do not come into its environment."""
    calls_models: bool = False
    """It needs the keys of model providers, whatever their variables are called."""

    @property
    def name(self) -> str:
        """Short, for people and log files."""
        return self.module.rpartition(".")[2]


_PROJECTION_SECRETS = {"prompts": (*_STORES, "LODESTREAM_REDIS")}
_QUERY = "lodestream_proto.v1.QueryService"
_OTLP = "opentelemetry.proto.collector.trace.v1.TraceService"
# In the order in which they start; they stop in the reverse one.
SERVICES = (
    *(
        Service(projection.module, secrets=_PROJECTION_SECRETS.get(projection.name, _STORES))
        for projection in PROJECTIONS
    ),
    Service("services.write.evaluator", secrets=(*_STORES, "LODESTREAM_REDIS"), calls_models=True),
    Service(
        "services.read.query",
        Door("LODESTREAM_QUERY_PORT", 4319, "LODESTREAM_QUERY", _QUERY),
        secrets=(*_STORES, "LODESTREAM_POSTGRES_READER"),
    ),
    Service("services.mock_llm", Door("LODESTREAM_MOCK_LLM_PORT", 4320, "LODESTREAM_MOCK_LLM", None), secrets=()),
    Service(
        "services.write.gateway",
        Door("LODESTREAM_GATEWAY_PORT", 4317, "LODESTREAM_ENDPOINT", _OTLP),
        secrets=(*_STORES, "LODESTREAM_REDIS", "LODESTREAM_INIT_SECRET_KEY"),
    ),
)
_USUAL_METRICS_PORT = 9464  # of the first; the others follow
# A first project with a key that everybody knows: this stack listens on this machine only.
LOCAL_PROJECT = {
    "LODESTREAM_INIT_PROJECT_ID": "local",
    "LODESTREAM_INIT_PROJECT_NAME": "Local",
    "LODESTREAM_INIT_PUBLIC_KEY": "pk-ls-local",
    "LODESTREAM_INIT_SECRET_KEY": "sk-ls-local",
}


# The mock model, so that experiments run without a model; LODESTREAM_PROVIDERS names another file.
LOCAL_PROVIDERS = {"LODESTREAM_PROVIDERS": str(Path(__file__).parent / "providers.json")}


def service_command(
    service: Service, environment: Mapping[str, str], *, metrics_port: int | None = None, port: int | None = None
) -> Command:
    """How the service is started with this environment, on free ports where none are given, and when it is ready."""
    metrics_port = metrics_port or find_port()
    its_environment = {**environment, "LODESTREAM_METRICS_HOST": HOST, "LODESTREAM_METRICS_PORT": str(metrics_port)}
    address = f"{HOST}:{metrics_port}"
    ready = healthy = partial(http_healthy, address)
    if service.door:
        port = port or find_port()
        its_environment[service.door.port_variable] = str(port)
        address = f"{HOST}:{port}"
        ready = healthy = partial(http_healthy, address)
        if service.door.serves is not None:
            ready, healthy = partial(grpc_serves, address), partial(grpc_serves, address, service.door.serves)
    return Command(
        name=service.name,
        argv=(sys.executable, "-m", service.module),
        address=address,
        environment=its_environment,
        ready=ready,
        healthy=healthy,
    )


def place(services: Sequence[Service], environment: dict[str, str], say: Callable[[str], None]) -> list[Command]:
    """Ports for each, the usual ones where free; `environment` learns where each is, so that they find each other."""

    def port(wanted: int, name: str) -> int:
        found = find_port(wanted)
        if found != wanted:
            say(f"port {wanted} is taken: {name} listens on {found}")
        return found

    ports: dict[Service, dict[str, int]] = {}
    for index, service in enumerate(services):
        ports[service] = {"metrics_port": port(_USUAL_METRICS_PORT + index, f"{service.name} (metrics)")}
        if door := service.door:
            wanted = int(environment.get(door.port_variable) or door.usual_port)
            ports[service]["port"] = port(wanted, service.name)
            environment[door.address_variable] = f"{HOST}:{ports[service]['port']}"
    return [service_command(service, environment_of(service, environment), **its) for service, its in ports.items()]


def environment_of(service: Service, environment: Mapping[str, str]) -> dict[str, str]:
    """What of the stack's environment one of its processes is given: settings, and the secrets that it needs."""
    given = environment if service.calls_models else plain_environment()
    ours = {name: value for name, value in environment.items() if name.startswith("LODESTREAM_")}
    left_out = _SECRETS - set(service.secrets)
    return {name: value for name, value in {**given, **ours}.items() if name not in left_out}


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a program needs to send its traces to the services placed in this environment."""
    return {
        "LODESTREAM_ENDPOINT": environment["LODESTREAM_ENDPOINT"],
        "LODESTREAM_PUBLIC_KEY": environment["LODESTREAM_INIT_PUBLIC_KEY"],
        "LODESTREAM_SECRET_KEY": environment["LODESTREAM_INIT_SECRET_KEY"],
    }
