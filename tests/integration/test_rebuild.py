"""A rebuilt read model is the live one again, takes its place while everything runs on, and makes way again."""

import asyncio
from uuid import uuid4

import grpc
import pytest
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from shared.projection.rebuilding.rebuild import controlling
from shared.storage.migrate import migrate
from tests.conftest import StartService
from tests.support import rebuilding
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION
from tests.support.rebuilding import caught_up, dump, fetch, folded_anew, story

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def environment(own_log: str, database: str) -> dict[str, str]:
    return {
        "LODESTREAM_KAFKA": own_log,
        "LODESTREAM_POSTGRES": database,
        "LODESTREAM_TRACES_GROUP": f"test-{uuid4().hex[:8]}",
    }


@pytest.fixture
async def live(own_log: str, service: StartService, database: str, environment: dict[str, str]) -> None:
    """A projection that has folded a story."""
    await append(own_log, story(0, 120))
    await service(TRACES_PROJECTION, **environment)
    await until(lambda: caught_up(own_log, database), deadline=60)


@pytest.fixture
async def other_database(servers, database: str):
    """One more, empty."""
    name = f"oracle_{uuid4().hex[:8]}"
    await fetch(database, f"CREATE DATABASE {name}")
    dsn = f"{database.rpartition('/')[0]}/{name}"
    await migrate(dsn)
    yield dsn
    await fetch(database, f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_rebuilt_is_the_live_one_again_and_takes_its_place(
    live, environment, own_log: str, database: str, other_database: str
) -> None:
    told = await dump(database)
    letters = (
        "SELECT project_id, partition, \"offset\", item, reason, raw FROM dead_letters WHERE projection = 'traces'"
    )
    aside = sorted(await fetch(database, letters))
    (old,) = await fetch(database, "SELECT 'traces.spans'::regclass::oid")

    ran = await rebuilding.run("rebuild", "--processes", "2", **environment)
    assert ran.code == 0, (ran.events[-3:], ran.err)
    assert ran.told("compared")["tables"]["spans"]["live"] == len(told["spans"]) > 0
    assert ran.told("swapped")["kept"] == "traces_before"
    assert await dump(database) == told == await dump(database, "traces_before")
    assert told == await folded_anew(own_log, other_database)
    assert (await fetch(database, "SELECT 'traces.spans'::regclass::oid")) != [old], "other tables under the same names"
    assert sorted(await fetch(database, letters)) == aside != []
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = $1 AND indexname NOT LIKE '%_2%' ORDER BY 1"
    assert await fetch(database, indexes, "traces") == await fetch(database, indexes, "traces_before")

    await append(own_log, story(120, 40))
    await until(lambda: caught_up(own_log, database), deadline=30)
    later = await dump(database)
    assert len(later["spans"]) > len(told["spans"]), "the live projection goes on in the new tables"
    assert await dump(database, "traces_before") == told

    assert (await rebuilding.run("rebuild", "--undo", **environment)).code == 0
    await until(lambda: caught_up(own_log, database), deadline=30)
    assert await dump(database) == later, "the one before has folded what it had missed"
    again = await rebuilding.run("rebuild", **environment)
    assert (again.code, again.told("begun")["resumed"]) == (0, True)
    assert (await rebuilding.run("rebuild", "--drop-old", **environment)).code == 0
    assert await fetch(database, "SELECT count(*) FROM pg_namespace WHERE nspname ~ 'traces_'") == [(0,)]
    assert await fetch(database, "SELECT DISTINCT projection FROM projection_positions") == [("traces",)]
    assert await dump(database) == later


async def test_what_differs_is_named_and_swapped_only_when_that_is_accepted(live, environment, database: str) -> None:
    told = await dump(database)
    await fetch(database, "UPDATE spans SET name = 'wrong' WHERE name = 'step 7'")
    await fetch(database, "DELETE FROM spans WHERE name = 'step 8'")
    await fetch(database, "UPDATE traces SET total_tokens = 1 WHERE trace_id = $1", (3).to_bytes(16, "big"))
    await fetch(database, 'DELETE FROM span_blocks WHERE partition = 4 AND "offset" = 1')

    ran = await rebuilding.run("rebuild", **environment)
    assert ran.code == 1
    compared = ran.told("compared")
    found = {(row["table"], row["how"], tuple(row["columns"])) for row in compared["rows"]}
    assert found == {
        ("spans", "altered", ("name",)),
        ("spans", "extra", ()),
        ("traces", "altered", ("total_tokens",)),
        ("sessions", "altered", ("total_tokens",)),
        ("span_blocks", "extra", ()),
    }
    assert "swapped" not in {event["event"] for event in ran.events}
    accepted = await rebuilding.run("rebuild", "--accept-differences", **environment)
    assert (accepted.code, accepted.told("begun")["resumed"]) == (0, True)
    assert await dump(database) == told


async def test_only_one_rebuild_at_a_time(environment, database: str) -> None:
    async with controlling(database, "traces"):
        refused = await rebuilding.run("rebuild", **environment)
    assert (refused.code, refused.told("failed")["reason"]) == (1, "another process is rebuilding traces")


async def test_nobody_notices_the_swap(
    service: StartService, environment, own_log: str, database: str, other_database: str
) -> None:
    """Spans are written, folded and read all the time: no reader sees an error, nothing is lost, nothing doubled."""
    await append(own_log, story(1_000, 60))
    await service(TRACES_PROJECTION, **environment)
    await service(TRACES_PROJECTION, **environment)
    query = await service("services.read.query", **environment)
    secret = "sk-of-the-reader"
    await fetch(database, "INSERT INTO projects VALUES ('p', 'p')")
    await fetch(
        database,
        "INSERT INTO api_keys (project_id, public_key, secret_hash, secret_hint) VALUES ('p', 'pk', sha256($1), 'x')",
        secret.encode(),
    )
    metadata = [("authorization", f"Bearer {secret}")]
    stop, reads = asyncio.Event(), 0

    async def read() -> None:
        nonlocal reads
        async with grpc.aio.insecure_channel(query.address) as channel:
            stub = QueryServiceStub(channel)
            while not stop.is_set():
                listed = await stub.ListTraces(pb.ListTracesRequest(page_size=20), metadata=metadata, timeout=10)
                for trace in listed.traces[:3]:
                    request = pb.GetTraceRequest(trace_id=trace.trace_id, with_content=True)
                    found = await stub.GetTrace(request, metadata=metadata, timeout=10)
                    assert found.trace.span_count > 0 < len(found.spans)
                reads += len(listed.traces)

    await until(lambda: fetch(database, "SELECT 1 FROM traces WHERE project_id = 'p' LIMIT 1"), deadline=30)
    async with rebuilding.writing(own_log, 2_000) as written:
        readers = [asyncio.create_task(read()) for _ in range(2)]
        try:
            for _ in range(2):
                before = reads, written()
                ran = await rebuilding.run("rebuild", **environment)
                assert ran.code == 0, (ran.events[-3:], ran.err)
                assert (reads, written()) > before
                assert ran.told("swapped")["held_ms"] < 5_000
        finally:
            stop.set()
            outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert outcomes == [None] * len(readers)
    await until(lambda: caught_up(own_log, database), deadline=60)
    assert await dump(database) == await folded_anew(own_log, other_database)


async def test_a_rebuild_by_other_code_is_begun_anew(live, environment, database: str) -> None:
    assert (await rebuilding.run("rebuild", "--no-swap", **environment)).code == 0
    await fetch(database, "UPDATE traces_rebuild.rebuild SET code_version = 'lodestream-server 0.0.1'")
    refused = await rebuilding.run("rebuild", **environment)
    assert (refused.code, "--restart" in refused.told("failed")["reason"]) == (1, True)
    again = await rebuilding.run("rebuild", "--restart", **environment)
    assert (again.code, again.told("begun")["resumed"]) == (0, False)
