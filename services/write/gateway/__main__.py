"""`python -m services.write.gateway`: serve until SIGTERM or Ctrl-C, then let calls under way finish."""

import asyncio
import sys
from functools import partial

import structlog
import uvloop

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.datasets import DatasetService
from services.write.gateway.events import ReferenceLookup
from services.write.gateway.experiments import ExperimentService
from services.write.gateway.first_key import WeakSecretError, check_secret, seed
from services.write.gateway.ingest import IngestService
from services.write.gateway.otlp import TraceService
from services.write.gateway.prompts.service import prompt_service
from services.write.gateway.schema_sandbox import SchemaSandbox
from services.write.gateway.scores import ScoreService
from services.write.gateway.server import PortTakenError, create_server, query_channel, report_health
from services.write.gateway.write_rpc import WriteRpcs
from shared.auth.authentication import Authenticator
from shared.event_log.append import Appender
from shared.event_log.projections import PROJECTIONS
from shared.runtime.garbage import freeze_start
from shared.runtime.serving import Health, serve
from shared.runtime.settings import GatewaySettings, InitSettings, KafkaSettings, PostgresSettings
from shared.runtime.telemetry import configure_logging, serve_metrics
from shared.storage.migrate import GATEWAY_ROLE, dsn_of_role
from shared.storage.postgres import connect_pool

log = structlog.get_logger()

_START_SECONDS = 5.0
"""The longest that Kafka and Postgres may hold up the start; without them writes are refused with RetryInfo."""


async def run(settings: GatewaySettings) -> None:
    """Serve until the process is asked to stop.

    Raises PortTakenError and WeakSecretError.
    """
    postgres, kafka, init = PostgresSettings(), KafkaSettings(), InitSettings()
    check_secret(init, settings.host)
    dsn = postgres.gateway_dsn or dsn_of_role(postgres.dsn, GATEWAY_ROLE)
    pool = await connect_pool(dsn, application="gateway", min_size=0, max_size=4, command_timeout=5)
    appender = Appender(kafka, topics=[projection.topic for projection in PROJECTIONS], client_id="lodestream-gateway")
    metrics.watch(appender)
    sandbox = SchemaSandbox()
    background = [asyncio.create_task(seed(postgres.dsn, init))]
    try:
        keys = Authenticator(pool)
        rpcs = WriteRpcs(settings, Admission(settings, keys, appender), appender)
        references = ReferenceLookup(pool)
        async with query_channel(settings) as query, prompt_service(rpcs, query) as prompts:
            services = (
                TraceService(rpcs),
                IngestService(rpcs, references),
                ScoreService(rpcs, query, references.configs),
                prompts,
                DatasetService(rpcs, query, pool, sandbox),
                ExperimentService(rpcs, query, pool, references.runs, sandbox),
            )
            server, port = create_server(rpcs, keys, query, [service.handlers() for service in services])
            health = Health(server)
            await asyncio.gather(appender.start(wait=_START_SECONDS), asyncio.wait(background, timeout=_START_SECONDS))
            background += [
                asyncio.create_task(report_health(health, appender, kafka, query)),
                asyncio.create_task(rpcs.admission.lateness.watch()),
            ]
            freeze_start()
            log.info("serving", address=f"{settings.host}:{port}")
            await serve(
                server,
                health,
                turn_away=settings.turn_away_seconds,
                grace=settings.grace_seconds,
                at_drain=prompts.drain,
                before_stop=partial(appender.stop, grace=settings.flush_seconds),
            )
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await sandbox.close()
        pool.terminate()


def main() -> None:
    """Serve with the environment's settings."""
    configure_logging("gateway")
    serve_metrics()
    try:
        uvloop.run(run(GatewaySettings()))
    except (PortTakenError, WeakSecretError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
