"""Our integrations with the newest packages: tests that are run by pytest in an environment of their own."""

import math
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from sdk.tests.matrix.environments import python_of
from sdk.tests.matrix.model_server import ModelServer
from sdk.tests.matrix.test_matrix import environment_for
from services.mock_llm.app import create_app
from shared.runtime.settings import MockLlmSettings

PROGRAMS = Path(__file__).parent / "programs"
INSTRUMENTED = ("langchain", "anthropic", "bedrock", "google_genai", "litellm", "llama_index")
"""Libraries, each also the name of its environment; the first is in `make test`, all are in `make matrix`."""


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def mock_model() -> Iterator[str]:
    """The address of the mock model of the platform, without its waiting times."""
    config = uvicorn.Config(
        create_app(MockLlmSettings(speed=math.inf)), port=0, log_config=None, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.timeout(300)  # an environment may have to be made
def test_langchain_and_langgraph(models: ModelServer, mock_model: str) -> None:
    run("langchain", "langchain_tests.py", models, MOCK_MODEL=mock_model)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("library", INSTRUMENTED if os.environ.get("MATRIX") == "all" else INSTRUMENTED[:1])
def test_a_library_that_is_instrumented(library: str, models: ModelServer) -> None:
    run(library, "instrument_tests.py", models)


def run(environment: str, tests: str, models: ModelServer, **variables: str) -> None:
    """Run tests by pytest in an environment of the matrix."""
    ran = subprocess.run(
        [python_of(environment), "-m", "pytest", "-q", "-c", PROGRAMS / "pytest.ini", PROGRAMS / tests],
        env={**environment_for(models), "PYTHONDONTWRITEBYTECODE": "1", "LIBRARY": environment, **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
