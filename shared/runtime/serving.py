"""How a gRPC process serves: its health, the signals it obeys, and a stop that lets calls under way finish."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import grpc
import structlog
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

log = structlog.get_logger()

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING


class Health:
    """The standard health service (grpc.health.v1) of a process: "" is the whole of it."""

    def __init__(self, server: grpc.aio.Server) -> None:
        """Registers the service; everything is NOT_SERVING until said."""
        self._servicer = health.aio.HealthServicer()
        add_HealthServicer_to_server(self._servicer, server)

    async def set(self, service: str, *, serving: bool) -> None:
        """Tell the state of a service by its full name; "" for the process."""
        await self._servicer.set(service, _SERVING if serving else _NOT_SERVING)

    async def drain(self) -> None:
        """NOT_SERVING for everything, for good: load balancers turn away."""
        await self._servicer.enter_graceful_shutdown()


async def serve(
    server: grpc.aio.Server,
    health: Health,
    *,
    grace: float,
    turn_away: float = 0.0,
    at_drain: Callable[[], None] | None = None,
    before_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Health says NOT_SERVING; after `turn_away` seconds (for load balancers to notice) new calls are refused and those
    under way have `grace` seconds to finish. `at_drain` runs then, to end those that would never finish; `before_stop`
    runs once no call is under way any more.
    """
    loop, stop_requested = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_requested.set)
    await server.start()
    await health.set("", serving=True)
    await stop_requested.wait()
    log.info("draining", grace=grace)
    await health.drain()
    await asyncio.sleep(turn_away)
    if at_drain:
        at_drain()
    await server.stop(grace)
    if before_stop:
        await before_stop()
