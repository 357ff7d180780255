"""The gRPC server: its limits, its services on one port, and its health."""

import asyncio
from collections.abc import Iterable

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from lodestream_proto.v1 import query_pb2

from services.write.gateway import ingest, otlp
from services.write.gateway.proxy import service_handler
from services.write.gateway.write_rpc import WriteRpcs
from shared.auth.authentication import Authenticator
from shared.auth.caller import KeyInterceptor
from shared.event_log.append import Appender
from shared.event_log.presence import answers
from shared.event_log.topics import TRACES
from shared.runtime.serving import Health
from shared.runtime.settings import MIB, GatewaySettings, KafkaSettings
from shared.runtime.unread import UnreadAnswers

QUERY_SERVICE = query_pb2.DESCRIPTOR.services_by_name["QueryService"]
_QUERY_OPTIONS = (
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_CHECK_SECONDS = 0.5
_LOG_CHECK_SECONDS = 3.0
"""Between two checks of the log, whose absence shows by itself only when something is appended."""
_CHECK_TIMEOUT_SECONDS = 3.0


class PortTakenError(OSError):
    """The address can't be listened on."""


def create_server(
    rpcs: WriteRpcs, keys: Authenticator, query: grpc.aio.Channel, handlers: Iterable[grpc.GenericRpcHandler]
) -> tuple[grpc.aio.Server, int]:
    """Return the server of these handlers and of the forwarded QueryService, not started, and its port.

    Raises PortTakenError.
    """
    settings = rpcs.settings
    unread = UnreadAnswers(
        settings.unread_bytes, per_project=settings.unread_bytes_per_project, wait_seconds=1.0, max_waiting=1
    )
    interceptor = KeyInterceptor(keys, unread=unread, pacer=rpcs.admission.pacer)
    server = grpc.aio.server(interceptors=[interceptor], options=_options(settings))
    server.add_generic_rpc_handlers((*handlers, service_handler(query, QUERY_SERVICE, {})))
    address = f"{settings.host}:{settings.port}"
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError:
        raise PortTakenError(f"LODESTREAM_GATEWAY_HOST:LODESTREAM_GATEWAY_PORT: can't listen on {address}") from None


def query_channel(settings: GatewaySettings) -> grpc.aio.Channel:
    """Return a channel to the query service, which connects when it is needed."""
    return grpc.aio.insecure_channel(settings.query, options=_QUERY_OPTIONS)


async def report_health(health: Health, appender: Appender, kafka: KafkaSettings, query: grpc.aio.Channel) -> None:
    """Keep the health of each service up to date, for ever.

    Writes serve while the log takes them, reads while the query service does. The process as a whole serves as long as
    it runs: each half is of use without the other.
    """
    log_answers = True

    async def check_log() -> None:
        nonlocal log_answers
        while True:
            log_answers = await answers(kafka, TRACES, within=_CHECK_TIMEOUT_SECONDS)
            await asyncio.sleep(_LOG_CHECK_SECONDS)

    async def report_writes() -> None:
        while True:
            for service in (otlp.SERVICE, ingest.SERVICE):
                await health.set(service, serving=log_answers and appender.unavailable is None)
            await asyncio.sleep(_CHECK_SECONDS)

    async def report_reads() -> None:
        while True:
            await health.set(QUERY_SERVICE.full_name, serving=await _is_serving(query))
            await asyncio.sleep(_CHECK_SECONDS)

    await asyncio.gather(check_log(), report_writes(), report_reads())


async def _is_serving(query: grpc.aio.Channel) -> bool:
    request = HealthCheckRequest(service=QUERY_SERVICE.full_name)
    try:
        response = await HealthStub(query).Check(request, timeout=_CHECK_TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError:
        return False
    return bool(response.status == HealthCheckResponse.SERVING)


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.max_connection_age_ms", 600_000),  # connections move on to new processes behind a balancer
        ("grpc.max_connection_age_grace_ms", 60_000),
        ("grpc.keepalive_time_ms", 60_000),  # a peer that is gone is noticed
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
