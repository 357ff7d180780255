"""The gRPC server: its limits and its services, on one port."""

import grpc
from lodestream_proto.v1 import query_pb2

from services.write.gateway import ingest, otlp, proxy
from services.write.gateway.admission import Admission
from services.write.gateway.datasets.service import DatasetWrites
from services.write.gateway.experiments.service import ExperimentWrites
from services.write.gateway.ingest import IngestService
from services.write.gateway.known import Known
from services.write.gateway.otlp import TraceService
from services.write.gateway.prompts.service import PromptService
from services.write.gateway.scores import service as scores
from services.write.gateway.scores.service import Definitions
from shared.auth.authentication import Authenticator
from shared.auth.caller import KeyInterceptor
from shared.event_log.append import Appender
from shared.runtime.settings import MIB, GatewaySettings
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
