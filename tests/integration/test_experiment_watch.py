"""Who watches a run has it at once, each change soon, each result once, and the end; many cost no more than one."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import asyncpg
import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiments_pb2_grpc import add_ExperimentServiceServicer_to_server

from services.all_in_one.processes import ProcessManager
from services.read.query.database import Database
from services.read.query.experiments.compare import Comparisons
from services.read.query.experiments.service import ExperimentService
from services.read.query.freshness import LogEnds
from services.read.query.read_context import Admission, ReadContext
from shared.auth.authentication import Authenticator
from shared.runtime.settings import KafkaSettings, QuerySettings
from shared.storage.migrate import READER_ROLE, dsn_of_role
from shared.storage.postgres import connect_pool
from tests.conftest import PrivateServer
from tests.support.experiment_reading import Project, Reading, database_of_its_own, reading_experiments
from tests.support.experiment_records import (
    cancelled,
    created,
    finished,
    item,
    paused,
    requested,
    result,
    resumed,
    said,
)
from tests.support.polling import until
from tests.support.servers import Servers

Code = grpc.StatusCode


@pytest.fixture(scope="module")
async def reading(ground: ProcessManager, servers: Servers, template: str) -> AsyncIterator[Reading]:
    async with (
        database_of_its_own(servers, template) as dsn,
        reading_experiments(ground, dsn, servers.environment) as reading,
    ):
        yield reading


@pytest.fixture
async def acme(reading: Reading) -> Project:
    return await reading.project()


class Watcher:
    """Reads a stream in the background, and keeps what came and when."""

    def __init__(self, project: Project, run_id: str = "r", *, with_items: bool = True) -> None:
        self.call = project.watch(run_id, with_items=with_items)
        self.responses: list[pb.WatchExperimentResponse] = []
        self.times: list[float] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for response in self.call:
            self.responses.append(response)
            self.times.append(time.monotonic())

    @property
    def items(self) -> list[tuple[str, int]]:
        """In the order in which they came."""
        return [(each.result.item_id, each.result.repetition) for said in self.responses for each in said.items]

    async def has(self, items: int) -> None:
        await until(lambda: len(self.items) >= items, what=f"{items} items")

    async def in_state(self, state: int) -> None:
        await until(lambda: self.responses and self.responses[-1].run.state == state, what=f"state {state}")

    async def end(self) -> Code:
        """How the stream ended."""
        async with asyncio.timeout(30):
            await asyncio.wait([self.task])
        self.task.exception()
        code: Code = await self.call.code()
        return code


async def test_the_run_comes_at_once_and_then_its_changes_until_it_has_ended(acme: Project) -> None:
    await acme.tell(created(), item("a"), item("b"))
    await acme.tell(requested("r", dataset_version=3), result("a", evaluations=[said("ok", True)]))
    watcher, blind = Watcher(acme), Watcher(acme, with_items=False)
    await until(lambda: watcher.responses and blind.responses)
    first = watcher.responses[0]
    assert first.run == blind.responses[0].run == (await acme.ask("GetExperiment", run_id="r")).run
    assert ([each.result.item_id for each in first.items], first.run.items_total) == (["a"], 4)
    await acme.tell(paused())
    await watcher.in_state(pb.EXPERIMENT_STATE_PAUSED)
    await acme.tell(resumed())
    await watcher.in_state(pb.EXPERIMENT_STATE_RUNNING)
    began = time.monotonic()
    await acme.tell(result("b", error="no", output_json='"o"', evaluations=[said("ok", False)]))
    await watcher.has(2)
    assert time.monotonic() - began < 3
    assert watcher.responses[-1].run.evaluations[0].counts == {"true": 1, "false": 1}
    await acme.tell(finished(evaluations=[said("pass_rate", 0.5)]))
    assert await watcher.end() is await blind.end() is Code.OK
    last = watcher.responses[-1].run
    assert last == blind.responses[-1].run == (await acme.ask("GetExperiment", run_id="r")).run
    assert (last.state, last.run_evaluations[0].name) == (pb.EXPERIMENT_STATE_COMPLETED, "pass_rate")
    assert watcher.items == [("a", 0), ("b", 0)]
    assert watcher.responses[-2].items[0].result.output_json == '"o"'
    assert blind.items == []
    assert all(one != next_one for one, next_one in pairwise(blind.responses)), "each is news"


async def test_a_run_that_has_ended_is_told_with_all_its_items(acme: Project) -> None:
    await acme.tell(requested("r"), *(result(f"{n}") for n in range(3)), cancelled(reason="enough"))
    watcher = Watcher(acme)
    assert await watcher.end() is Code.OK
    (only,) = watcher.responses
    assert (only.run.state, only.run.reason, len(only.items)) == (pb.EXPERIMENT_STATE_CANCELLED, "enough", 3)


async def test_each_result_comes_once_however_many_and_whenever_one_comes_to_watch(acme: Project) -> None:
    """2,500 results in 50 batches, watchers that come all the time, and no more than 5 changes a second for each."""
    await acme.tell(requested("r"))
    watchers = [Watcher(acme), Watcher(acme, with_items=False)]
    for batch in range(50):
        await acme.tell(*(result(f"{batch}-{n}") for n in range(50)), after_ms=1_000)
        if batch % 5 == 0:
            watchers.append(Watcher(acme))
    await acme.tell(finished())
    assert {await watcher.end() for watcher in watchers} == {Code.OK}
    everything = [(f"{batch}-{n}", 0) for batch in range(50) for n in range(50)]
    for watcher in watchers:
        last = watcher.responses[-1].run
        assert (last.items_finished, last.state) == (2_500, pb.EXPERIMENT_STATE_COMPLETED)
        finished_each_time = [response.run.items_finished for response in watcher.responses]
        assert finished_each_time == sorted(finished_each_time), "never back"
    assert [watcher.items for watcher in watchers if watcher is not watchers[1]] == 11 * [everything]
    (_, blind, *_) = watchers
    assert len(blind.times) <= 5 * (blind.times[-1] - blind.times[0]) + 2


async def test_what_is_too_much_for_one_message_comes_in_several(acme: Project) -> None:
    output = f'"{"x" * 100_000}"'
    await acme.tell(requested("r"), *(result(f"{n}", output_json=output) for n in range(60)))
    watcher = Watcher(acme)
    await watcher.has(60)
    assert [len(response.items) for response in watcher.responses] == [20, 20, 20]
    await acme.tell(finished())
    assert await watcher.end() is Code.OK
    assert len(set(watcher.items)) == len(watcher.items) == 60


async def test_a_hundred_watchers_ask_the_database_for_no_more_than_one(acme: Project, reading: Reading) -> None:
    await acme.tell(requested("r"), *(result(f"{n}") for n in range(100)))
    async with counting(reading) as (served, asked):
        here = replace(acme, reading=served)

        async def count(watching: list[Watcher], name: str) -> int:
            await until(lambda: all(watcher.responses for watcher in watching))
            asked.clear()
            had = len(watching[0].items)
            for n in range(5):
                await acme.tell(result(f"{name}{n}"))
                for watcher in watching:
                    await watcher.has(had + n + 1)
            return len([each for each in asked if "FROM experiment_" in each.query and "unnest" not in each.query])

        one = [Watcher(here)]
        of_one = await count(one, "one")
        hundred = [*one, *(Watcher(here) for _ in range(99))]
        of_hundred = await count(hundred, "hundred")
        assert 0 < of_hundred <= 2 * of_one
        for watcher in hundred:
            watcher.call.cancel()
        await until(lambda: _rests(asked), what="nothing is asked while nobody watches")


async def test_however_much_a_project_watches_it_is_read_for_it_once_at_a_time(acme: Project, reading: Reading) -> None:
    other = await reading.project()
    for project in (acme, other):
        await project.tell(requested("r"), result("a"), requested("another"), result("b", run_id="another"))
    admission = Admission.of(QuerySettings())
    async with counting(reading, admission) as (served, _):
        here, there = (replace(project, reading=served) for project in (acme, other))
        async with admission.watched.hold(acme.project_id):
            waiting, served_at_once = [Watcher(here), Watcher(here, "another")], Watcher(there)
            await served_at_once.has(1)
            assert not any(watcher.responses for watcher in waiting)
        await asyncio.gather(*(watcher.has(1) for watcher in waiting))


async def _rests(asked: list[Any]) -> bool:
    """Whether so much time passes without a statement as five looks take."""
    asked.clear()
    end = time.monotonic() + 1
    await until(lambda: asked or time.monotonic() > end)
    return not asked


def reads_of(pool: asyncpg.Pool, admission: Admission) -> ReadContext:
    return ReadContext(Database(pool, pool), Authenticator(pool), LogEnds(KafkaSettings()), admission)


@asynccontextmanager
async def counting(reading: Reading, admission: Admission | None = None) -> AsyncIterator[tuple[Reading, list[Any]]]:
    """The service in this process, and the statements that it runs; by default a project may have many streams."""
    asked: list[Any] = []
    limits = admission or Admission.of(QuerySettings(streams_per_project=200))

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(asked.append)

    pool = await connect_pool(dsn_of_role(reading.dsn, READER_ROLE), application="test", setup=listen)
    comparisons = Comparisons(reading.dsn, QuerySettings(), limits.comparisons)
    service = ExperimentService(reads_of(pool, limits), comparisons)  # type: ignore[abstract]
    server, looking = grpc.aio.server(), asyncio.create_task(service.watcher.run())
    add_ExperimentServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield replace(reading, channel=channel), asked
    finally:
        looking.cancel()
        await server.stop(1)
        await pool.close()


async def test_only_the_projects_own_runs_can_be_watched(acme: Project, reading: Reading) -> None:
    await acme.tell(requested("r"))
    other = await reading.project()
    nobody = Watcher(other)
    assert await nobody.end() is Code.NOT_FOUND
    assert await nobody.call.details() == "this project has no experiment run 'r'"
    assert await Watcher(acme, "").end() is Code.INVALID_ARGUMENT


async def test_when_the_service_goes_away_its_watchers_are_told_to_come_back(
    ground: ProcessManager, servers: Servers, template: str
) -> None:
    async with (
        database_of_its_own(servers, template) as dsn,
        reading_experiments(ground, dsn, servers.environment) as reading,
    ):
        project = await reading.project()
        await project.tell(requested("r"))
        watcher = Watcher(project)
        await until(lambda: watcher.responses)
        began = time.monotonic()
        await reading.query.stop()
        assert await watcher.end() is Code.UNAVAILABLE
        assert await watcher.call.details() == "the query service is going away: connect again"
        assert await retry_info(watcher)
        assert time.monotonic() - began < 8, "nobody waits for streams that would never end"


async def test_watchers_outlive_a_restart_of_the_database_but_not_its_absence(
    ground: ProcessManager, servers: Servers, private_postgres: PrivateServer
) -> None:
    postgres = await private_postgres()
    dsn = postgres.command.address
    async with reading_experiments(ground, dsn, servers.environment) as reading:
        project = await reading.project()
        await project.tell(requested("r"), result("before"))
        watcher = Watcher(project)
        await watcher.has(1)
        await postgres.restart()
        await project.tell(result("after"))
        await watcher.has(2)
        assert watcher.items == [("before", 0), ("after", 0)]
        await postgres.stop()
        assert await watcher.end() is Code.UNAVAILABLE
        assert await watcher.call.details() == "the database does not answer: nobody can tell how the run goes on"
        assert await retry_info(watcher)
        nobody = Watcher(project)
        assert await nobody.end() is Code.UNAVAILABLE
        assert await retry_info(nobody)
        await postgres.start()
        await project.tell(result("later"), finished())
        again = Watcher(project)
        assert await again.end() is Code.OK
        assert [item_id for item_id, _ in again.items] == ["before", "after", "later"]


async def retry_info(watcher: Watcher) -> RetryInfo | None:
    """When to come back, as the stream's end tells it."""
    for key, value in await watcher.call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            told = RetryInfo()
            return told if Status.FromString(value).details[0].Unpack(told) else None
    return None
