"""The gRPC server: its limits, its services on one port, and its health."""

import asyncio

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from lodestream_proto.v1 import query_pb2

from services.write.gateway import ingest, otlp, proxy, scores
from services.write.gateway.admission import Admission
from services.write.gateway.datasets import DatasetWrites
from services.write.gateway.events import Known
from services.write.gateway.experiments import ExperimentWrites
from services.write.gateway.ingest import IngestService
from services.write.gateway.otlp import TraceService
from services.write.gateway.prompts.service import PromptService
from services.write.gateway.scores import Definitions
from shared.auth.authentication import Authenticator
from shared.auth.caller import KeyInterceptor
from shared.event_log.append import Appender
from shared.event_log.presence import answers
from shared.event_log.topics import TRACES
from shared.runtime.serving import Health
from shared.runtime.settings import MIB, GatewaySettings, KafkaSettings
from shared.runtime.unread import UnreadAnswers

_QUERY_OPTIONS = (
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
QUERY_SERVICE = query_pb2.DESCRIPTOR.services_by_name["QueryService"]
_Handlers = dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]


class PortTakenError(OSError):
    """The address can't be listened on."""


def create_server(
    settings: GatewaySettings,
    admission: Admission,
    appender: Appender,
    query: grpc.aio.Channel,
    *,
    prompts: PromptService,
    datasets: DatasetWrites,
    experiments: ExperimentWrites,
    known: Known,
    keys: Authenticator,
) -> tuple[grpc.aio.Server, int]:
    """The server, not started, and the port it will listen on.

    Raises PortTakenError.
    """
    unread = UnreadAnswers(
        settings.unread_bytes, per_project=settings.unread_bytes_per_project, wait_seconds=1.0, max_waiting=1
    )
    interceptor = KeyInterceptor(keys, unread=unread, pacer=admission.pacer)
    server = grpc.aio.server(interceptors=[interceptor], options=_options(settings))
    traces = TraceService(settings, admission, appender)
    native = IngestService(settings, admission, appender, known)
    # No deserialiser, so that we tell what is wrong with the bytes; unary calls as streams, so that they are judged
    # before their bytes are read.
    export: _Handlers = {"Export": grpc.stream_unary_rpc_method_handler(traces.export)}
    record: _Handlers = {
        "Record": grpc.stream_unary_rpc_method_handler(native.record),
        "Stream": grpc.stream_stream_rpc_method_handler(native.stream),
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(otlp.SERVICE, export),
            grpc.method_handlers_generic_handler(ingest.SERVICE, record),
            grpc.method_handlers_generic_handler(QUERY_SERVICE.full_name, proxy.forwarded(query, QUERY_SERVICE)),
            prompts.handlers(),
            datasets.handlers(),
            experiments.handlers(),
            scores.handlers(Definitions(settings, admission, appender, query, known.configs), query),
        )
    )
    address = f"{settings.host}:{settings.port}"
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError:
        raise PortTakenError(f"LODESTREAM_GATEWAY_HOST:LODESTREAM_GATEWAY_PORT: can't listen on {address}") from None


def query_channel(settings: GatewaySettings) -> grpc.aio.Channel:
    """To the query service, connected when needed."""
    return grpc.aio.insecure_channel(settings.query, options=_QUERY_OPTIONS)


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


_LOOK_SECONDS = 0.5
_ASK_SECONDS = 3.0
"""Between two questions to the log, which may be silent without an append that shows it."""
_PATIENCE = 3.0


async def tell_health(health: Health, appender: Appender, kafka: KafkaSettings, query: grpc.aio.Channel) -> None:
    """Say it for ever."""
    log_answers = True

    async def ask_log() -> None:
        nonlocal log_answers
        while True:
            log_answers = await answers(kafka, TRACES, within=_PATIENCE)
            await asyncio.sleep(_ASK_SECONDS)

    async def tell_writes() -> None:
        while True:
            for service in (otlp.SERVICE, ingest.SERVICE):
                await health.set(service, serving=log_answers and appender.unavailable is None)
            await asyncio.sleep(_LOOK_SECONDS)

    async def tell_reads() -> None:
        while True:
            await health.set(QUERY_SERVICE.full_name, serving=await _gives(query))
            await asyncio.sleep(_LOOK_SECONDS)

    await asyncio.gather(ask_log(), tell_writes(), tell_reads())


async def _gives(query: grpc.aio.Channel) -> bool:
    try:
        answer = await HealthStub(query).Check(HealthCheckRequest(service=QUERY_SERVICE.full_name), timeout=_PATIENCE)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == HealthCheckResponse.SERVING)
