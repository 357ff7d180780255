"""One command brings a database to this version, however often and by how many it is run."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from shared.storage.migrate import GATEWAY_ROLE, GATEWAY_TABLES, READER_ROLE, dsn_of_role, migrate


@pytest.fixture
async def empty_databases(servers) -> AsyncIterator[list[str]]:
    """The dsns of three databases with nothing in them."""
    names = [f"empty_{uuid4().hex[:12]}" for _ in range(3)]
    admin = await asyncpg.connect(servers.postgres)
    for name in names:
        await admin.execute(f"CREATE DATABASE {name}")
    yield [urlunsplit(urlsplit(servers.postgres)._replace(path=f"/{name}")) for name in names]
    for name in names:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def test_a_step_runs_once_however_many_migrate_at_once(empty_databases) -> None:
    ran = await asyncio.gather(*(migrate(empty_databases[0]) for _ in range(4)))
    steps = [step for each in ran for step in each]
    assert "traces/0001_pre_traces" in steps
    assert len(steps) == len(set(steps))
    assert await migrate(empty_databases[0]) == []


async def test_databases_of_one_server_migrate_at_once(empty_databases) -> None:
    """The reader's role is the server's, not the database's."""
    ran = await asyncio.gather(*(migrate(dsn) for dsn in empty_databases))
    assert ran[0]
    assert ran[0] == ran[1] == ran[2]


async def test_before_and_after_a_deployment_are_apart(empty_databases) -> None:
    before = await migrate(empty_databases[0], phase="pre")
    after = await migrate(empty_databases[0], phase="post")
    assert all("_pre_" in step for step in before)
    assert all("_post_" in step for step in after)
    assert await migrate(empty_databases[0]) == []


async def test_a_step_that_fails_leaves_nothing_behind(empty_databases, tmp_path, monkeypatch) -> None:
    for schema in ("lodestream", "traces"):
        (tmp_path / schema).mkdir()
    (tmp_path / "lodestream" / "0001_pre_good.sql").write_text("CREATE TABLE good (n integer)")
    (tmp_path / "traces" / "0001_pre_bad.sql").write_text("CREATE TABLE half (n integer); SELECT 1 / 0")
    monkeypatch.setattr("shared.storage.migrate._MIGRATIONS", tmp_path)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_databases[0])
    connection = await asyncpg.connect(empty_databases[0])
    try:
        assert await connection.fetchval("SELECT to_regclass('lodestream.good') IS NOT NULL")
        assert await connection.fetchval("SELECT to_regclass('traces.half') IS NULL")
    finally:
        await connection.close()


async def test_the_gateway_may_read_what_it_checks_writes_against_and_nothing_else(database) -> None:
    connection = await asyncpg.connect(dsn_of_role(database, GATEWAY_ROLE))
    try:
        for table in GATEWAY_TABLES:
            await connection.fetch(f"SELECT * FROM {table} LIMIT 1")
        for statement in (
            "SELECT FROM traces.spans",
            "SELECT FROM lodestream.dead_letters",
            "SELECT FROM experiments.experiment_items",
            "INSERT INTO lodestream.api_keys VALUES ('pk', 'p', 'hash', 'hint')",
            "UPDATE lodestream.api_keys SET revoked_at = NULL",
            "DELETE FROM experiments.datasets",
            "CREATE TABLE lodestream.mine (n integer)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_readers_may_read_and_nothing_else(database) -> None:
    connection = await asyncpg.connect(dsn_of_role(database, READER_ROLE))
    try:
        assert await connection.fetchval("SELECT current_user") == READER_ROLE
        assert await connection.fetchval("SELECT count(*) FROM traces.spans") == 0
        for statement in ("DELETE FROM traces.spans", "CREATE TABLE traces.mine (n integer)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
