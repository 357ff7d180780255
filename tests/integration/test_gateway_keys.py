"""A key opens its project, is remembered for a minute, and no longer than a quarter of an hour without a database."""

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from itertools import count

import asyncpg
import pytest

from shared.auth import authentication
from shared.auth.authentication import (
    STALE_SECONDS,
    Authenticator,
    KeysUnavailableError,
    UnauthenticatedError,
)
from shared.auth.keys import (
    KeyTakenError,
    NewKey,
    NoSuchProjectError,
    create_key,
    create_project,
    list_keys,
    list_projects,
    make_secret,
    revoke_key,
    seed_key,
)
from shared.runtime.settings import KeySettings
from shared.storage.postgres import connect_pool
from tests.support.polling import until


class Clock:
    """A time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A pool that counts its queries."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool, self.queries = pool, 0

    async def fetchrow(self, statement: str, secret_hash: bytes) -> object:
        self.queries += 1
        return await self._pool.fetchrow(statement, secret_hash)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(database, application="test-keys", max_size=12)
    yield pool
    await pool.close()


@pytest.fixture
async def key(pool: asyncpg.Pool) -> NewKey:
    async with pool.acquire() as connection:
        assert await create_project(connection, "acme", "Acme")
        return await create_key(connection, "acme")


async def test_bearer_opens_and_basic_needs_both_of_one_pair(pool: asyncpg.Pool, key: NewKey) -> None:
    async with pool.acquire() as connection:
        await create_project(connection, "rival", "Rival")
        other = await create_key(connection, "rival")
    keys = Authenticator(pool)
    assert await keys.project_of(f"Bearer {key.secret_key}") == "acme"
    assert await keys.project_of(basic(key.public_key, key.secret_key)) == "acme"
    assert await keys.project_of(f"Bearer {other.secret_key}") == "rival"
    for public, secret in ((other.public_key, key.secret_key), (key.public_key, other.secret_key)):
        with pytest.raises(UnauthenticatedError):
            await keys.project_of(basic(public, secret))


async def test_the_secret_is_not_in_the_database(pool: asyncpg.Pool, key: NewKey) -> None:
    row = await pool.fetchval("SELECT to_jsonb(k)::text FROM api_keys k")
    assert key.public_key in row
    assert key.secret_key not in row
    assert key.secret_key.encode().hex() not in row


async def test_a_revoked_key_is_refused_within_a_minute(pool: asyncpg.Pool, key: NewKey) -> None:
    clock = Clock()
    keys = Authenticator(pool, clock=clock)
    assert await keys.project_of(f"Bearer {key.secret_key}") == "acme"
    async with pool.acquire() as connection:
        assert await revoke_key(connection, key.public_key)
        assert not await revoke_key(connection, key.public_key)
        assert (await list_keys(connection, "acme"))[0].revoked_at is not None
    clock.now += keys.settings.recheck_seconds
    with pytest.raises(UnauthenticatedError):
        await keys.project_of(f"Bearer {key.secret_key}")


async def test_without_a_database_a_good_key_stays_good_for_a_while(pool: asyncpg.Pool, key: NewKey) -> None:
    clock = Clock()
    keys = Authenticator(pool, clock=clock)
    await keys.project_of(f"Bearer {key.secret_key}")
    await pool.execute("ALTER TABLE api_keys RENAME TO away")
    clock.now += STALE_SECONDS - 1
    assert await keys.project_of(f"Bearer {key.secret_key}") == "acme"
    with pytest.raises(KeysUnavailableError):
        await keys.project_of(f"Bearer {make_secret()}")
    clock.now += 2
    with pytest.raises(KeysUnavailableError):
        await keys.project_of(f"Bearer {key.secret_key}")


async def test_look_ups_of_one_key_at_once_are_one_query(pool: asyncpg.Pool, key: NewKey) -> None:
    counting = Counting(pool)
    keys = Authenticator(counting)
    found = await asyncio.gather(*(keys.project_of(f"Bearer {key.secret_key}") for _ in range(50)))
    assert set(found) == {"acme"}
    unknown = f"Bearer {make_secret()}"
    outcomes = await asyncio.gather(*(keys.project_of(unknown) for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnauthenticatedError}
    assert counting.queries == 2


async def test_a_flood_of_unknown_keys_costs_few_queries_and_no_known_key(pool: asyncpg.Pool, key: NewKey) -> None:
    clock, counting = Clock(), Counting(pool)
    keys = Authenticator(counting, KeySettings(unknown_per_second=2, unknown_burst=20), clock=clock)
    assert await keys.project_of(f"Bearer {key.secret_key}", lambda: "192.0.2.1") == "acme"
    counting.queries = 0

    async def flood(times: int) -> int:
        """How many of so many attempts were not looked up."""
        attempts = (keys.project_of(f"Bearer guess {next(guesses)}", lambda: "192.0.2.1") for _ in range(times))
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {UnauthenticatedError, KeysUnavailableError}
        return sum("was not looked up" in str(outcome) for outcome in outcomes)

    guesses = count()
    throttled = sum([await flood(100) for _ in range(150)])
    assert throttled == 15_000 - counting.queries
    assert counting.queries in {20, 21}, "the burst; two are looked up at a time"
    clock.now += 3
    await flood(100)
    assert counting.queries in {26, 27}, "so many as come back in three seconds"
    assert await keys.project_of(f"Bearer {key.secret_key}", lambda: "192.0.2.1") == "acme", "known, so not throttled"
    clock.now += keys.fresh_seconds
    assert await keys.project_of(f"Bearer {key.secret_key}", lambda: "192.0.2.1") == "acme", (
        "looked up again all the same"
    )
    async with pool.acquire() as connection:
        new = await create_key(connection, "acme")
    await flood(100)
    with pytest.raises(KeysUnavailableError, match="try again later"):  # exporters keep their data
        await keys.project_of(f"Bearer {new.secret_key}", lambda: "192.0.2.1")
    assert await keys.project_of(f"Bearer {new.secret_key}", lambda: "198.51.100.7") == "acme", "another address"


async def test_known_keys_are_remembered_through_a_flood_and_an_outage_after_it(
    pool: asyncpg.Pool, key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "REMEMBERED", 100)
    clock = Clock()
    keys = Authenticator(pool, clock=clock)
    await keys.project_of(f"Bearer {key.secret_key}")
    addresses, guesses = (f"192.0.2.{n % 250}" for n in count()), count()
    for _ in range(3):  # three times what is remembered, from addresses that are not throttled
        attempts = (keys.project_of(f"Bearer {next(guesses)}", partial(next, addresses)) for _ in range(100))
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"the API key is unknown or revoked"}
    await pool.execute("ALTER TABLE api_keys RENAME TO away")
    clock.now += STALE_SECONDS - 1
    assert await keys.project_of(f"Bearer {key.secret_key}") == "acme"


async def test_unknown_keys_leave_connections_to_known_ones(pool: asyncpg.Pool, key: NewKey) -> None:
    """While as many look-ups of unknown keys as there may be get no answer, a known key is looked up again."""
    clock, answers = Clock(), asyncio.Event()

    class Slow(Counting):
        async def fetchrow(self, statement: str, secret_hash: bytes) -> object:
            row = await super().fetchrow(statement, secret_hash)
            if row is None:
                await answers.wait()
            return row

    slow = Slow(pool)
    keys = Authenticator(slow, clock=clock)
    await keys.project_of(f"Bearer {key.secret_key}")
    floods = [asyncio.create_task(keys.project_of(f"Bearer {make_secret()}", partial(str, n))) for n in range(20)]
    await until(lambda: slow.queries == 1 + 2)
    clock.now += keys.fresh_seconds
    assert await keys.project_of(f"Bearer {key.secret_key}") == "acme"
    assert slow.queries == 1 + 2 + 1
    answers.set()
    outcomes = await asyncio.gather(*floods, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnauthenticatedError}


async def test_a_key_that_was_revoked_is_no_longer_remembered_as_good(pool: asyncpg.Pool, key: NewKey) -> None:
    clock = Clock()
    keys = Authenticator(pool, clock=clock)
    await keys.project_of(f"Bearer {key.secret_key}")
    async with pool.acquire() as connection:
        await revoke_key(connection, key.public_key)
    clock.now += keys.fresh_seconds
    with pytest.raises(UnauthenticatedError):
        await keys.project_of(f"Bearer {key.secret_key}")
    await pool.execute("ALTER TABLE api_keys RENAME TO away")
    clock.now += 10
    with pytest.raises(KeysUnavailableError):
        await keys.project_of(f"Bearer {key.secret_key}")


async def test_a_seeded_key_of_any_strings_is_made_once_by_many_gateways_at_once(pool: asyncpg.Pool) -> None:
    async def seed() -> bool:
        async with pool.acquire() as connection:
            return await seed_key(connection, "local", "Local", NewKey("pk-lf-any", "any secret"))

    made = await asyncio.gather(*(seed() for _ in range(12)))
    assert sum(made) == 1
    assert await Authenticator(pool).project_of(basic("pk-lf-any", "any secret")) == "local"


async def test_a_seed_takes_no_key_from_anybody(pool: asyncpg.Pool, key: NewKey) -> None:
    async with pool.acquire() as connection:
        for project, taken in (
            ("thief", key),
            ("acme", NewKey(key.public_key, "another secret")),
            ("acme", NewKey("pk-another", key.secret_key)),
        ):
            with pytest.raises(KeyTakenError):
                await seed_key(connection, project, project, taken)
        assert len(await list_keys(connection)) == 1


async def test_a_revoked_seed_stays_revoked(pool: asyncpg.Pool) -> None:
    seed = NewKey("pk-any", "sk-any")
    async with pool.acquire() as connection:
        assert await seed_key(connection, "local", "Local", seed)
        await revoke_key(connection, "pk-any")
        assert not await seed_key(connection, "local", "Local", seed)
    with pytest.raises(UnauthenticatedError):
        await Authenticator(pool).project_of("Bearer sk-any")


async def test_a_key_needs_a_project(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(NoSuchProjectError, match="'nobody'"):
            await create_key(connection, "nobody")
        assert await list_projects(connection) == []


def basic(public: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{public}:{secret}".encode()).decode()
