"""Positions in the log as a text that writes answer with and reads can wait for: `lodestream.traces:3:1234,…`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_POSITION = re.compile(r"([a-z][a-z0-9._-]{0,200}):(\d{1,6}):(\d{1,18})", re.ASCII)
_MAX_TOKEN = 16_384


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """One record of the log."""

    topic: str
    partition: int
    offset: int


class InvalidPositionError(ValueError):
    """A position token is a comma-separated list of topic:partition:offset."""


def to_token(positions: Iterable[Position]) -> str:
    """The token for everything up to and including these records, per partition."""
    last: dict[tuple[str, int], int] = {}
    for position in positions:
        key = (position.topic, position.partition)
        last[key] = max(position.offset, last.get(key, -1))
    return ",".join(f"{topic}:{partition}:{offset}" for (topic, partition), offset in sorted(last.items()))


def from_token(token: str) -> list[Position]:
    """The positions a token names.

    Raises InvalidPositionError when the text is not a token.
    """
    if len(token) > _MAX_TOKEN:
        raise InvalidPositionError(InvalidPositionError.__doc__)
    positions = []
    for part in token.split(",") if token else []:
        match = _POSITION.fullmatch(part)
        if match is None:
            raise InvalidPositionError(InvalidPositionError.__doc__)
        positions.append(Position(match[1], int(match[2]), int(match[3])))
    return positions
