"""The services that all_in_one runs, in one table: the same commands as in containers."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from services.all_in_one.ports import HOST, find_port
from services.all_in_one.probes import grpc_serves, http_healthy
from services.all_in_one.processes import Command


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the deployment: `python -m <module>`."""

    module: str
    port: tuple[str, int] | None = None
    """Where it serves gRPC: the environment variable and the usual port. None: only metrics and health over HTTP."""

    @property
    def name(self) -> str:
        """Short, for people and log files."""
        return self.module.rpartition(".")[2]


# In the order in which they start; they stop in the reverse one.
SERVICES = (
    Service("services.projections.traces"),
    Service("services.read.query", ("LODESTREAM_QUERY_PORT", 4319)),
    Service("services.write.gateway", ("LODESTREAM_GATEWAY_PORT", 4317)),
)
USUAL_METRICS_PORT = 9464  # of the first; the others follow


def service_command(
    service: Service, environment: Mapping[str, str], *, metrics_port: int | None = None, port: int | None = None
) -> Command:
    """How the service is started with this environment, on free ports where none are given, and when it is ready."""
    metrics_port = metrics_port or find_port()
    metrics = {"LODESTREAM_METRICS_HOST": HOST, "LODESTREAM_METRICS_PORT": str(metrics_port)}
    argv = (sys.executable, "-m", service.module)
    if service.port is None:
        address = f"{HOST}:{metrics_port}"
        return Command(
            name=service.name,
            argv=argv,
            address=address,
            environment={**environment, **metrics},
            ready=lambda: http_healthy(address),
        )
    serving = port or find_port()
    address = f"{HOST}:{serving}"
    return Command(
        name=service.name,
        argv=argv,
        address=address,
        environment={**environment, **metrics, service.port[0]: str(serving)},
        ready=lambda: grpc_serves(address),
    )
