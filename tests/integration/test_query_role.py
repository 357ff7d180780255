"""The readers' role can only SELECT, whatever the code asks it to do."""

import asyncpg
import pytest

from shared.storage.migrate import READER_ROLE, dsn_of_role
from shared.storage.postgres import SEARCH_PATH

WRITES = [
    "INSERT INTO projects (project_id, name) VALUES ('x', 'x')",
    "UPDATE projection_positions SET next_offset = 0",
    "DELETE FROM traces",
    "TRUNCATE spans",
    "UPDATE experiment_runs SET state = 4",
    "SELECT * FROM datasets FOR UPDATE",
    "CREATE TABLE traces.mine ()",
    "SELECT * FROM spans FOR UPDATE",
]


@pytest.mark.parametrize("statement", WRITES)
async def test_a_reader_cannot_write(database, statement: str) -> None:
    connection = await asyncpg.connect(dsn_of_role(database, READER_ROLE), server_settings={"search_path": SEARCH_PATH})
    try:
        assert await connection.fetchval("SELECT count(*) FROM spans") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()
