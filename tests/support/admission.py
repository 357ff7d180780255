"""The gateway's admission by itself: no keys, and a log that always has room."""

from typing import Any, cast

from services.write.gateway.admission import Admission, Room
from shared.runtime.settings import GatewaySettings


class QuietLog:
    """A log to which nothing is on its way."""

    in_flight_bytes = 0
    unavailable = None


def admission(**fields: Any) -> Admission:
    """An admission under these limits, at a time that does not pass."""
    return Admission(GatewaySettings(**fields), cast("Any", None), cast("Any", QuietLog()), clock=lambda: 0.0)


def open_room(**fields: Any) -> Room:
    """Room for a request of the project "acme" that is being handled."""
    limits = GatewaySettings(**fields)
    return Room(admission(**fields), "acme", limits.max_spans)
