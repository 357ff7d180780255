"""What became of a request."""

import enum
from dataclasses import dataclass


class Why(enum.Enum):
    """Why a request was not taken."""

    AWAY = "away"
    """It may be taken later: nobody answered, or the server said so."""
    SETUP = "setup"
    """A key or an address is wrong; it may be taken when people have put that right."""
    STRANDED = "stranded"
    """This process can't send, others can."""
    BROKEN = "broken"
    """The server failed at it; trying again may help."""
    INVALID = "invalid"
    """It will never be taken as it is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The server has it, but for `rejected` spans that it will never take."""

    rejected: int = 0
    message: str = ""
    position: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not have it, as far as is known."""

    why: Why
    reason: str
    retry_after: float | None = None
    """Seconds, when the server told."""


WHY = {
    **dict.fromkeys(
        ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS"), Why.AWAY
    ),  # OTLP's list of what clients retry
    **dict.fromkeys(("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"), Why.SETUP),
    **dict.fromkeys(("INTERNAL", "UNKNOWN"), Why.BROKEN),
}
"""By gRPC's status; a status that is not in here is INVALID."""
