"""Does what the schedule says, and writes down when it did."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil

from services.all_in_one.processes import Process
from tests.torture.schedule import Strike
from tests.torture.stand import Stand

_START_SECONDS = 120.0
_DELAY, _RATE = 0.15, 40_000.0  # seconds a chunk; bytes a second
_COMMIT = b"COMMIT;"
_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'lodestream-projection-traces'
"""


async def torment(stand: Stand, strikes: Sequence[Strike], say: Callable[[str], None] = lambda _: None) -> None:
    """Returns when every strike has ended and what it struck is back."""
    begin, turns = time.monotonic(), defaultdict[str, asyncio.Lock](asyncio.Lock)
    end = max((strike.at + strike.lasts for strike in strikes), default=0.0) + 1.0
    with (stand.folder / "nemesis.jsonl").open("a", encoding="utf-8") as file:

        def note(strike: Strike, what: str) -> None:
            at = round(time.monotonic() - begin, 2)
            file.write(json.dumps({"at": at, "what": what, "kind": strike.kind, "target": strike.target}) + "\n")
            file.flush()
            say(f"{at:7.2f} s  {what:<5}  {strike.kind} {strike.target} ({strike.lasts} s)")

        async def act(strike: Strike) -> None:
            await asyncio.sleep(begin + strike.at - time.monotonic())
            async with turns[strike.target]:  # a start may take longer than was planned
                if time.monotonic() - begin + strike.lasts > end:
                    note(strike, "skip")
                    return
                note(strike, "begin")
                await _ACTIONS[strike.kind](stand, strike.target, strike.lasts)
                note(strike, "end")

        async with asyncio.TaskGroup() as group:
            for strike in strikes:
                group.create_task(act(strike))


async def _kill(stand: Stand, target: str, lasts: float) -> None:
    process = stand.processes[target]
    process.kill()
    await process.ended()
    await asyncio.sleep(lasts)
    await process.start(_START_SECONDS)


async def _restart(stand: Stand, target: str, _lasts: float) -> None:
    await stand.processes[target].restart(_START_SECONDS)


async def _freeze(stand: Stand, target: str, lasts: float) -> None:
    with frozen(stand.processes[target]):
        await asyncio.sleep(lasts)


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    """SIGSTOP to it and its children, SIGCONT at the end."""
    itself = psutil.Process(process.pid)
    family = [itself, *itself.children(recursive=True)]
    try:
        for each in family:
            each.suspend()
        yield
    finally:
        for each in reversed(family):
            if each.is_running():
                each.resume()


async def _cut(stand: Stand, target: str, lasts: float) -> None:
    stand.proxies[target].cut()
    await _healed(stand, target, lasts)


async def _half_open(stand: Stand, target: str, lasts: float) -> None:
    stand.proxies[target].half_open()
    await _healed(stand, target, lasts)


async def _delay(stand: Stand, target: str, lasts: float) -> None:
    stand.proxies[target].delay(_DELAY)
    await _healed(stand, target, lasts)


async def _limit(stand: Stand, target: str, lasts: float) -> None:
    stand.proxies[target].limit(_RATE)
    await _healed(stand, target, lasts)


async def _drop(stand: Stand, target: str, _lasts: float) -> None:
    stand.proxies[target].drop()


async def _lose_commit(stand: Stand, target: str, lasts: float) -> None:
    stand.proxies[target].lose(_COMMIT, reply=False)
    await _healed(stand, target, lasts)


async def _lose_commit_reply(stand: Stand, target: str, lasts: float) -> None:
    stand.proxies[target].lose(_COMMIT, reply=True)
    await _healed(stand, target, lasts)


async def _healed(stand: Stand, target: str, lasts: float) -> None:
    try:
        await asyncio.sleep(lasts)
    finally:
        stand.proxies[target].heal()


async def _terminate(stand: Stand, _target: str, _lasts: float) -> None:
    """The server may be down at this moment, by another strike."""
    try:
        connection = await asyncpg.connect(stand.postgres, timeout=3, command_timeout=3)
        try:
            await connection.execute(_SESSIONS)
        finally:
            await connection.close(timeout=3)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return


async def _fill(stand: Stand, _target: str, lasts: float) -> None:
    """No byte is left on the small disk of the spool."""
    filler = stand.spool / ".filler"
    await asyncio.to_thread(_write_until_full, filler)
    try:
        await asyncio.sleep(lasts)
    finally:
        filler.unlink()


def _write_until_full(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


_ACTIONS: Mapping[str, Callable[[Stand, str, float], Awaitable[None]]] = {
    "kill": _kill,
    "restart": _restart,
    "freeze": _freeze,
    "cut": _cut,
    "half-open": _half_open,
    "delay": _delay,
    "limit": _limit,
    "drop": _drop,
    "terminate": _terminate,
    "lose-commit": _lose_commit,
    "lose-commit-reply": _lose_commit_reply,
    "fill": _fill,
}
