"""Read models as plain tables, what a fold of our own says they hold, and what our own SQL finds in them, compared."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from tests.torture.contract import LogEvent
from tests.torture.findings import Finding, Kind

Row = Mapping[str, Any]
Table = dict[tuple[Any, ...], Row]
"""Rows by their primary keys."""
Tables = dict[str, Table]


def us(column: str, name: str = "") -> str:
    """SQL of a column of instants as microseconds since 1970."""
    return f"(extract(epoch FROM {column}) * 1000000)::bigint AS {name or column}_us"


def hex_of(column: str) -> str:
    """SQL of a column of bytes as hex; NULL stays."""
    return f"encode({column}, 'hex') AS {column}"


async def fetch_table(connection: asyncpg.Connection, query: str, projects: Sequence[str], *key: str) -> Table:
    """The rows of a query that takes projects as $1, by the columns of `key`, which are not repeated in the rows."""
    return {
        tuple(row[column] for column in key): {name: value for name, value in row.items() if name not in key}
        for row in await connection.fetch(query, projects)
    }


def compare(expected: Tables, found: Tables) -> Iterator[Finding]:
    """Every row that the log tells of is there once and says what the log says; no other row is there."""
    for name, table in expected.items():
        rows = found[name]
        for key, columns in table.items():
            where = f"{name} {'/'.join(map(str, key))}"
            if key not in rows:
                yield Finding(Kind.LOST, "in the log, and no row", where)
            elif different := _differences(columns, rows[key]):
                yield Finding(Kind.ALTERED, "a row that is not what the log says", f"{where}: {different}")
        for key in rows.keys() - table.keys():
            yield Finding(Kind.INVENTED, "a row that the log does not tell of", f"{name} {'/'.join(map(str, key))}")


def _differences(expected: Row, found: Row) -> str:
    return "; ".join(
        f"{name}: {found[name]!r} for {value!r}"
        for name, value in expected.items()
        if name not in found or found[name] != value
    )


def by_partition(events: Iterable[LogEvent]) -> list[LogEvent]:
    """In the order in which a projection may decide them: that of the log within each partition."""
    return sorted(events, key=lambda event: (event.partition, event.offset))
