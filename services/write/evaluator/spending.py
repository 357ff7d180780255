"""What projects spend on model calls: reserved before a call where there is a cap, settled after it.

A call costs what nobody knows before it is answered, so an estimate is reserved: many workers that each see room never
exceed a cap together by more than estimates are wrong. What a worker that died had reserved counts as spent.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import structlog

from services.write.evaluator.providers.provider import ModelReply, ModelRequest, PermanentError
from services.write.evaluator.rate_limits import CallDelayedError
from shared.runtime.lru_cache import LruCache
from shared.spans.pricing import cost_of, total_cost
from shared.storage.named_queries import load_queries
from shared.storage.postgres import DATABASE_ERRORS
from shared.storage.provider_access import Access, Cap, read_access, read_caps

log = structlog.get_logger()

_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_LOCK_CAPS, _SUM_RESERVATIONS = _QUERIES["lock_caps"], _QUERIES["sum_reservations"]
_INSERT_RESERVATION, _DELETE_RESERVATION = _QUERIES["insert_reservation"], _QUERIES["delete_reservation"]
_ADD_TO_PERIODS, _EXPIRE_RESERVATIONS = _QUERIES["add_to_periods"], _QUERIES["expire_reservations"]
_CACHE_SECONDS, _MAX_CACHED = 5.0, 1_000
_FLUSH_SECONDS = 1.0
_RETRY_SECONDS = 2.0
_DEFAULT_ANSWER_TOKENS = 4_096
"""How long an answer is expected to be where the request does not bound it."""
_CHARACTERS_PER_TOKEN, _MESSAGE_TOKENS = 4, 4


class CapReachedError(Exception):
    """The project has spent what it may; the message says how much that is, and in which period."""


class SpendingDelayedError(CallDelayedError):
    """Nothing can be reserved now: calls under way may come to the cap, or the database is away."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a call: money by the price table, or tokens of a model that is not in it."""

    picodollars: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may be made. Without an id nothing is reserved: the project has no cap."""

    project_id: str
    estimate: Cost
    reservation_id: UUID | None


class Spending:
    """Holds the calls of this worker to the operator's grants and caps."""

    def __init__(self, pool: asyncpg.Pool, *, call_seconds: float) -> None:
        """`call_seconds` is the longest that a call may take."""
        self._pool, self._reserved_for = pool, timedelta(seconds=call_seconds + 60)
        self._cached: LruCache[str, tuple[float, Mapping[str, Access], bool]] = LruCache(_MAX_CACHED)
        self._unflushed: Counter[tuple[str, str]] = Counter()

    async def reserve(self, project_id: str, provider: str, request: ModelRequest) -> Reservation:
        """Reserve what the call may cost.

        Raises PermanentError when the project may not use the model, CapReachedError when it has spent what it may, and
        SpendingDelayedError when that can't be told now.
        """
        try:
            return await self._reserve(project_id, provider, request)
        except DATABASE_ERRORS as error:
            log.warning("nothing can be reserved", error=f"{type(error).__name__}: {error}"[:300])
            raise SpendingDelayedError(_RETRY_SECONDS) from None

    async def _reserve(self, project_id: str, provider: str, request: ModelRequest) -> Reservation:
        access, has_cap = await self._rules(project_id)
        if provider not in access:
            raise PermanentError(f"the project may not use the provider {provider!r}")
        if why := access[provider].why_not(request.model):
            raise PermanentError(why)
        estimate = estimate_cost(request)
        if not has_cap:
            return Reservation(project_id, estimate, None)
        reservation_id = uuid4()
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetch(_LOCK_CAPS, project_id)
            await connection.execute(_EXPIRE_RESERVATIONS, project_id)
            caps = await read_caps(connection, project_id)
            for cap in caps:
                if why := cap.why_reached(estimate.picodollars, estimate.tokens):
                    raise CapReachedError(f"the spending cap is reached: {why}")
            reserved = await connection.fetchrow(_SUM_RESERVATIONS, project_id)
            assert reserved is not None
            if any(_is_full(cap, reserved, estimate) for cap in caps):
                raise SpendingDelayedError(_RETRY_SECONDS)
            await connection.execute(
                _INSERT_RESERVATION,
                project_id,
                reservation_id,
                self._reserved_for,
                estimate.picodollars,
                estimate.tokens,
            )
        return Reservation(project_id, estimate, reservation_id)

    async def settle(self, reservation: Reservation, cost: Cost) -> None:
        """Replace a reservation by the cost. When the database is away, the estimate counts once it has expired."""
        if reservation.reservation_id is None:
            self._unflushed[reservation.project_id, "picodollars"] += cost.picodollars
            self._unflushed[reservation.project_id, "tokens"] += cost.tokens
            return
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_DELETE_RESERVATION, reservation.project_id, reservation.reservation_id)
                await connection.execute(_ADD_TO_PERIODS, [reservation.project_id], [cost.picodollars], [cost.tokens])
        except DATABASE_ERRORS as error:
            log.warning(
                "a call's cost is not settled; its estimate counts", error=f"{type(error).__name__}: {error}"[:300]
            )

    async def run(self) -> None:
        """Store what projects without a cap have spent every second, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Store what is not stored yet; nothing is lost when the database is away."""
        spent, self._unflushed = self._unflushed, Counter()
        projects = sorted({project for (project, _), amount in spent.items() if amount})
        if not projects:
            return
        try:
            await self._pool.execute(
                _ADD_TO_PERIODS,
                projects,
                *([spent[project, kind] for project in projects] for kind in ("picodollars", "tokens")),
            )
        except DATABASE_ERRORS as error:
            self._unflushed.update(spent)
            log.warning("what projects spend is written down later", error=f"{type(error).__name__}: {error}"[:300])

    async def _rules(self, project_id: str) -> tuple[Mapping[str, Access], bool]:
        """What the project may use, and whether it has a cap; cached for some seconds."""
        now = monotonic()
        if (cached := self._cached.get(project_id)) and cached[0] > now:
            return cached[1:]
        access, caps = await read_access(self._pool, project_id), await read_caps(self._pool, project_id)
        self._cached[project_id] = now + _CACHE_SECONDS, access, bool(caps)
        return access, bool(caps)


def estimate_cost(request: ModelRequest) -> Cost:
    """What a call costs if its answer is as long as it may be; images count as nothing."""
    characters = sum(len(str(message.get("content") or "")) for message in request.messages)
    input_tokens = -(-characters // _CHARACTERS_PER_TOKEN) + _MESSAGE_TOKENS * len(request.messages)
    settings = request.settings
    max_tokens = settings.get("max_completion_tokens") or settings.get("max_tokens") or _DEFAULT_ANSWER_TOKENS
    return _cost(request.model, {"input": input_tokens, "output": int(max_tokens)})


def reply_cost(reply: ModelReply, estimate: Cost) -> Cost:
    """What the answer has cost, or the estimate where the provider does not report usage."""
    return _cost(reply.model, dict(reply.usage)) if reply.usage else estimate


def _cost(model: str, usage: dict[str, int]) -> Cost:
    cost = cost_of(model, usage)
    if cost is not None:
        return Cost(picodollars=total_cost(cost))
    return Cost(tokens=usage.get("input", 0) + usage.get("output", 0))


def _is_full(cap: Cap, reserved: Mapping[str, int], estimate: Cost) -> bool:
    """Whether the cap would be exceeded if all calls under way came to what is reserved for them."""
    return bool(
        cap.why_reached(int(reserved["picodollars"]) + estimate.picodollars, int(reserved["tokens"]) + estimate.tokens)
    )
