"""all_in_one runs every service with the command of the containers, and keeps it running."""

import asyncio
import os
import signal

from services.all_in_one.services import SERVICES
from shared.runtime.probe import grpc_serves, http_healthy
from tests.all_in_one import StartAllInOne, is_alive
from tests.polling import until
from tests.servers import Servers

NAMES = [service.name for service in SERVICES]


async def test_every_service_is_up_and_a_killed_one_comes_back(
    all_in_one: StartAllInOne, servers: Servers, database: str
) -> None:
    places = {
        **servers.environment,
        "LODESTREAM_POSTGRES": database,
        "LODESTREAM_TRACES_GROUP": "all-in-one",
        "LODESTREAM_PROMPTS_GROUP": "all-in-one-prompts",
        "LODESTREAM_SCORES_GROUP": "all-in-one-scores",
        "LODESTREAM_EXPERIMENTS_GROUP": "all-in-one-experiments",
    }
    one = await all_in_one(**places)
    await one.ready(*NAMES)
    environment = one.status()["environment"]
    assert await grpc_serves(environment["LODESTREAM_ENDPOINT"])
    assert await grpc_serves(environment["LODESTREAM_QUERY"])
    assert await http_healthy(one.processes()["traces"]["address"])
    assert (environment["LODESTREAM_PUBLIC_KEY"], environment["LODESTREAM_SECRET_KEY"]) == (
        "pk-ls-local",
        "sk-ls-local",
    )
    assert f"export LODESTREAM_ENDPOINT={environment['LODESTREAM_ENDPOINT']}\n" in one.said()
    os.kill(one.processes()["query"]["pid"], signal.SIGSTOP)
    await until(lambda: one.processes()["query"]["state"] == "not healthy", deadline=30, what="its silence to be seen")
    os.kill(one.processes()["query"]["pid"], signal.SIGCONT)
    await one.ready(*NAMES)
    for name in NAMES:
        os.kill(one.processes()[name]["pid"], signal.SIGKILL)
    await until(
        lambda: all(entry["restarts"] == 1 and entry["state"] == "ready" for entry in one.processes().values()),
        deadline=60,
        what="all to be back",
    )
    assert await grpc_serves(environment["LODESTREAM_ENDPOINT"])
    assert await one.end(signal.SIGTERM) == 0


async def test_a_service_that_cannot_start_ends_the_start_with_its_last_words(
    all_in_one: StartAllInOne, servers: Servers, database: str
) -> None:
    places = {**servers.environment, "LODESTREAM_POSTGRES": database, "LODESTREAM_LOG_LEVEL": "SHRILL"}
    one = await all_in_one(**places)
    family = await until(one.family, what="its children")
    assert await asyncio.wait_for(one.child.wait(), 60) == 1
    assert "did not start: exit code 1" in one.said()
    assert "SHRILL" in one.said()
    assert not any(is_alive(process) for process in family)
