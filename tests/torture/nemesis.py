"""Does what the schedule says, and writes down when it did."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.all_in_one.processes import Process
from tests.torture.schedule import Strike
from tests.torture.stand import Stand
from tests.torture.starts import Starts

_DELAY, _RATE = 0.15, 40_000.0  # seconds a chunk; bytes a second
_ROOM = 4 * 1024 * 1024  # bytes of address space that are left to who is squeezed
_WRONG = 20 * 3600.0  # seconds by which a clock jumps; a projection bends what is further off than a day
_LAST_GASP = 2.0  # seconds that somebody who dies of a squeeze may take to end
_COMMIT = b"COMMIT;"
_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'lodestream-projection-%'
"""


async def torment(stand: Stand, strikes: Sequence[Strike], say: Callable[[str], None] = lambda _: None) -> None:
    """Returns when every strike has ended and what it struck is back. What ends by itself meanwhile is an error."""
    begin, turns, starts = time.monotonic(), defaultdict[str, asyncio.Lock](asyncio.Lock), Starts()
    end = max((strike.at + strike.lasts for strike in strikes), default=0.0) + 1.0
    with (stand.folder / "nemesis.jsonl").open("a", encoding="utf-8") as file:

        def note(strike: Strike, what: str) -> None:
            at = round(time.monotonic() - begin, 2)
            file.write(json.dumps({"at": at, "what": what, "kind": strike.kind, "target": strike.target}) + "\n")
            file.flush()
            say(f"{at:7.2f} s  {what:<5}  {strike.kind} {strike.target} ({strike.lasts} s)")

        async def act(strike: Strike) -> None:
            await asyncio.sleep(begin + strike.at - time.monotonic())
            async with turns[strike.target]:  # a gentle end may take longer than was planned
                if time.monotonic() - begin + strike.lasts > end:
                    note(strike, "skip")
                    return
                if struck := stand.processes.get(strike.target):
                    await starts.begun(strike.target, struck)
                starts.check(strike.target)
                note(strike, "begin")
                await _ACTIONS[strike.kind](stand, strike, starts)
                note(strike, "end")

        async with asyncio.TaskGroup() as group:
            for strike in strikes:
                group.create_task(act(strike))
        await starts.ready()


async def _kill(stand: Stand, strike: Strike, starts: Starts) -> None:
    process = _running(stand, strike.target)
    process.kill()
    await process.ended()
    await asyncio.sleep(strike.lasts)
    await starts.again(strike.target, process)


async def _restart(stand: Stand, strike: Strike, starts: Starts) -> None:
    process = _running(stand, strike.target)
    await process.stop()
    await starts.again(strike.target, process)


async def _freeze(stand: Stand, strike: Strike, _starts: Starts) -> None:
    with frozen(_running(stand, strike.target)):
        await asyncio.sleep(strike.lasts)


async def _squeeze(stand: Stand, strike: Strike, starts: Starts) -> None:
    """Hardly any memory is to be had. Who dies of it is started again, as one that the kernel killed for it."""
    await starts.over(strike.target)  # who is struck while it starts may die of it long after
    starts.check(strike.target)
    process = _running(stand, strike.target)
    squeezed = psutil.Process(process.pid)
    with suppress(psutil.NoSuchProcess):
        usual = squeezed.rlimit(psutil.RLIMIT_AS)
        squeezed.rlimit(psutil.RLIMIT_AS, (squeezed.memory_info().vms + _ROOM, usual[1]))
        with suppress(TimeoutError):
            await asyncio.wait_for(process.ended(), strike.lasts)
        squeezed.rlimit(psutil.RLIMIT_AS, usual)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.ended(), _LAST_GASP)
    if process.pid is None:
        await starts.again(strike.target, process)


async def _set_ahead(stand: Stand, strike: Strike, _starts: Starts) -> None:
    await _clock_is_wrong(stand, strike, _WRONG)


async def _set_back(stand: Stand, strike: Strike, _starts: Starts) -> None:
    await _clock_is_wrong(stand, strike, -_WRONG)


async def _clock_is_wrong(stand: Stand, strike: Strike, seconds: float) -> None:
    stand.set_clock(strike.target, seconds)
    try:
        await asyncio.sleep(strike.lasts)
    finally:
        stand.set_clock(strike.target, 0)


def _running(stand: Stand, target: str) -> Process:
    """Whoever is struck has to be alive: what died by itself must not be brought back in silence."""
    process = stand.processes[target]
    assert process.pid is not None, f"{target} ended by itself: {process.last_output()}"
    return process


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


async def _cut(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].cut()
    await _healed(stand, strike)


async def _half_open(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].half_open()
    await _healed(stand, strike)


async def _delay(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].delay(_DELAY)
    await _healed(stand, strike)


async def _limit(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].limit(_RATE)
    await _healed(stand, strike)


async def _drop(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].drop()


async def _lose_commit(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].lose(_COMMIT, reply=False)
    await _healed(stand, strike)


async def _lose_commit_reply(stand: Stand, strike: Strike, _starts: Starts) -> None:
    stand.proxies[strike.target].lose(_COMMIT, reply=True)
    await _healed(stand, strike)


async def _healed(stand: Stand, strike: Strike) -> None:
    try:
        await asyncio.sleep(strike.lasts)
    finally:
        stand.proxies[strike.target].heal()


async def _terminate(stand: Stand, _strike: Strike, _starts: Starts) -> None:
    """The server may be down at this moment, by another strike."""
    try:
        connection = await asyncpg.connect(stand.postgres, timeout=3, command_timeout=3)
        try:
            await connection.execute(_SESSIONS)
        finally:
            await connection.close(timeout=3)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return


async def _flush(stand: Stand, _strike: Strike, _starts: Starts) -> None:
    """Redis forgets everything; it may be down at this moment, by another strike."""
    client: Any = Redis.from_url(stand.redis, socket_timeout=3, socket_connect_timeout=3)
    try:
        with suppress(RedisError, OSError, TimeoutError):
            await client.flushall()
    finally:
        await client.aclose()


async def _fill(stand: Stand, strike: Strike, _starts: Starts) -> None:
    """No byte is left on the small disk of the spool."""
    filler = stand.spool / ".filler"
    await asyncio.to_thread(_write_until_full, filler)
    try:
        await asyncio.sleep(strike.lasts)
    finally:
        filler.unlink()


def _write_until_full(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


_ACTIONS: Mapping[str, Callable[[Stand, Strike, Starts], Awaitable[None]]] = {
    "kill": _kill,
    "restart": _restart,
    "freeze": _freeze,
    "squeeze": _squeeze,
    "set-ahead": _set_ahead,
    "set-back": _set_back,
    "cut": _cut,
    "half-open": _half_open,
    "delay": _delay,
    "limit": _limit,
    "drop": _drop,
    "terminate": _terminate,
    "lose-commit": _lose_commit,
    "lose-commit-reply": _lose_commit_reply,
    "flush": _flush,
    "fill": _fill,
}
