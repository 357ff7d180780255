"""PromptService: its commands, its cached reads and its streams are answered here, all else is forwarded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from lodestream_proto.v1 import prompts_pb2

from services.write.gateway import proxy
from services.write.gateway.admission import Admission
from services.write.gateway.prompts.commands import KINDS, Writes
from services.write.gateway.prompts.head_cache import Memory
from services.write.gateway.prompts.lookup import REDIS_SECONDS, Cache, Origin, Store
from services.write.gateway.prompts.reads import Reads
from services.write.gateway.prompts.watch import Telling, Watching
from shared.event_log.append import Appender
from shared.runtime.settings import GatewaySettings, RedisSettings
from shared.storage.prompt_cache import PromptCache

_SERVICE = prompts_pb2.DESCRIPTOR.services_by_name["PromptService"]


class PromptService:
    """All about prompts in this process."""

    def __init__(
        self,
        settings: GatewaySettings,
        admission: Admission,
        appender: Appender,
        query: grpc.aio.Channel,
        redis: PromptCache,
    ) -> None:
        self._query = query
        self._cache = Cache(redis)
        self._store = Store(Memory(settings.prompt_memory_bytes), self._cache, Origin(query))
        self._telling = Telling(redis)
        self._watching = Watching(admission, self._store, told=lambda: self._telling.listens, settings=settings)
        self._writes = Writes(settings, admission, appender, query, self._store)
        self._reads = Reads(admission, self._store, proxy.forward(query, f"/{_SERVICE.full_name}/GetPrompt"))

    def handlers(self) -> grpc.GenericRpcHandler:
        """Every method of the service, bytes to bytes."""
        ours: dict[str, Any] = {
            kind.rpc: grpc.stream_unary_rpc_method_handler(self._writes.method(kind)) for kind in KINDS
        }
        ours["GetPrompt"] = grpc.unary_unary_rpc_method_handler(self._reads.get_prompt)
        ours["GetPrompts"] = grpc.unary_unary_rpc_method_handler(self._reads.get_prompts)
        ours["WatchPrompts"] = grpc.unary_stream_rpc_method_handler(self._watching.stream)
        return grpc.method_handlers_generic_handler(
            _SERVICE.full_name, {**proxy.forwarded(self._query, _SERVICE, but=ours), **ours}
        )

    def drain(self) -> None:
        """End the streams of clients that watch, so that they go elsewhere."""
        self._watching.drain()

    async def run(self) -> None:
        """Listen for changes and look for those that nobody told of, until cancelled."""
        await asyncio.gather(self._telling.run(self._store, self._watching), self._watching.run())

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._cache.close()


@asynccontextmanager
async def prompt_service(
    settings: GatewaySettings, admission: Admission, appender: Appender, query: grpc.aio.Channel
) -> AsyncIterator[PromptService]:
    """The service at work."""
    service = PromptService(
        settings, admission, appender, query, PromptCache(RedisSettings().url, seconds=REDIS_SECONDS)
    )
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await service.close()
