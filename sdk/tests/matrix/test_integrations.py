"""Our integrations with the newest packages: tests that are run by pytest in an environment of their own."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.tests.matrix.environments import python_of
from sdk.tests.matrix.model_server import ModelServer
from sdk.tests.matrix.test_matrix import environment_for

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.mark.timeout(300)  # an environment may have to be made
@pytest.mark.parametrize("name", ["langchain"])
def test_an_integration(name: str, models: ModelServer) -> None:
    ran = subprocess.run(
        [python_of(name), "-m", "pytest", "-q", "-c", PROGRAMS / "pytest.ini", PROGRAMS / f"{name}_tests.py"],
        env={**environment_for(models), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
