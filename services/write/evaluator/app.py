"""The application: what is asked from the log into the queue, and beside it the work."""

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.write.evaluator.finisher import Finisher
from services.write.evaluator.folding.folding import NAME, RunsFold
from services.write.evaluator.folding.tables import WAKE
from services.write.evaluator.item_runner import Trying
from services.write.evaluator.jobs import Jobs
from services.write.evaluator.listening import listening
from services.write.evaluator.log_ends import LogEnds
from services.write.evaluator.model_calls import Calls
from services.write.evaluator.planner import Planner
from services.write.evaluator.prompts import Prompts
from services.write.evaluator.providers.endpoints import open_endpoints
from services.write.evaluator.publisher import Teller
from services.write.evaluator.rate_limits import Limits
from services.write.evaluator.run_context import Runs
from services.write.evaluator.schema_validation import Schemas
from services.write.evaluator.spending import Spending
from services.write.evaluator.supervisor import Caretaker
from services.write.evaluator.worker import Worker
from shared.event_log.append import Appender
from shared.event_log.topics import EXPERIMENTS, SCORES, TRACES
from shared.read_model.postgres import connect_pool
from shared.read_model.projecting.app import beside, make_app
from shared.read_model.projecting.specs import ProjectionSpec
from shared.runtime.settings import EvaluatorSettings, KafkaSettings, PostgresSettings, RedisSettings

_PATIENCE = 5.0  # seconds for which Kafka may hold up the start; without it nothing is claimed
_FLUSH_SECONDS = 5.0
_BOUNDS = {
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "10s",
    "statement_timeout": "120s",
    "transaction_timeout": "60s",  # of a process frozen between two messages of a statement: that is not idle
}
_CONNECTIONS = 8
_SPEC = ProjectionSpec(
    name=NAME,
    topic=EXPERIMENTS,
    summary="Runs of prompts, their results and changes of their state become jobs. Models are called elsewhere.",
    title="Lodestream evaluator",
    description="runs the experiments whose task is a prompt",
)


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    settings: EvaluatorSettings | None = None,
    redis: RedisSettings | None = None,
) -> AsgiFastStream:
    """The application for these settings, by default the environment's."""
    its_kafka, its_postgres = kafka or KafkaSettings(), postgres or PostgresSettings()
    its, its_redis = settings or EvaluatorSettings(), redis or RedisSettings()

    @asynccontextmanager
    async def open_fold(_: asyncpg.Pool) -> AsyncIterator[RunsFold]:
        async with _working(its, its_kafka, its_postgres, its_redis):
            yield RunsFold()

    return make_app(_SPEC, open_fold, kafka=its_kafka, postgres=its_postgres, group=its.group)


@asynccontextmanager
async def _working(
    settings: EvaluatorSettings, kafka: KafkaSettings, postgres: PostgresSettings, redis: RedisSettings
) -> AsyncIterator[None]:
    """Work beside the body; at its end, drain."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            postgres.dsn,
            application="evaluator",
            search_path="evaluator, lodestream",
            max_size=_CONNECTIONS,
            command_timeout=120,
            server_settings=_BOUNDS,
        )
        stack.push_async_callback(pool.close)
        endpoints = await stack.enter_async_context(open_endpoints(settings.providers, seconds=settings.call_seconds))
        limits = Limits(redis.url, workers=lambda: worker.workers)
        stack.push_async_callback(limits.aclose)
        ends = LogEnds(kafka, pool)
        stack.push_async_callback(ends.aclose)
        appender = Appender(kafka, topics=[TRACES, SCORES, EXPERIMENTS], client_id="lodestream-evaluator")
        await appender.start(wait=_PATIENCE)
        stack.push_async_callback(appender.stop, grace=_FLUSH_SECONDS)

        spending = Spending(pool, call_seconds=settings.call_seconds)
        stack.push_async_callback(spending.flush)
        calls, prompts = Calls(endpoints, limits, spending, seconds=settings.call_seconds), Prompts(pool)
        jobs = Jobs(
            pool,
            owner=owner,
            lease_seconds=settings.lease_seconds,
            offers=calls.offers,
            provider_grace_seconds=settings.provider_grace_seconds,
        )
        await jobs.seen()  # whoever asks for a run once this process is ready, finds what it offers
        teller = Teller(jobs, appender)
        schemas = Schemas()
        stack.push_async_callback(schemas.aclose)
        trying = Trying(
            calls, prompts, schemas, attempts=settings.attempts, evaluation_seconds=settings.evaluation_seconds
        )
        worker = Worker(
            settings,
            jobs=jobs,
            runs=Runs(pool, prompts, calls),
            trying=trying,
            teller=teller,
            appender=appender,
            providers=calls.names,
        )
        caretaker = Caretaker(
            pool,
            Planner(pool, ends, prompts, calls),
            Finisher(pool, ends, appender, evaluation_seconds=settings.evaluation_seconds),
            providers=calls.names,
            provider_grace_seconds=settings.provider_grace_seconds,
        )

        def heard() -> None:
            worker.woken.set()
            worker.turned.set()
            caretaker.woken.set()

        await stack.enter_async_context(beside(spending.run()))
        await stack.enter_async_context(beside(teller.run()))
        await stack.enter_async_context(beside(worker.beating()))
        stack.push_async_callback(worker.drain)
        await stack.enter_async_context(beside(worker.claiming()))
        await stack.enter_async_context(beside(caretaker.run()))
        await stack.enter_async_context(beside(listening(pool, WAKE, heard)))
        yield
