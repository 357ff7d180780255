"""Two generations compared by Postgres: for each partition and day the number of rows and a checksum of all columns.

Rows that differ are named. It is one snapshot, in which both are at the same positions: nothing excuses a difference.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import asyncpg
import orjson

from shared.projection.rebuilding.names import Generation
from shared.projection.rebuilding.rebuildable import Table

NAMED = 5
"""Rows shown of each group that differs."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of a table from one partition of the log (-1: from several) in one day."""

    table: str
    partition: int
    day: date
    live_rows: int
    rebuilt_rows: int
    same: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A row that differs: "missing" in the rebuilt one, "extra" there, or "altered", and then in which columns."""

    table: str
    how: str
    key: Mapping[str, Any]
    columns: Sequence[str] = ()


@dataclass(slots=True)
class Comparison:
    """What was found."""

    groups: list[Group] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    """The first few of each group that differs."""

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return all(group.same for group in self.groups)


@asynccontextmanager
async def snapshot(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """What is read in it was there at one instant. Begins with the first statement."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield


async def compare(
    connection: asyncpg.Connection, tables: Sequence[Table], live: Generation, rebuilt: Generation
) -> Comparison:
    """All tables and the dead letters, in the snapshot of this connection."""
    found = Comparison()
    for table in tables:
        columns = await _columns(connection, table, live)
        sides = [await _groups(connection, table, generation, columns) for generation in (live, rebuilt)]
        for partition, day in sorted({*sides[0], *sides[1]}):
            ours, theirs = (side.get((partition, day), (0, "")) for side in sides)
            group = Group(table.name, partition, day, ours[0], theirs[0], ours == theirs)
            found.groups.append(group)
            if not group.same:
                found.rows += await _rows(connection, table, group, columns, (live, rebuilt))
    letters = [dict(row) for row in await connection.fetch(_LETTERS, live.projection, rebuilt.projection)]
    for letter in letters:
        how = "extra" if letter.pop("in_rebuilt") else "missing"
        found.rows.append(Row("dead_letters", how, letter))
    if letters:
        found.groups.append(_letters_group(letters, found))
    return found


def _letters_group(letters: Sequence[Mapping[str, Any]], found: Comparison) -> Group:
    extra = sum(row.how == "extra" for row in found.rows if row.table == "dead_letters")
    return Group("dead_letters", -1, date.min, len(letters) - extra, extra, same=False)


async def _columns(connection: asyncpg.Connection, table: Table, generation: Generation) -> str:
    """What is compared of a table."""
    names = await connection.fetch(_COLUMNS, f"{generation.schema}.{table.name}", list(table.not_of_log))
    return ", ".join(row["name"] for row in names)


async def _groups(
    connection: asyncpg.Connection, table: Table, generation: Generation, columns: str
) -> dict[tuple[int, date], tuple[int, str]]:
    rows = await connection.fetch(
        f"SELECT {table.partition} AS partition, {table.day} AS day, count(*) AS rows,"
        f" sum(hashtextextended(stored::text, 0)::numeric)::text AS checksum"
        f" FROM (SELECT {columns} FROM {generation.schema}.{table.name}) AS stored GROUP BY 1, 2"
    )
    return {(row["partition"], row["day"]): (row["rows"], row["checksum"]) for row in rows}


async def _rows(
    connection: asyncpg.Connection, table: Table, group: Group, columns: str, generations: Sequence[Generation]
) -> list[Row]:
    key = ", ".join(f'"{column}"' for column in table.key)
    heavy = "".join(f" - '{column}'" for column in table.heavy)
    sides = [
        f"(SELECT {columns} FROM {generation.schema}.{table.name} WHERE {table.partition} = $1 AND {table.day} = $2)"
        for generation in generations
    ]
    rows = await connection.fetch(
        f"SELECT {key}, to_jsonb(ours){heavy} AS ours, to_jsonb(theirs){heavy} AS theirs,"
        f" ours.project_id IS NOT NULL AS in_live, theirs.project_id IS NOT NULL AS in_rebuilt"
        f" FROM {sides[0]} AS ours FULL JOIN {sides[1]} AS theirs USING ({key})"
        f" WHERE ours::text IS DISTINCT FROM theirs::text ORDER BY {key} LIMIT {NAMED}",
        group.partition,
        group.day,
    )
    return [_row(table, row) for row in rows]


def _row(table: Table, row: asyncpg.Record) -> Row:
    key = {column: row[column] for column in table.key}
    if not (row["in_live"] and row["in_rebuilt"]):
        return Row(table.name, "missing" if row["in_live"] else "extra", key)
    ours, theirs = orjson.loads(row["ours"]), orjson.loads(row["theirs"])
    columns = [name for name in ours if ours[name] != theirs[name]]
    return Row(table.name, "altered", key, columns or list(table.heavy))


_COLUMNS = """
SELECT quote_ident(attname) AS name FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname <> ALL ($2::text[]) ORDER BY attnum
"""
_LETTERS = f"""
SELECT project_id, topic, partition, "offset", item, bool_or(projection = $2) AS in_rebuilt
FROM dead_letters
WHERE projection IN ($1, $2) AND redriven_at IS NULL
GROUP BY project_id, topic, partition, "offset", item, raw HAVING count(*) = 1
ORDER BY topic, partition, "offset", item LIMIT {4 * NAMED}
"""
