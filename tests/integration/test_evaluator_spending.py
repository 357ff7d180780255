"""A project uses what the operator lets it use, and spends no more than its cap: at the gateway, and at each call."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_BUDGET_SPENT

from services.write.evaluator.providers.provider import ModelReply, ModelRequest, PermanentError
from services.write.evaluator.spending import (
    CapReachedError,
    Cost,
    Spending,
    SpendingDelayedError,
    estimate_cost,
    reply_cost,
)
from shared.auth.keys import create_project
from shared.storage import provider_access
from shared.storage.postgres import SEARCH_PATH, connect_pool
from tests.support.evaluating import Workplace, working
from tests.support.experiment_runs import append_events, ended, furnish, requested
from tests.support.read_model import offer_providers

ASKED = ModelRequest(
    model="mock-large", messages=[{"role": "user", "content": "x" * 400}], settings={"max_tokens": 100}
)
ESTIMATE = estimate_cost(ASKED)
UNPRICED = ModelRequest(model="some-model", messages=ASKED.messages, settings=ASKED.settings)


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


@pytest.fixture
async def pool(database: str, project: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(database, application="test", search_path=SEARCH_PATH, max_size=8)
    async with pool.acquire() as connection:
        await create_project(connection, project, project)
    await offer_providers(database, "mock")
    yield pool
    await pool.close()


async def cap(pool: asyncpg.Pool, project: str, calls: float, *, tokens: int = 0, period: str = "day") -> None:
    async with pool.acquire() as connection:
        await provider_access.set_cap(
            connection, project, period, picodollars=Decimal(round(ESTIMATE.picodollars * calls)), tokens=tokens
        )


async def spent(pool: asyncpg.Pool, project: str) -> Decimal:
    return (await provider_access.read_caps(pool, project))[0].picodollars


async def test_workers_that_call_at_once_reserve_no_more_than_the_cap(pool, project) -> None:
    await cap(pool, project, 5)
    workers = [Spending(pool, call_seconds=60) for _ in range(3)]
    outcomes = await asyncio.gather(
        *(worker.reserve(project, "mock", ASKED) for worker in workers * 10), return_exceptions=True
    )
    reserved = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(reserved) == 5
    assert {type(each) for each in outcomes if isinstance(each, BaseException)} == {SpendingDelayedError}
    half = Cost(ESTIMATE.picodollars // 2)
    for each in reserved:
        await workers[0].settle(each, half)
    assert await spent(pool, project) == 5 * half.picodollars
    further = [await workers[1].reserve(project, "mock", ASKED) for _ in range(2)]
    for each in further:
        await workers[1].settle(each, ESTIMATE)
    with pytest.raises(CapReachedError, match=r"the project may spend \$0\.0[0-9]+ in a day"):
        await workers[2].reserve(project, "mock", ASKED)


async def test_what_a_worker_that_died_had_reserved_counts_as_spent(pool, project) -> None:
    await cap(pool, project, 1.5)
    await Spending(pool, call_seconds=60).reserve(project, "mock", ASKED)
    await pool.execute("UPDATE lodestream.spending_reservations SET expires_at = now() - interval '1 second'")
    with pytest.raises(CapReachedError):
        await Spending(pool, call_seconds=60).reserve(project, "mock", ASKED)


async def test_models_without_a_price_count_by_their_tokens(pool, project) -> None:
    spending = Spending(pool, call_seconds=60)
    await cap(pool, project, 1_000)
    with pytest.raises(CapReachedError, match="may use 0 tokens of models without a price in a day"):
        await spending.reserve(project, "mock", UNPRICED)
    await cap(pool, project, 1_000, tokens=250)
    reservation = await spending.reserve(project, "mock", UNPRICED)
    reply = ModelReply(text="x", model="some-model", usage={"input": 100, "output": 20})
    await spending.settle(reservation, reply_cost(reply, reservation.estimate))
    (stored,) = await provider_access.read_caps(pool, project)
    assert (int(stored.picodollars), int(stored.tokens)) == (0, 120)


async def test_without_a_cap_what_is_spent_is_counted_all_the_same(pool, project) -> None:
    spending = Spending(pool, call_seconds=60)
    for _ in range(3):
        await spending.settle(await spending.reserve(project, "mock", ASKED), ESTIMATE)
    await spending.flush()
    await cap(pool, project, 3, period="month")
    assert await spent(pool, project) == 3 * ESTIMATE.picodollars


async def test_a_provider_for_granted_projects_and_its_models(pool, project) -> None:
    await pool.execute("UPDATE lodestream.providers SET granted_only = true, models = '{mock-large,mock-small}'")
    with pytest.raises(PermanentError, match="may not use the provider 'mock'"):
        await Spending(pool, call_seconds=60).reserve(project, "mock", ASKED)
    async with pool.acquire() as connection:
        await provider_access.grant(connection, project, "mock", ["mock-small", "mock-tiny"])
    with pytest.raises(PermanentError, match="the project may use mock-small of it, not 'mock-large'"):
        await Spending(pool, call_seconds=60).reserve(project, "mock", ASKED)
    async with pool.acquire() as connection:
        await provider_access.grant(connection, project, "mock", [])
    await Spending(pool, call_seconds=60).reserve(project, "mock", ASKED)


@pytest.fixture
async def place(ground, servers, template, tmp_path) -> AsyncIterator[Workplace]:
    async with working(ground, servers, template, tmp_path) as workplace:
        yield workplace


async def test_a_run_that_comes_to_the_cap_ends_with_the_reason(place, project) -> None:
    """Each call costs 60 µ$, of which two workers make no more than the cap allows; the results so far hold."""
    await furnish(place.dsn, project, 60)
    connection = await asyncpg.connect(place.dsn, server_settings={"search_path": SEARCH_PATH})
    try:
        await create_project(connection, project, project)
        await provider_access.set_cap(connection, project, "day", picodollars=Decimal(600_000_000), tokens=0)
        await asyncio.gather(place.worker(), place.worker())
        run = requested("r", project=project, provider="here", settings={"max_tokens": 5})
        await append_events(place.servers.kafka, run)
        published = await ended(place.log, project, "r")
        (stored,) = await provider_access.read_caps(connection, project)
    finally:
        await connection.close()
    (ending,) = published.endings["r"]
    assert ending.outcome == EXPERIMENT_OUTCOME_BUDGET_SPENT
    assert ending.reason == "the spending cap is reached: the project may spend $0.0006 in a day"
    assert 0 < len(published.of("r")) < 60
    assert len(place.model.calls) * 60_000_000 == stored.picodollars <= stored.max_picodollars
