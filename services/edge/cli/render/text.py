"""Foreign text made harmless, and text of a certain width.

Names, inputs and outputs come from whoever sends spans. On a terminal an escape sequence could move the cursor, change
what was printed before, or write to the clipboard, and a bidirectional override could make a line read differently from
what it says. So each character that is not visible by itself is shown as a visible stand-in.
"""

import io
import unicodedata
from typing import TextIO

from rich.cells import cell_len
from rich.text import Text

_FIRST_PICTURE = 0x2400  # the Unicode block that has a picture for each of the C0 controls
_DELETE_PICTURE = "\u2421"


def escape_control(text: str) -> str:
    """The text in one line, with a visible stand-in for every character that acts on a terminal."""
    return text if text.isprintable() else "".join(map(_visible, text))


def escape_control_lines(text: str) -> list[str]:
    """The lines of a text without control characters; tabs become four spaces."""
    return [escape_control(line.replace("\t", "    ")) for line in text.replace("\r\n", "\n").split("\n")]


class EscapingWriter(io.TextIOBase):
    """A text stream to a terminal that replaces control characters in what is written."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Write text with its line breaks and tabs; other control characters become visible stand-ins."""
        lines = text.replace("\r\n", "\n").split("\n")
        self._terminal.write("\n".join("\t".join(map(escape_control, line.split("\t"))) for line in lines))
        return len(text)

    def flush(self) -> None:
        """Flush the terminal."""
        self._terminal.flush()


def clip(text: Text, width: int) -> Text:
    """Cut a text to `width` cells, with an ellipsis where something was cut off."""
    short = text.copy()
    short.truncate(width, overflow="ellipsis")
    return short


def fit(text: Text, width: int, *, right: bool = False) -> Text:
    """Cut or pad a text to exactly `width` cells; padding is on the right, or on the left where `right`-aligned."""
    short = clip(text, width)
    missing = width - short.cell_len
    if missing > 0:
        short = Text(" " * missing) + short if right else short + Text(" " * missing)
    return short


def flow(pieces: list[Text], width: int, *, gap: str, indent: int = 0) -> list[Text]:
    """Lay pieces out in lines, as many as fit in each. A piece is never wrapped, but cut to the width."""
    lines: list[Text] = []
    for piece in pieces:
        short = clip(piece, width - indent)
        if lines and lines[-1].cell_len + cell_len(gap) + short.cell_len <= width:
            lines[-1] += Text(gap) + short
        else:
            lines.append(Text(" " * indent) + short)
    return lines


def wrap(line: str, width: int) -> list[str]:
    """Wrap a line into pieces of at most `width` cells, between words where possible. Nothing is left out."""
    pieces = []
    while len(line) > 1 and cell_len(line) > width:
        piece = line[:width]
        while len(piece) > 1 and (cells := cell_len(piece)) > width:
            piece = piece[: min(len(piece) * width // cells, len(piece) - 1) or 1]
        after_word = piece.rfind(" ") + 1
        if after_word > len(piece) // 2:
            piece = piece[:after_word]
        pieces.append(piece)
        line = line[len(piece) :]
    return [*pieces, line]


def _visible(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(_FIRST_PICTURE + code)
    if code == 0x7F:
        return _DELETE_PICTURE
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
