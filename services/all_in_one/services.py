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
class Endpoint:
    """Where a service serves gRPC or HTTP, and whose health it reports."""

    port_variable: str
    """The variable from which it takes its port."""
    usual_port: int
    address_variable: str
    """The variable from which others take its address."""
    serves: str | None
    """The full name of a gRPC service; None when it serves HTTP, with /health."""


_STORES = ("LODESTREAM_KAFKA", "LODESTREAM_POSTGRES")
_SECRETS = {
    *_STORES, "LODESTREAM_POSTGRES_READER", "LODESTREAM_POSTGRES_GATEWAY", "LODESTREAM_REDIS",
    "LODESTREAM_INIT_SECRET_KEY", "LODESTREAM_SECRET_KEY",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the deployment: `python -m <module>`; without an endpoint it serves only metrics and health."""

    module: str
    endpoint: Endpoint | None = None
    secrets: Sequence[str] = _STORES
    """The variables with secrets that this process needs; others do not come into its environment."""
    calls_models: bool = False
    """Whether it needs the keys of model providers, whatever their variables are called."""

    @property
    def name(self) -> str:
        """A short name for messages and log files."""
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
        Endpoint("LODESTREAM_QUERY_PORT", 4319, "LODESTREAM_QUERY", _QUERY),
        secrets=(*_STORES, "LODESTREAM_POSTGRES_READER"),
    ),
    Service("services.mock_llm", Endpoint("LODESTREAM_MOCK_LLM_PORT", 4320, "LODESTREAM_MOCK_LLM", None), secrets=()),
    Service(
        "services.write.gateway",
        Endpoint("LODESTREAM_GATEWAY_PORT", 4317, "LODESTREAM_ENDPOINT", _OTLP),
        secrets=(*_STORES, "LODESTREAM_POSTGRES_GATEWAY", "LODESTREAM_REDIS", "LODESTREAM_INIT_SECRET_KEY"),
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
    """Return the command of a service in this environment, on free ports where none are given."""
    metrics_port = metrics_port or find_port()
    process_environment = {**environment, "LODESTREAM_METRICS_HOST": HOST, "LODESTREAM_METRICS_PORT": str(metrics_port)}
    address = f"{HOST}:{metrics_port}"
    ready = healthy = partial(http_healthy, address)
    if service.endpoint:
        port = port or find_port()
        process_environment[service.endpoint.port_variable] = str(port)
        address = f"{HOST}:{port}"
        ready = healthy = partial(http_healthy, address)
        if service.endpoint.serves is not None:
            ready, healthy = partial(grpc_serves, address), partial(grpc_serves, address, service.endpoint.serves)
    return Command(
        name=service.name,
        argv=(sys.executable, "-m", service.module),
        address=address,
        environment=process_environment,
        ready=ready,
        healthy=healthy,
    )


def assign_ports(services: Sequence[Service], environment: dict[str, str], say: Callable[[str], None]) -> list[Command]:
    """Return the services' commands on the usual ports where these are free; adds their addresses to `environment`."""

    def port(wanted: int, name: str) -> int:
        free = find_port(wanted)
        if free != wanted:
            say(f"port {wanted} is taken: {name} listens on {free}")
        return free

    ports: dict[Service, dict[str, int]] = {}
    for index, service in enumerate(services):
        ports[service] = {"metrics_port": port(_USUAL_METRICS_PORT + index, f"{service.name} (metrics)")}
        if endpoint := service.endpoint:
            wanted = int(environment.get(endpoint.port_variable) or endpoint.usual_port)
            ports[service]["port"] = port(wanted, service.name)
            environment[endpoint.address_variable] = f"{HOST}:{ports[service]['port']}"
    return [
        service_command(service, environment_of(service, environment), **service_ports)
        for service, service_ports in ports.items()
    ]


def environment_of(service: Service, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the stack's environment for one process: settings, and the secrets that it needs."""
    inherited = environment if service.calls_models else plain_environment()
    ours = {name: value for name, value in environment.items() if name.startswith("LODESTREAM_")}
    left_out = _SECRETS - set(service.secrets)
    return {name: value for name, value in {**inherited, **ours}.items() if name not in left_out}


def client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a program needs to send its traces to the services in this environment."""
    return {
        "LODESTREAM_ENDPOINT": environment["LODESTREAM_ENDPOINT"],
        "LODESTREAM_PUBLIC_KEY": environment["LODESTREAM_INIT_PUBLIC_KEY"],
        "LODESTREAM_SECRET_KEY": environment["LODESTREAM_INIT_SECRET_KEY"],
    }
