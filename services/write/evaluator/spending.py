"""What projects spend on model calls: reserved before a call where there is a cap, settled after it.

A call costs what nobody knows before it is answered, so an estimate is reserved: many workers that each see room never
exceed a cap together by more than estimates are wrong. What a worker that died had reserved counts as spent.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import structlog

from services.write.evaluator.providers.provider import LastingError, Question, Reply
from services.write.evaluator.rate_limits import TooFarError
from shared.read_model.postgres import DATABASE_ERRORS, load_sql
from shared.read_model.pricing import cost_of, total_cost
from shared.read_model.provider_access import Access, Cap, read_access, read_caps

log = structlog.get_logger()

_SQL = Path(__file__).parent / "sql"
_SPEND, _EXPIRE = load_sql(_SQL / "spend_on_calls.sql"), load_sql(_SQL / "expire_reservations.sql")
_LOCK = "SELECT FROM lodestream.spending_caps WHERE project_id = $1 ORDER BY period FOR UPDATE"
_RESERVED = """
SELECT coalesce(sum(picodollars), 0) AS picodollars, coalesce(sum(tokens), 0) AS tokens
FROM lodestream.spending_reservations WHERE project_id = $1
"""
_RESERVE = "INSERT INTO lodestream.spending_reservations VALUES ($1, $2, now() + $3::interval, $4, $5)"
_RELEASE = "DELETE FROM lodestream.spending_reservations WHERE project_id = $1 AND reservation_id = $2"
_REMEMBER_SECONDS, _MOST_REMEMBERED = 5.0, 1_000
_FLUSH_SECONDS = 1.0
_AGAIN_SECONDS = 2.0
_USUAL_TOKENS = 4_096
"""Of an answer, where a call does not bound it."""
_CHARACTERS_PER_TOKEN, _MESSAGE_TOKENS = 4, 4
_AWAY = DATABASE_ERRORS


class CapReachedError(Exception):
    """The project has spent what it may; the message says how much that is, and in which period."""


class NoRoomError(TooFarError):
    """Nothing can be reserved now: calls under way may come to the cap, or the database is away."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a call: money by the price table, or tokens of a model that is not in it."""

    picodollars: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may be made. Without an id nothing is reserved: the project has no cap."""

    project_id: str
    estimate: Cost
    reservation_id: UUID | None


class Spending:
    """Keeps to the operator's grants and caps. One for a worker."""

    def __init__(self, pool: asyncpg.Pool, *, call_seconds: float) -> None:
        """`call_seconds`: the longest a call may take."""
        self._pool, self._reserved_for = pool, timedelta(seconds=call_seconds + 60)
        self._known: OrderedDict[str, tuple[float, Mapping[str, Access], bool]] = OrderedDict()
        self._unflushed: Counter[tuple[str, str]] = Counter()

    async def reserve(self, project_id: str, provider: str, question: Question) -> Reservation:
        """What the call may cost, put aside.

        Raises LastingError when the project may not use the model, CapReachedError when it has spent what it may, and
        NoRoomError when it has to be asked again.
        """
        try:
            return await self._reserve(project_id, provider, question)
        except _AWAY as error:
            log.warning("nothing can be reserved", error=f"{type(error).__name__}: {error}"[:300])
            raise NoRoomError(_AGAIN_SECONDS) from None

    async def _reserve(self, project_id: str, provider: str, question: Question) -> Reservation:
        access, has_cap = await self._rules(project_id)
        if provider not in access:
            raise LastingError(f"the project may not use the provider {provider!r}")
        if why := access[provider].why_not(question.model):
            raise LastingError(why)
        estimate = estimate_of(question)
        if not has_cap:
            return Reservation(project_id, estimate, None)
        reservation_id = uuid4()
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetch(_LOCK, project_id)
            await connection.execute(_EXPIRE, project_id)
            caps = await read_caps(connection, project_id)
            for cap in caps:
                if why := cap.why_reached(estimate.picodollars, estimate.tokens):
                    raise CapReachedError(f"the spending cap is reached: {why}")
            reserved = await connection.fetchrow(_RESERVED, project_id)
            assert reserved is not None
            if any(_is_full(cap, reserved, estimate) for cap in caps):
                raise NoRoomError(_AGAIN_SECONDS)
            await connection.execute(
                _RESERVE, project_id, reservation_id, self._reserved_for, estimate.picodollars, estimate.tokens
            )
        return Reservation(project_id, estimate, reservation_id)

    async def settle(self, reservation: Reservation, cost: Cost) -> None:
        """What the call has cost. When the database is away, the estimate counts once its time is over."""
        if reservation.reservation_id is None:
            self._unflushed[reservation.project_id, "picodollars"] += cost.picodollars
            self._unflushed[reservation.project_id, "tokens"] += cost.tokens
            return
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_RELEASE, reservation.project_id, reservation.reservation_id)
                await connection.execute(_SPEND, [reservation.project_id], [cost.picodollars], [cost.tokens])
        except _AWAY as error:
            log.warning(
                "a call's cost is not settled; its estimate counts", error=f"{type(error).__name__}: {error}"[:300]
            )

    async def run(self) -> None:
        """Write down what projects without a cap have spent, now and then, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write down what is not yet; nothing is lost when the database is away."""
        spent, self._unflushed = self._unflushed, Counter()
        projects = sorted({project for (project, _), amount in spent.items() if amount})
        if not projects:
            return
        try:
            await self._pool.execute(
                _SPEND,
                projects,
                *([spent[project, kind] for project in projects] for kind in ("picodollars", "tokens")),
            )
        except _AWAY as error:
            self._unflushed.update(spent)
            log.warning("what projects spend is written down later", error=f"{type(error).__name__}: {error}"[:300])

    async def _rules(self, project_id: str) -> tuple[Mapping[str, Access], bool]:
        """What the project may use, and whether it has a cap, as of some seconds ago at most."""
        now = monotonic()
        if (known := self._known.get(project_id)) and known[0] > now:
            return known[1:]
        access, caps = await read_access(self._pool, project_id), await read_caps(self._pool, project_id)
        self._known[project_id] = now + _REMEMBER_SECONDS, access, bool(caps)
        self._known.move_to_end(project_id)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return access, bool(caps)


def estimate_of(question: Question) -> Cost:
    """What a call costs whose answer is as long as it may be; images count as nothing."""
    characters = sum(len(str(message.get("content") or "")) for message in question.messages)
    sent = -(-characters // _CHARACTERS_PER_TOKEN) + _MESSAGE_TOKENS * len(question.messages)
    settings = question.settings
    most = settings.get("max_completion_tokens") or settings.get("max_tokens") or _USUAL_TOKENS
    return _cost(question.model, {"input": sent, "output": int(most)})


def cost_of_reply(reply: Reply, estimate: Cost) -> Cost:
    """What the answer has cost; the estimate, where the provider does not say what it used."""
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
