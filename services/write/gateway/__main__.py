"""`python -m services.write.gateway`: serve until asked to stop, then let calls under way finish."""

import asyncio

import asyncpg
import grpc
import structlog
import uvloop

from services.write.gateway import ingest, otlp, proxy
from services.write.gateway.admission import Admission
from services.write.gateway.ingest import IngestService
from services.write.gateway.otlp import TraceService
from shared.event_log.append import Appender
from shared.read_model.authentication import Authenticator
from shared.read_model.keys import KeyTakenError, NewKey, seed_key
from shared.read_model.postgres import connect_pool
from shared.runtime.serving import Health, serve
from shared.runtime.settings import GatewaySettings, InitSettings, KafkaSettings, PostgresSettings
from shared.runtime.telemetry import configure_logging, serve_metrics

log = structlog.get_logger()

_CONNECT_SECONDS = 5.0  # then serve all the same: reads do not need the log


async def run(settings: GatewaySettings) -> None:
    """Serve. Kafka and Postgres may be away: writes are then refused with RetryInfo, and go on when they are back."""
    pool = await _pool()
    appender = Appender(KafkaSettings())
    await appender.start(wait=_CONNECT_SECONDS)
    seeding = asyncio.create_task(_seed(pool, InitSettings()))
    admission = Admission(
        Authenticator(pool),
        max_in_flight_bytes=settings.max_in_flight_bytes,
        quota_bytes=settings.quota_bytes_per_second,
    )
    async with grpc.aio.insecure_channel(settings.query) as query:
        server = _server(settings, admission, appender, query)
        try:
            await serve(
                server,
                Health(server),
                turn_away=settings.turn_away_seconds,
                grace=settings.grace_seconds,
                before_stop=appender.stop,
            )
        finally:
            seeding.cancel()
            await asyncio.gather(seeding, return_exceptions=True)
            await pool.close()


def _server(
    settings: GatewaySettings, admission: Admission, appender: Appender, query: grpc.aio.Channel
) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", int(settings.reuse_port)),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_metadata_size", settings.max_metadata_bytes),
            ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
            ("grpc.max_connection_age_ms", 600_000),
            ("grpc.max_connection_age_grace_ms", 30_000),
        ]
    )
    trace = TraceService(admission, appender, append_seconds=settings.ack_seconds)
    native = IngestService(
        admission,
        appender,
        append_seconds=settings.ack_seconds,
        max_opened_bytes=settings.max_message_bytes,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                otlp.SERVICE, {"Export": grpc.unary_unary_rpc_method_handler(trace.export)}
            ),
            grpc.method_handlers_generic_handler(
                ingest.SERVICE,
                {
                    "Record": grpc.unary_unary_rpc_method_handler(native.record),
                    "Stream": grpc.stream_stream_rpc_method_handler(native.stream),
                },
            ),
            proxy.handlers(query),
        )
    )
    port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    log.info("listening", address=f"{settings.host}:{port}")
    return server


async def _pool() -> asyncpg.Pool:
    """The pool, as soon as Postgres answers for the first time."""
    while True:
        try:
            return await connect_pool(PostgresSettings().dsn, application="gateway", max_size=4, command_timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            log.warning("waiting for Postgres", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(1)


async def _seed(pool: asyncpg.Pool, init: InitSettings) -> None:
    if not (init.project_id and init.public_key and init.secret_key):
        return
    key = NewKey(init.public_key, init.secret_key.get_secret_value())
    while True:
        try:
            async with pool.acquire() as connection:
                await seed_key(connection, init.project_id, init.project_name or init.project_id, key)
        except KeyTakenError as error:
            log.error("the first key was not seeded", reason=str(error))  # noqa: TRY400 - a configuration to mend
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            log.warning("the first key is not seeded yet", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(1)
        else:
            return


def main() -> None:
    """Serve with the environment's settings."""
    configure_logging("gateway")
    serve_metrics()
    uvloop.run(run(GatewaySettings()))


if __name__ == "__main__":
    main()
