"""PromptService: its commands, its cached reads and its streams are served here, all else is forwarded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from lodestream_proto.v1 import prompts_pb2

from services.write.gateway import proxy
from services.write.gateway.prompts.commands import PromptCommands
from services.write.gateway.prompts.head_cache import HeadCache
from services.write.gateway.prompts.lookup import REDIS_SECONDS, PromptLookup, QueryLayer, RedisLayer
from services.write.gateway.prompts.reads import PromptReads
from services.write.gateway.prompts.watch import ChangeListener, PromptWatches
from services.write.gateway.write_rpc import WriteRpcs
from shared.runtime.settings import RedisSettings
from shared.storage.prompt_cache import PromptCache

_SERVICE = prompts_pb2.DESCRIPTOR.services_by_name["PromptService"]


class PromptService:
    """Serves prompts in this process."""

    def __init__(self, rpcs: WriteRpcs, query: grpc.aio.Channel, redis: PromptCache) -> None:
        admission, settings = rpcs.admission, rpcs.settings
        self._channel = query
        self._redis = RedisLayer(redis)
        self._lookup = PromptLookup(HeadCache(settings.prompt_memory_bytes), self._redis, QueryLayer(query))
        self._listener = ChangeListener(redis)
        self._watches = PromptWatches(
            admission, self._lookup, is_listening=lambda: self._listener.is_listening, settings=settings
        )
        self._commands = PromptCommands(rpcs, query, self._lookup)
        self._reads = PromptReads(admission, self._lookup, proxy.forward(query, f"/{_SERVICE.full_name}/GetPrompt"))

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return every method of the service, from bytes to bytes."""
        methods = {**self._commands.methods(), **self._reads.methods(), **self._watches.methods()}
        return proxy.service_handler(self._channel, _SERVICE, methods)

    def drain(self) -> None:
        """End the streams of clients that watch, so that they go elsewhere."""
        self._watches.drain()

    async def run(self) -> None:
        """Listen for changes, and look for those that were not announced, until cancelled."""
        await asyncio.gather(self._listener.run(self._lookup, self._watches), self._watches.run())

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._redis.close()


@asynccontextmanager
async def prompt_service(rpcs: WriteRpcs, query: grpc.aio.Channel) -> AsyncIterator[PromptService]:
    """Run the service while this is entered."""
    service = PromptService(rpcs, query, PromptCache(RedisSettings().url, seconds=REDIS_SECONDS))
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await service.close()
