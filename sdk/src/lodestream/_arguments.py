"""What callers give as arguments."""

from collections.abc import Iterable, Mapping
from typing import Any


def require_list(given: Any, argument: str) -> None:
    """Raise TypeError naming an argument that takes a list and was given something else.

    Texts, bytes and mappings are no lists, though Python would iterate over them: of the text "prod" it would make the
    items p, r, o, d.
    """
    if isinstance(given, str | bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        kind = "a text" if isinstance(given, str) else f"of type {type(given).__name__}"
        raise TypeError(f"{argument} is a list, not {kind}; one item is written [{given!r:.100}]")


def list_of(given: Any, argument: str) -> tuple[Any, ...]:
    """The items of such an argument; none for None. Raises TypeError."""
    if given is None:
        return ()
    require_list(given, argument)
    return tuple(given)


def texts_of(given: Any, argument: str) -> tuple[str, ...]:
    """The items of an argument that takes a list of texts; none for None.

    Raises TypeError naming the argument that is no list, or the first item that is no text.
    """
    items = list_of(given, argument)
    for number, item in enumerate(items):
        if not isinstance(item, str):
            raise TypeError(f"{argument}[{number}] is a text, not of type {type(item).__name__}: {item!r:.100}")
    return items
