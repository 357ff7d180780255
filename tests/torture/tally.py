"""How a run goes, while it goes: verdicts counted from the ends of the ledgers, positions from Postgres."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import asyncpg

from tests.torture.tables import read_positions

_EVERY = 10.0
_MARKS = {
    "requests": b'"do":"intend"', "acked": b'"verdict":"acked"', "spooled": b'"verdict":"spooled"',
    "refused": b'"verdict":"refused"', "unanswered attempts": b'"verdict":"unknown"',
}  # fmt: skip


class Tally:
    """Counts what was written to a folder's ledgers since it last looked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: Counter[Path] = Counter()
        self._counts: Counter[str] = Counter()

    def look(self) -> Counter[str]:
        """How many requests there are so far, and how often each verdict was told."""
        for path in self._folder.glob("*.ledger"):
            with path.open("rb") as file:
                file.seek(self._read[path])
                whole = file.read().rpartition(b"\n")
            self._read[path] += len(whole[0]) + len(whole[1])
            self._counts.update({name: whole[0].count(mark) for name, mark in _MARKS.items()})
        return self._counts


async def tell_how_it_goes(folder: Path, postgres: str, say: Callable[[str], None]) -> None:
    """A line now and then, until cancelled."""
    begin, tally = time.monotonic(), Tally(folder)
    while True:
        await asyncio.sleep(_EVERY)
        counts, folded = tally.look(), "nobody can say how many"
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            folded = str(sum((await read_positions(postgres)).values()))
        told = ", ".join(f"{counts[name]} {name}" for name in _MARKS)
        say(f"{time.monotonic() - begin:7.2f} s  ·      {told}; {folded} records folded")
