"""The one way to models: a place under the provider's limit, a bounded call, and rest where it is asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from services.write.evaluator import metrics
from services.write.evaluator.limits import Limits
from services.write.evaluator.providers.endpoints import Endpoints
from services.write.evaluator.providers.provider import CallError, LastingError, PassingError, Question, Reply
from services.write.evaluator.providers.screening import check_question


class Calls:
    """Asks by the name of an endpoint. Calls of all items and judges of this process go through one of these."""

    def __init__(self, endpoints: Endpoints, limits: Limits, *, seconds: float) -> None:
        self._endpoints, self._limits, self._seconds = endpoints, limits, seconds

    def knows(self, provider: str) -> bool:
        """Whether there is such an endpoint."""
        return provider in self._endpoints

    @property
    def names(self) -> list[str]:
        """Of the endpoints."""
        return sorted(self._endpoints)

    @property
    def kinds(self) -> dict[str, str]:
        """Of the endpoints, by name."""
        return {name: endpoint.kind for name, endpoint in self._endpoints.items()}

    async def ask(self, provider: str, question: Question, *, begun: Callable[[], None] = lambda: None) -> Reply:
        """Wait for a place, and ask once; `begun` is called in between.

        Raises CallError, and TooFarError when there is no place soon.
        """
        endpoint = self._endpoints.get(provider)
        if endpoint is None:
            raise LastingError(f"there is no provider {provider!r}; there are {', '.join(self.names) or 'none'}")
        check_question(question, kind=endpoint.kind, images=endpoint.images)
        await self._limits.wait(endpoint)
        begun()
        start, outcome = perf_counter(), "cancelled"
        try:
            reply = await self._bounded(endpoint.provider.ask(question))
            outcome = "answered"
        except PassingError as error:
            outcome = "passing_error"
            if error.retry_after:
                await self._limits.rest(endpoint, error.retry_after)
            raise
        except CallError:
            outcome = "lasting_error"
            raise
        finally:
            metrics.CALLS.labels(provider, outcome).inc()
            metrics.CALL_SECONDS.labels(provider).observe(perf_counter() - start)
        return reply

    async def _bounded(self, call: Awaitable[Reply]) -> Reply:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError:
            raise PassingError(f"no answer within {self._seconds:g} s") from None
