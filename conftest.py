"""What holds for all tests, those of the services and those of the SDK."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

_ROOT = Path(__file__).parent
_MARKS = {
    "tests/integration": pytest.mark.servers,
    "tests/faults": pytest.mark.servers,
    "tests/torture": pytest.mark.servers,
    "sdk/tests/matrix": pytest.mark.slow,
}

# A shell that runs tests in the background has them ignore Ctrl-C, and so would every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does; pytest's own time limit finds what hangs.
settings.register_profile("lodestream", deadline=None)
settings.load_profile("lodestream")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark tests by their folder, so that `make test-fast` leaves out what needs servers or takes long."""
    for item in items:
        folder = item.path.parent.relative_to(_ROOT).as_posix()
        if mark := _MARKS.get(folder):
            item.add_marker(mark)
