"""`verify` says that the read model is what the log tells, and when it is not, what of it is not."""

from uuid import uuid4

import pytest

from tests.conftest import StartService
from tests.support import rebuilding
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION
from tests.support.rebuilding import Ran, caught_up, fetch, story

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def environment(own_log: str, database: str) -> dict[str, str]:
    return {
        "LODESTREAM_KAFKA": own_log,
        "LODESTREAM_POSTGRES": database,
        "LODESTREAM_TRACES_GROUP": f"test-{uuid4().hex[:8]}",
    }


@pytest.fixture(scope="module")
async def written(own_log: str) -> None:
    await append(own_log, story(0, 110))


@pytest.fixture
async def live(written, own_log: str, service: StartService, database: str, environment: dict[str, str]) -> None:
    await service(TRACES_PROJECTION, **environment)
    await until(lambda: caught_up(own_log, database), deadline=60)


def found(ran: Ran) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(row["table"], row["how"], tuple(row["columns"])) for row in ran.told("verified")["rows"]}


async def test_a_model_that_is_what_the_log_tells(live, environment, own_log: str, database: str) -> None:
    """Spans told several times, sent again, of several days, and dead letters are in it; spans come in meanwhile."""
    async with rebuilding.writing(own_log, 50_000):
        ran = await rebuilding.run("verify", **environment)
    assert (ran.code, found(ran)) == (0, set()), ran.events[-1]
    told = ran.told("verified")
    ((several,),) = await fetch(database, "SELECT count(*) FROM spans WHERE parts IS NOT NULL")
    assert told["tables"]["spans"]["log"] == told["tables"]["spans"]["stored"] > several > 0
    assert told["set_aside"] >= 4
    assert {(group["partition"], group["day"]) for group in told["groups"] if group["table"] == "spans"} >= {
        (partition, "2026-05-06") for partition in range(12)
    }


CASES = {
    "a column": ("UPDATE spans SET name = 'x' WHERE name = 'step 7'", ("spans", "altered", ("name",))),
    "a cost": ("UPDATE spans SET cost_picos = 1 WHERE name = 'step 40'", ("spans", "altered", ("cost_picos",))),
    "where it is told": (
        "UPDATE spans SET block_offset = block_offset + 1 WHERE name = 'step 44'",
        ("spans", "altered", ("parts",)),
    ),
    "a forgotten telling": (
        (
            "UPDATE spans SET parts = NULL WHERE ctid = (SELECT ctid FROM spans WHERE parts IS NOT NULL LIMIT 1)"
            " AND parts IS NOT NULL"
        ),
        ("spans", "altered", ("parts",)),
    ),
    "a lost row": ("DELETE FROM spans WHERE name = 'step 8'", ("spans", "missing", ())),
    "an invented row": (
        (
            'INSERT INTO spans SELECT (jsonb_populate_record(s, \'{"span_id": "\\\\x00000000000000ff"}\')).* FROM spans'
            " s WHERE name = 'step 9'"
        ),
        ("spans", "extra", ()),
    ),
    "a lost block": ('DELETE FROM span_blocks WHERE partition = 4 AND "offset" = 1', ("span_blocks", "missing", ())),
    "a damaged block": (
        "UPDATE span_blocks SET otlp_request = '\\x00' WHERE partition = 5 AND \"offset\" = 1",
        ("span_blocks", "altered", ("otlp_request",)),
    ),
    "an invented block": (
        (
            "INSERT INTO span_blocks SELECT project_id, received_day, partition, 999, received_at, sdk_name, "
            'sdk_version, compression, span_count, otlp_request FROM span_blocks WHERE partition = 6 AND "offset" = 1'
        ),
        ("span_blocks", "extra", ()),
    ),
    "a wrong sum": (
        "UPDATE traces SET span_count = span_count + 1 WHERE trace_id = '\\x00000000000000000000000000000003'",
        ("traces", "altered", ("span_count",)),
    ),
    "a lost summary": (
        "DELETE FROM traces WHERE trace_id = '\\x00000000000000000000000000000004'",
        ("traces", "missing", ()),
    ),
    "a lost letter": ("DELETE FROM dead_letters WHERE item = -1", ("dead_letters", "missing", ())),
}


async def test_every_damage_is_named(live, environment, database: str) -> None:
    for damage, _ in CASES.values():
        await fetch(database, damage)
    ran = await rebuilding.run("verify", **environment)
    assert ran.code == 1, (ran.events[-1:], ran.err)
    assert {difference for _, difference in CASES.values()} <= found(ran), ran.told("verified")["rows"]
    named = {(row["table"], row["how"]): row["key"] for row in ran.told("verified")["rows"]}
    lost = named["spans", "missing"]
    assert (lost["project"], lost["trace"], lost["span"], lost["partition"]) == ("p", f"{2:032x}", f"{33:016x}", 8)
    assert named["span_blocks", "missing"] == {"project": "p", "partition": 4, "offset": 1}
    assert named["traces", "missing"] == {"project": "p", "trace": f"{4:032x}"}
    groups = {(group["table"], group["partition"]) for group in ran.told("verified")["differing"]}
    assert {("spans", 8), ("span_blocks", 4)} <= groups
    assert ("span_blocks", 7) not in groups


async def test_days_that_were_removed_are_no_loss(live, environment, database: str) -> None:
    """Rows that are gone while their days' tables are there are one."""
    await fetch(database, "TRUNCATE spans_before")
    emptied = await rebuilding.run("verify", **environment)
    assert (emptied.code, emptied.told("verified")["counts"]["spans missing"] > 100) == (1, True)
    await fetch(database, "DROP TABLE traces.spans_before")
    await fetch(database, "DROP TABLE traces.span_blocks_before")
    ran = await rebuilding.run("verify", **environment)
    told = ran.told("verified")
    assert ran.code == 0, told
    assert told["expired"] > 100


async def test_what_can_not_be_found_out_ends_with_2(environment) -> None:
    ran = await rebuilding.run("verify", **{**environment, "LODESTREAM_POSTGRES": "postgresql://nobody@127.0.0.1:1/x"})
    assert ran.code == 2
    assert ran.told("failed")["reason"]
