"""HTML that can't be broken out of: whatever is not made by `tag` is escaped by it."""

from html import escape

from lodestream_evals.reports._readable import inert

_EMPTY = frozenset({"meta", "br", "hr", "line", "circle", "rect", "path", "polyline"})


class Html(str):
    """Made by `tag`: safe as it is."""

    __slots__ = ()


def tag(element: str, /, *content: "str | Html | None", **attributes: object) -> Html:
    """An element; `class_` is class, other underscores are dashes, None is left out. Plain strings are escaped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _EMPTY and not content:
        return Html(f"<{element}{written} />")
    return Html(f"<{element}{written}>{joined(*content)}</{element}>")


def joined(*content: "str | Html | None") -> Html:
    """One after the other."""
    return Html("".join(each if isinstance(each, Html) else _escaped(each) for each in content if each is not None))


def _escaped(text: str) -> str:
    return escape(inert(text, lines=True))
