"""Functions of users, called with what they ask for by the names of their parameters."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Bound:
    """A function, and which of the things that are known it is given."""

    function: Callable[..., Any]
    positional: tuple[str, ...]
    by_name: tuple[str, ...]
    takes_all: bool

    @property
    def is_async(self) -> bool:
        """Whether calling it gives something to be awaited, as far as can be told before."""
        called = getattr(type(self.function), "__call__", None)  # noqa: B004 - of the class, as Python calls it
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    def arguments(self, known: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """For one call."""
        named = {name: known[name] for name in self.by_name}
        if self.takes_all:
            named = {**{name: value for name, value in known.items() if name not in self.positional}, **named}
        return [known[name] for name in self.positional], named


def bind(function: Callable[..., Any], known: Collection[str], *, alone: str, what: str) -> Bound:
    """How to call it. One parameter that has a name of its own gets `alone`.

    Raises TypeError when it asks for what there is not.
    """
    if not callable(function):
        raise TypeError(f"{what} is {function!r:.100}, which can't be called")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some that are written in C
        return Bound(function, (alone,), (), takes_all=False)
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    needed = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    strange = [each for each in needed if each.name not in known and each.default is each.empty]
    first: tuple[str, ...] = ()
    rest = needed
    if len(strange) == 1 and strange[0] is needed[0] and strange[0].kind is not strange[0].KEYWORD_ONLY:
        first, rest = (alone,), needed[1:]
    elif strange:
        names = ", ".join(each.name for each in strange)
        raise TypeError(f"{what} asks for {names}; it can be given {', '.join(known)}")
    positional = tuple(each.name for each in rest if each.kind is each.POSITIONAL_ONLY and each.name in known)
    by_name = tuple(each.name for each in rest if each.kind in _BY_NAME and each.name in known)
    return Bound(function, (*first, *positional), by_name, takes_all=takes_all)
