"""What every test begins with: nothing told yet, and a server where one is asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lodestream import _diagnostics
from lodestream._recording.clients import isolated
from lodestream_evals import rate_limited_log

from sdk.tests.collector import Collector
from sdk.tests.programs import Programs, end_all


@pytest.fixture(autouse=True)
def _nothing_told_yet() -> None:
    rate_limited_log._warned_at.clear()
    _diagnostics._dropped_since_logged.clear()


@pytest.fixture(autouse=True)
def _clients_of_its_own() -> Iterator[None]:
    with isolated():
        yield


@pytest.fixture(autouse=True)
def _no_program_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture
def programs(tmp_path: Path, collector: Collector) -> Programs:
    return Programs(tmp_path, collector.address)
