"""Changes as Redis tells of them: what is remembered gives way, and who watches is told."""

import asyncio

import structlog

from services.write.gateway.prompts.store import Store
from services.write.gateway.prompts.watch import Watching
from shared.storage.prompt_cache import CacheAwayError, PromptCache

log = structlog.get_logger()
_PAUSE_SECONDS = 1.0


class Telling:
    """Listens for ever; after each pause in it, everything may have changed."""

    def __init__(self, redis: PromptCache) -> None:
        self._redis = redis
        self.listens = False
        """Changes are told of now."""

    async def run(self, store: Store, watching: Watching) -> None:
        """Until cancelled."""
        said = ""
        while True:
            try:
                async for change in self._redis.changes():
                    if change is None:
                        self.listens, said = True, ""
                        store.doubt_all()
                        watching.look_at_all()
                    else:
                        key = (change.project_id, change.name)
                        store.tell(key, change.revision)
                        watching.look(key)
            except CacheAwayError as error:
                if said != (said := str(error)):
                    log.warning("no changes of prompts are told; they are looked for", error=said)
            finally:
                self.listens = False
            await asyncio.sleep(_PAUSE_SECONDS)
