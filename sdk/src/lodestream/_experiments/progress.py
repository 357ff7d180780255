"""How far an experiment is, on standard error, where somebody looks."""

import contextlib
import os
import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from lodestream._experiments.plan import Plan
from lodestream._results import ItemResult

_EVERY_SECONDS = 10.0
"""Lines; an experiment that is shorter says nothing."""


class Progress(Protocol):
    """Told of each item that is done."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def advance(self, result: ItemResult) -> None: ...


def progress_for(plan: Plan, *, total: int, done: int) -> Progress:
    """A bar on a terminal, lines elsewhere; silent in tests and in CI unless it is asked for."""
    wanted = plan.progress
    if wanted is None:
        wanted = not {"PYTEST_CURRENT_TEST", "CI"} & os.environ.keys()
    if not wanted or sys.stderr is None:
        return Silent()
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            return Bar(plan.run_name, total, done)
    return Lines(plan.run_name, total, done)


class Silent:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, result: ItemResult) -> None:
        pass


class Lines:
    """A line once in a while, and one at the end if there was any."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self._name, self._total, self._done, self._failed = name, total, done, 0
        self._next = time.monotonic() + _EVERY_SECONDS
        self._spoke = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spoke:
            self._say()

    def advance(self, result: ItemResult) -> None:
        self._done += 1
        self._failed += bool(result.error)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_SECONDS
            self._spoke = True
            self._say()

    def _say(self) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self._name}: {self._done} of {self._total} items{failed}\n")
            sys.stderr.flush()


class Bar:
    """Rich's. Raises ImportError where that is not installed."""

    def __init__(self, name: str, total: int, done: int) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]
        self._bar = RichProgress(*columns, console=Console(stderr=True))
        self._name, self._failed = escape(name), 0
        self._task = self._bar.add_task(self._name, total=total, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, result: ItemResult) -> None:
        if result.error:
            self._failed += 1
            self._bar.update(self._task, description=f"{self._name} [red]{self._failed} failed[/red]")
        self._bar.advance(self._task)
