"""The one way to models: a place under the provider's limit, a bounded call, and rest where it is asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from services.write.evaluator import metrics
from services.write.evaluator.providers.endpoints import Endpoint, Endpoints
from services.write.evaluator.providers.provider import (
    CallError,
    LastingError,
    PassingError,
    Question,
    Reply,
    UnansweredError,
)
from services.write.evaluator.providers.screening import check_question
from services.write.evaluator.rate_limits import Limits, TooFarError
from services.write.evaluator.spending import Cost, Spending, cost_of_reply


class Calls:
    """Asks by the name of an endpoint. Calls of all items and judges of this process go through one of these."""

    def __init__(
        self, endpoints: Endpoints, limits: Limits, spending: Spending | None = None, *, seconds: float
    ) -> None:
        """Without `spending` every project may use everything, without a cap."""
        self._endpoints, self._limits, self._spending, self._seconds = endpoints, limits, spending, seconds

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

    @property
    def offers(self) -> list[Endpoint]:
        """The endpoints, by name."""
        return [self._endpoints[name] for name in self.names]

    async def ask(
        self, project_id: str, provider: str, question: Question, *, begun: Callable[[], None] = lambda: None
    ) -> Reply:
        """Wait for a place, and ask once for the project; `begun` is called in between.

        Raises CallError, TooFarError when there is no place soon, and CapReachedError when the project has spent what
        it may.
        """
        endpoint = self._endpoints.get(provider)
        if endpoint is None:
            raise LastingError(f"there is no provider {provider!r}; there are {', '.join(self.names) or 'none'}")
        check_question(question, kind=endpoint.kind, images=endpoint.images)
        if self._spending is None:
            return await self._ask(endpoint, question, begun)
        reservation = await self._spending.reserve(project_id, provider, question)
        cost = reservation.estimate
        try:
            reply = await self._ask(endpoint, question, begun)
            cost = cost_of_reply(reply, reservation.estimate)
        except (TooFarError, LastingError, PassingError) as error:
            if not isinstance(error, UnansweredError):
                cost = Cost()
            raise
        finally:
            await self._spending.settle(reservation, cost)
        return reply

    async def _ask(self, endpoint: Endpoint, question: Question, begun: Callable[[], None]) -> Reply:
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
            metrics.CALLS.labels(endpoint.name, outcome).inc()
            metrics.CALL_SECONDS.labels(endpoint.name).observe(perf_counter() - start)
        return reply

    async def _bounded(self, call: Awaitable[Reply]) -> Reply:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError:
            raise UnansweredError(f"no answer within {self._seconds:g} s") from None
