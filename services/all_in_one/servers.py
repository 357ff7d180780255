"""The three servers: embedded ones, where the environment does not name others."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from services.all_in_one import kafka, postgres, valkey
from services.all_in_one.concurrency import run_all
from services.all_in_one.ports import find_port
from services.all_in_one.processes import Process, ProcessManager

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of Kafka, Postgres and Redis, and the embedded ones' processes, in the order in which they stop."""

    addresses: Mapping[str, str]
    """Addresses by the environment variable that names them."""
    processes: tuple[Process, ...]


async def embed_servers(
    manager: ProcessManager, *, given: Mapping[str, str], say: Say, defaults: bool = True, durable: bool = True
) -> Servers:
    """Prepare the servers that `given` addresses (by environment variable) don't replace; nothing is started yet.

    On their usual ports with `defaults` where those are free, which is said where not.
    """

    def port(name: str, usual: int) -> int:
        free = find_port(usual if defaults else None)
        if defaults and free != usual:
            say(f"port {usual} is taken: {name} listens on {free}")
        return free

    def progress(done: int, of: int) -> None:
        if done == 1 or done % 10 == 0 or done == of:
            say(f"downloading Kafka, once: {done} of {of} jars")

    makers: dict[str, Callable[[], Coroutine[None, None, Process]]] = {
        "LODESTREAM_KAFKA": lambda: kafka.embed(manager, port=port("Kafka", kafka.DEFAULT_PORT), progress=progress),
        "LODESTREAM_POSTGRES": lambda: postgres.embed(
            manager, port=port("Postgres", postgres.DEFAULT_PORT), durable=durable
        ),
        "LODESTREAM_REDIS": lambda: valkey.embed(manager, port=port("Valkey", valkey.DEFAULT_PORT)),
    }
    ours = [name for name in makers if name not in given]
    processes = await run_all(makers[name]() for name in ours)
    addresses = {name: process.command.address for name, process in zip(ours, processes, strict=True)}
    return Servers({**given, **addresses}, tuple(processes))
