"""Calls of models: within the provider's rate limit and the project's caps, bounded in time, paused where asked."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from services.write.evaluator import metrics
from services.write.evaluator.providers.endpoints import Endpoint, Endpoints
from services.write.evaluator.providers.provider import (
    CallError,
    ModelReply,
    ModelRequest,
    NoAnswerError,
    PermanentError,
    TransientError,
)
from services.write.evaluator.providers.screening import check_request
from services.write.evaluator.rate_limits import CallDelayedError, RateLimits
from services.write.evaluator.spending import Cost, Spending, reply_cost

FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 60.0


def backoff_seconds(attempt: int, *, retry_after: float | None, chance: Callable[[], float]) -> float:
    """How long to wait after attempt n (from 1) failed: full jitter below 1, 2, 4 … 60 s, on top of `retry_after`.

    `chance` gives numbers from 0 to 1. The jitter comes on top of what the provider asks for, so that not all workers
    are back at the same instant. Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    limit = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 30), MAX_BACKOFF_SECONDS)
    return (retry_after or 0.0) + limit * chance()


class ModelCalls:
    """Calls models by the names of their providers, for all items and LLM judges of this worker."""

    def __init__(
        self, endpoints: Endpoints, limits: RateLimits, spending: Spending | None = None, *, seconds: float
    ) -> None:
        """`seconds` bounds a call. Without `spending` every project may use every provider, without a cap."""
        self._endpoints, self._limits, self._spending, self._seconds = endpoints, limits, spending, seconds

    def has_provider(self, name: str) -> bool:
        """Whether this worker offers a provider of that name."""
        return name in self._endpoints

    @property
    def provider_names(self) -> list[str]:
        """The names of the providers, sorted."""
        return sorted(self._endpoints)

    @property
    def provider_kinds(self) -> dict[str, str]:
        """The kinds of the providers by their names."""
        return {name: endpoint.kind for name, endpoint in self._endpoints.items()}

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints, sorted by the names of the providers."""
        return [self._endpoints[name] for name in self.provider_names]

    async def call(
        self, project_id: str, provider: str, request: ModelRequest, *, on_started: Callable[[], None] = lambda: None
    ) -> ModelReply:
        """Wait until a call may be made, and call the model once; `on_started` is called in between.

        Raises CallError, CallDelayedError when no call may be made soon, and CapReachedError when the project has spent
        what it may.
        """
        endpoint = self._endpoints.get(provider)
        if endpoint is None:
            offered = ", ".join(self.provider_names) or "none"
            raise PermanentError(f"there is no provider {provider!r}; there are {offered}")
        check_request(request, kind=endpoint.kind, images=endpoint.images)
        if self._spending is None:
            return await self._call(endpoint, request, on_started)
        reservation = await self._spending.reserve(project_id, provider, request)
        cost = reservation.estimate
        try:
            reply = await self._call(endpoint, request, on_started)
            cost = reply_cost(reply, reservation.estimate)
        except (CallDelayedError, PermanentError, TransientError) as error:
            if not isinstance(error, NoAnswerError):
                cost = Cost()
            raise
        finally:
            await self._spending.settle(reservation, cost)
        return reply

    async def _call(self, endpoint: Endpoint, request: ModelRequest, on_started: Callable[[], None]) -> ModelReply:
        await self._limits.wait(endpoint)
        on_started()
        start, outcome = perf_counter(), "cancelled"
        try:
            reply = await self._bounded(endpoint.provider.complete(request))
            outcome = "answered"
        except TransientError as error:
            outcome = "passing_error"
            if error.retry_after:
                await self._limits.pause(endpoint, error.retry_after)
            raise
        except CallError:
            outcome = "lasting_error"
            raise
        finally:
            metrics.CALLS.labels(endpoint.name, outcome).inc()
            metrics.CALL_SECONDS.labels(endpoint.name).observe(perf_counter() - start)
        return reply

    async def _bounded(self, call: Awaitable[ModelReply]) -> ModelReply:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError:
            raise NoAnswerError(f"no answer within {self._seconds:g} s") from None
