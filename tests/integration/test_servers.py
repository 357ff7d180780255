"""Which servers the tests run on: those the environment names, else containers where asked for, else embedded ones."""

import pytest

from services.all_in_one.probes import kafka_answers, postgres_answers, redis_answers
from services.all_in_one.processes import ProcessManager
from tests.support.servers import VARIABLES, ContainersUnavailableError, Servers, running_servers

SERVERS = ("kafka", "postgres", "valkey")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "LODESTREAM_TEST_SERVERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")


@pytest.fixture
def apart(ground: ProcessManager, tmp_path_factory: pytest.TempPathFactory) -> ProcessManager:
    """A place that the session's own servers don't have."""
    return ProcessManager(ground.data / tmp_path_factory.mktemp("apart").name, ground.reaper)


@pytest.mark.usefixtures("without_docker")
async def test_with_nothing_set_and_no_docker_embedded_servers_serve(apart: ProcessManager) -> None:
    async with running_servers(apart) as servers:
        assert sorted(servers.processes) == sorted(SERVERS)
        assert await kafka_answers(servers.kafka)
        assert await postgres_answers(servers.postgres)
        assert await redis_answers(servers.redis)


@pytest.mark.usefixtures("without_docker")
@pytest.mark.parametrize("origin", ["embedded", "containers"])
async def test_addresses_in_the_environment_come_first(
    apart: ProcessManager, servers: Servers, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    monkeypatch.setenv("LODESTREAM_TEST_SERVERS", origin)
    for name, address in servers.environment.items():
        monkeypatch.setenv(name, address)
    async with running_servers(apart) as chosen:
        assert chosen.environment == servers.environment
        assert not chosen.processes, "nothing was started beside them"


@pytest.mark.usefixtures("without_docker")
async def test_containers_without_docker_are_told_by_name(
    apart: ProcessManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LODESTREAM_TEST_SERVERS", "containers")
    with pytest.raises(ContainersUnavailableError, match="LODESTREAM_TEST_SERVERS=containers needs Docker"):
        async with running_servers(apart):
            pass


async def test_another_word_is_refused(apart: ProcessManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LODESTREAM_TEST_SERVERS", "docker")
    with pytest.raises(ValueError, match="'docker'; it may be embedded or containers"):
        async with running_servers(apart):
            pass
