"""Options that several commands share, written once.

A group is a function: its parameters are the options, what it returns is what the command gets. A group that returns a
context manager is entered for the time of the command.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

Command = Callable[..., None]


def takes(**groups: Callable[..., Any]) -> Callable[[Command], Command]:
    """Decorates a command: each named argument comes from its group, whose options follow the command's own."""

    def decorate(command: Command) -> Command:
        own = [each for name, each in inspect.signature(command).parameters.items() if name not in groups]
        options = {group: list(inspect.signature(build).parameters.values()) for group, build in groups.items()}
        parameters = [*own, *(each for group in options.values() for each in group)]

        @functools.wraps(command)
        def complete(**given: Any) -> None:
            with ExitStack() as stack:
                made = {}
                for group, build in groups.items():
                    value = build(**{each.name: given.pop(each.name) for each in options[group]})
                    entered = isinstance(value, AbstractContextManager)
                    made[group] = stack.enter_context(value) if entered else value
                command(**given, **made)

        # What typer reads the options from.
        complete.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        complete.__annotations__ = {each.name: each.annotation for each in parameters}
        return complete

    return decorate
