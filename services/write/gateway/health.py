"""What the gateway says of itself: of writes whether the log takes them, of reads whether the query service gives them.

The process as a whole serves as long as it runs: each half is of use without the other.
"""

import asyncio

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.write.gateway import ingest, otlp
from services.write.gateway.server import QUERY_SERVICE
from shared.event_log.append import Appender
from shared.event_log.presence import answers
from shared.event_log.topics import TRACES
from shared.runtime.serving import Health
from shared.runtime.settings import KafkaSettings

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
