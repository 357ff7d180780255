"""A key opens its project, is remembered for a minute, and no longer than a quarter of an hour without a database."""

import asyncio
import base64
from collections.abc import AsyncIterator

import asyncpg
import pytest

from shared.read_model.authentication import (
    FRESH_SECONDS,
    STALE_SECONDS,
    Authenticator,
    KeysUnavailableError,
    UnauthenticatedError,
)
from shared.read_model.keys import (
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
from shared.read_model.postgres import connect_pool


class Clock:
    """A time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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
    clock.now += FRESH_SECONDS + 0.1
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
    class Counting:
        queries = 0

        async def fetchrow(self, *arguments: object) -> object:
            self.queries += 1
            return await pool.fetchrow(*arguments)

    counting = Counting()
    keys = Authenticator(counting)
    found = await asyncio.gather(*(keys.project_of(f"Bearer {key.secret_key}") for _ in range(50)))
    assert set(found) == {"acme"}
    unknown = f"Bearer {make_secret()}"
    outcomes = await asyncio.gather(*(keys.project_of(unknown) for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnauthenticatedError}
    assert counting.queries == 2


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
