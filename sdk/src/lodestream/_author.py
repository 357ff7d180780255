"""Who is said to have made a change."""

import os

_NAMES = ("LODESTREAM_AUTHOR", "OTEL_SERVICE_NAME", "USER")


def author() -> str:
    """Whom the environment names, else the service, else the user."""
    return next((value for name in _NAMES if (value := os.environ.get(name))), "")
