"""How Postgres reads what the cases ask for: indexes, rows looked at, pages touched, from EXPLAIN ANALYZE."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.page import Table
from benchmarks.reads.cases import lists, session_lists
from benchmarks.reads.data import PROJECTS, Loaded
from services.read.query import sessions, traces
from services.read.query.filters import Statement
from services.read.query.traces import names_containing
from shared.storage.migrate import READER_ROLE, dsn_of_role
from shared.storage.postgres import connect_pool

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


@dataclass(frozen=True, slots=True)
class Head:
    """What decides a plan's cost."""

    scans: tuple[str, ...]
    """Indexes, and tables that are read without one."""
    sorted: bool
    rows: int
    """Read, shown or not."""
    pages: int
    """Of 8 KB, from memory or disk."""
    milliseconds: float


async def plans(dsn: str, loaded: Loaded) -> Table:
    """A row for each case."""
    rows: list[list[str]] = []
    pool = await connect_pool(
        dsn_of_role(dsn, READER_ROLE),
        application="plans",
        max_size=1,
        server_settings={"plan_cache_mode": "force_custom_plan"},
    )
    try:
        for name, statement in (await _statements(pool, loaded)).items():
            found = head_of(json.loads(await pool.fetchval(EXPLAIN + statement.sql, *statement.parameters))[0])
            rows.append([
                name, ", ".join(found.scans), "yes" if found.sorted else "",
                f"{found.rows:,}", f"{found.pages:,}", f"{found.milliseconds:.1f}",
            ])  # fmt: skip
    finally:
        await pool.close()
    return Table(
        "How Postgres reads them, the first page of 50",
        ["Read", "Reads by", "Sorts", "Rows looked at", "Pages", "In Postgres, ms"],
        rows,
        "Sorts: where the index has no trace id, traces of the same microsecond are sorted.",
    )


async def _statements(pool: asyncpg.Pool, loaded: Loaded) -> Mapping[str, Statement]:
    """As the service makes them."""
    project = PROJECTS[0]
    found = {}
    for name, request in lists(loaded).items():
        text = request.filter.name_contains
        names = await names_containing(pool, project, text) if text else None
        found[name] = traces.list_statement(project, request, names=names)
    for name, listed in session_lists().items():
        found[name] = sessions.list_statement(project, listed)
    return found


def head_of(explained: Mapping[str, Any]) -> Head:
    """The head of a plan that was run."""
    nodes = list(_nodes(explained["Plan"]))
    # A bitmap's heap scan only follows its index.
    scans = [
        node
        for node in nodes
        if ("Relation Name" in node or "Index Name" in node) and node["Node Type"] != "Bitmap Heap Scan"
    ]
    top = explained["Plan"]
    return Head(
        scans=tuple(dict.fromkeys(node.get("Index Name") or node["Relation Name"] for node in reversed(scans))),
        sorted=any("Sort" in node["Node Type"] for node in nodes),
        rows=sum(_rows(node) for node in scans),
        pages=top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        milliseconds=explained["Execution Time"],
    )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Mapping[str, Any]) -> int:
    removed: float = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    each: float = node["Actual Rows"] + removed
    loops: float = node["Actual Loops"]
    return round(loops * each)
