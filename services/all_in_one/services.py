"""The services that all_in_one runs, in one table: the same commands as in containers."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from services.all_in_one.ports import HOST, find_port
from services.all_in_one.processes import Command
from shared.runtime.probe import grpc_serves, http_healthy


@dataclass(frozen=True, slots=True)
class Door:
    """Where a service serves gRPC: the variable that tells it its port, and the one that tells others its address."""

    port_variable: str
    usual_port: int
    address_variable: str


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the deployment: `python -m <module>`. Without a door it has metrics and health over HTTP only."""

    module: str
    door: Door | None = None

    @property
    def name(self) -> str:
        """Short, for people and log files."""
        return self.module.rpartition(".")[2]


# In the order in which they start; they stop in the reverse one.
SERVICES = (
    Service("services.projections.traces"),
    Service("services.read.query", Door("LODESTREAM_QUERY_PORT", 4319, "LODESTREAM_QUERY")),
    Service("services.write.gateway", Door("LODESTREAM_GATEWAY_PORT", 4317, "LODESTREAM_ENDPOINT")),
)
USUAL_METRICS_PORT = 9464  # of the first; the others follow


def service_command(
    service: Service, environment: Mapping[str, str], *, metrics_port: int | None = None, port: int | None = None
) -> Command:
    """How the service is started with this environment, on free ports where none are given, and when it is ready."""
    metrics_port = metrics_port or find_port()
    its_environment = {**environment, "LODESTREAM_METRICS_HOST": HOST, "LODESTREAM_METRICS_PORT": str(metrics_port)}
    address, answers = f"{HOST}:{metrics_port}", http_healthy
    if service.door:
        port = port or find_port()
        its_environment[service.door.port_variable] = str(port)
        address, answers = f"{HOST}:{port}", grpc_serves
    return Command(
        name=service.name,
        argv=(sys.executable, "-m", service.module),
        address=address,
        environment=its_environment,
        ready=lambda: answers(address),
    )
