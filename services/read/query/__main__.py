"""`python -m services.read.query`: serve until asked to stop, then let calls under way finish."""

import asyncio
import sys

import grpc
import structlog
import uvloop
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceServicer, add_DatasetServiceServicer_to_server
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceServicer, add_ExperimentServiceServicer_to_server
from lodestream_proto.v1.prompt_cache_pb2_grpc import add_PromptCacheServiceServicer_to_server
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceServicer, add_PromptServiceServicer_to_server
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceServicer, add_ScoreServiceServicer_to_server

from services.read.query.database import Database
from services.read.query.datasets import DatasetService
from services.read.query.experiments.compare import Comparisons
from services.read.query.experiments.service import ExperimentService
from services.read.query.freshness import LogEnds
from services.read.query.get_trace import TraceReader
from services.read.query.health import report_health
from services.read.query.prompts import PromptCacheService, PromptService
from services.read.query.read_context import Admission, ReadContext
from services.read.query.refusal import leave_to_gateway
from services.read.query.scores import ScoreService
from services.read.query.service import QueryService
from shared.auth.authentication import Authenticator
from shared.auth.caller import KeyInterceptor
from shared.runtime.fairness import Turns
from shared.runtime.garbage import freeze_start
from shared.runtime.serving import Health, serve
from shared.runtime.settings import KafkaSettings, PostgresSettings, QuerySettings
from shared.runtime.telemetry import configure_logging, serve_metrics
from shared.storage.migrate import READER_ROLE, dsn_of_role

log = structlog.get_logger()

_SWITCH_SECONDS = 0.0005
"""How soon a thread that computes (a large tree, a large answer) gives way to the event loop; Python's own is 5 ms."""


async def run(settings: QuerySettings) -> None:
    """Serve until asked to stop. While Kafka is away, answers say up to when their completeness is known."""
    postgres = PostgresSettings()
    dsn = postgres.reader_dsn or dsn_of_role(postgres.dsn, READER_ROLE)
    database = await Database.connect(dsn, settings)
    log_ends = LogEnds(KafkaSettings())
    keys = Authenticator(database.search_pool)
    server = grpc.aio.server(
        interceptors=[KeyInterceptor(keys)],
        options=[("grpc.so_reuseport", 0), ("grpc.max_metadata_size", 16 * 1024)],
    )
    read_context = ReadContext(database, keys, log_ends, Admission.of(settings))
    turns = Turns(has_others=read_context.admission.bulk.tenants.has_others)
    QueryService(read_context, TraceReader(settings, turns)).add_to(server)
    scores = ScoreService(read_context)  # type: ignore[abstract] # what writes is the gateway's
    leave_to_gateway(scores, ScoreServiceServicer)
    add_ScoreServiceServicer_to_server(scores, server)
    prompts = PromptService(read_context)  # type: ignore[abstract]
    leave_to_gateway(prompts, PromptServiceServicer)
    add_PromptServiceServicer_to_server(prompts, server)
    add_PromptCacheServiceServicer_to_server(PromptCacheService(read_context), server)
    datasets = DatasetService(read_context)  # type: ignore[abstract]
    leave_to_gateway(datasets, DatasetServiceServicer)
    add_DatasetServiceServicer_to_server(datasets, server)
    comparisons = Comparisons(dsn, settings, read_context.admission.comparisons)
    experiments = ExperimentService(read_context, comparisons)  # type: ignore[abstract]
    leave_to_gateway(experiments, ExperimentServiceServicer)
    add_ExperimentServiceServicer_to_server(experiments, server)
    health = Health(server)
    port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    log.info("listening", address=f"{settings.host}:{port}")
    background = [
        asyncio.create_task(work) for work in (log_ends.run(), report_health(health, dsn), experiments.watcher.run())
    ]
    freeze_start()
    try:
        await serve(server, health, grace=settings.grace_seconds, at_drain=experiments.watcher.drain)
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        comparisons.close()
        database.terminate()


def main() -> None:
    """Serve with the environment's settings."""
    configure_logging("query")
    serve_metrics()
    sys.setswitchinterval(_SWITCH_SECONDS)
    uvloop.run(run(QuerySettings()))


if __name__ == "__main__":
    main()
