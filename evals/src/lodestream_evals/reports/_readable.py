"""JSON texts and what outputs hold, as people read them. What models say is hostile until it is shown harmlessly."""

import json
import unicodedata

_FIRST_PICTURE = 0x2400  # the Unicode block that has a picture for each of the C0 controls


def readable(json_text: str, *, indent: int | None = None) -> str:
    """A JSON string as what it says; other JSON as it is written, indented if asked for; anything else as it is."""
    if not json_text:
        return ""
    try:
        value = json.loads(json_text)
    except (ValueError, RecursionError):
        return json_text
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=indent)


def one_line(text: str, most: int) -> str:
    """The text in one line of at most `most` characters, without anything that acts instead of being seen."""
    flat = " ".join(text[: 4 * most].split())
    short = flat if len(flat) <= most and len(text) <= 4 * most else flat[: max(most - 1, 0)] + "…"
    return inert(short)


def shortened(text: str, most: int) -> str:
    """The beginning of a long text, and how much is missing."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def inert(text: str, *, lines: bool = False) -> str:
    """The text without any character that acts on what shows it; with `lines`, line feeds and tabs are kept."""
    if text.isprintable():
        return text
    return "".join(each if lines and each in "\n\t" else _visible(each) for each in text)


def _visible(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(_FIRST_PICTURE + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
