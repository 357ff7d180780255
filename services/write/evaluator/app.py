"""The application of the evaluator: the fold of the log into the queue, and beside it the worker."""

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.write.evaluator.finisher import Finisher
from services.write.evaluator.fold import NAME, RunsFold
from services.write.evaluator.item_runner import ItemRunner
from services.write.evaluator.jobs import JobQueue, listen_for_work
from services.write.evaluator.model_calls import ModelCalls
from services.write.evaluator.planner import LogEnds, Planner
from services.write.evaluator.prompts import PromptVersions
from services.write.evaluator.providers.endpoints import open_endpoints
from services.write.evaluator.publisher import ResultPublisher
from services.write.evaluator.rate_limits import RateLimits
from services.write.evaluator.run_context import RunContexts
from services.write.evaluator.schema_validation import SchemaValidator
from services.write.evaluator.spending import Spending
from services.write.evaluator.supervisor import RunSupervisor
from services.write.evaluator.worker import Worker
from shared.event_log.append import Appender
from shared.event_log.projections import ProjectionSpec
from shared.event_log.topics import EXPERIMENTS, SCORES, TRACES
from shared.projection.app import background_task, make_app
from shared.runtime.settings import EvaluatorSettings, KafkaSettings, PostgresSettings, RedisSettings
from shared.storage.postgres import connect_pool

_START_SECONDS = 5.0  # for which Kafka may hold up the start; without it nothing is claimed
_FLUSH_SECONDS = 5.0
_TIMEOUTS = {
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
    """Make the application; settings that are not given are read from the environment."""
    kafka_settings, postgres_settings = kafka or KafkaSettings(), postgres or PostgresSettings()
    evaluator_settings, redis_settings = settings or EvaluatorSettings(), redis or RedisSettings()

    @asynccontextmanager
    async def open_fold(_: asyncpg.Pool) -> AsyncIterator[RunsFold]:
        async with _running_worker(evaluator_settings, kafka_settings, postgres_settings, redis_settings):
            yield RunsFold()

    return make_app(
        _SPEC, open_fold, kafka=kafka_settings, postgres=postgres_settings, group=evaluator_settings.group
    )  # fmt: skip


@asynccontextmanager
async def _running_worker(
    settings: EvaluatorSettings, kafka: KafkaSettings, postgres: PostgresSettings, redis: RedisSettings
) -> AsyncIterator[None]:
    """Run a worker beside the body of the `with` statement; at its end, drain it."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            postgres.dsn,
            application="evaluator",
            search_path="evaluator, lodestream",
            max_size=_CONNECTIONS,
            command_timeout=120,
            server_settings=_TIMEOUTS,
        )
        stack.push_async_callback(pool.close)
        endpoints = await stack.enter_async_context(open_endpoints(settings.providers, seconds=settings.call_seconds))
        limits = RateLimits(redis.url, workers=lambda: worker.workers)
        stack.push_async_callback(limits.aclose)
        log_ends = LogEnds(kafka, pool)
        stack.push_async_callback(log_ends.aclose)
        appender = Appender(kafka, topics=[TRACES, SCORES, EXPERIMENTS], client_id="lodestream-evaluator")
        await appender.start(wait=_START_SECONDS)
        stack.push_async_callback(appender.stop, grace=_FLUSH_SECONDS)

        spending = Spending(pool, call_seconds=settings.call_seconds)
        stack.push_async_callback(spending.flush)
        calls = ModelCalls(endpoints, limits, spending, seconds=settings.call_seconds)
        prompts = PromptVersions(pool)
        jobs = JobQueue(
            pool,
            owner=owner,
            lease_seconds=settings.lease_seconds,
            endpoints=calls.endpoints,
            provider_grace_seconds=settings.provider_grace_seconds,
        )
        await jobs.heartbeat()  # whoever requests a run once this process is ready finds what it offers
        publisher = ResultPublisher(jobs, appender)
        schemas = SchemaValidator()
        stack.push_async_callback(schemas.aclose)
        runner = ItemRunner(
            calls, prompts, schemas, attempts=settings.attempts, evaluation_seconds=settings.evaluation_seconds
        )
        worker = Worker(
            settings,
            jobs=jobs,
            contexts=RunContexts(pool, prompts, calls),
            runner=runner,
            publisher=publisher,
            appender=appender,
            providers=calls.provider_names,
        )
        supervisor = RunSupervisor(
            pool,
            Planner(pool, log_ends, prompts, calls),
            Finisher(pool, log_ends, appender, evaluation_seconds=settings.evaluation_seconds),
            providers=calls.provider_names,
            provider_grace_seconds=settings.provider_grace_seconds,
        )

        def wake_up() -> None:
            worker.wake_up.set()
            worker.heartbeat_due.set()
            supervisor.wake_up.set()

        await stack.enter_async_context(background_task(spending.run()))
        await stack.enter_async_context(background_task(publisher.run()))
        await stack.enter_async_context(background_task(worker.send_heartbeats()))
        stack.push_async_callback(worker.drain)
        await stack.enter_async_context(background_task(worker.claim_jobs()))
        await stack.enter_async_context(background_task(supervisor.run()))
        await stack.enter_async_context(background_task(listen_for_work(pool, wake_up)))
        yield
