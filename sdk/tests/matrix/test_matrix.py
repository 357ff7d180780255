"""Programs with real instrumentation packages answer and record the same under Lodestream as under opentelemetry-sdk.

`make test` runs a few of them, `make matrix` all.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdk.tests.matrix.environments import python_of
from sdk.tests.matrix.model_server import ModelServer

HERE = Path(__file__).parent
PROGRAMS = {
    "fastapi": "fastapi",
    "flask": "flask",
    "traceloop_langchain": "traceloop",
    "openinference_openai": "openinference_openai",
    "django": "django",
    "aiohttp": "aiohttp",
    "clients": "clients",
    "sqlalchemy": "sqlalchemy",
    "celery": "celery",
    "traceloop_openai": "traceloop",
    "openinference_langchain": "openinference_langchain",
    "llama_index": "llama_index",
    "anthropic": "anthropic",
    "litellm": "litellm",
    "pydantic_ai": "pydantic_ai",
}
"""Each program, and the lock of the environment that it runs in."""
QUICK = ("fastapi", "flask", "traceloop_langchain", "openinference_openai")
CHOSEN = tuple(PROGRAMS) if os.environ.get("MATRIX") == "all" else QUICK


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.mark.timeout(300)  # an environment may have to be made
@pytest.mark.parametrize("program", CHOSEN)
def test_a_program_answers_and_records_the_same(program: str, models: ModelServer) -> None:
    python = python_of(PROGRAMS[program])
    both = [_start(python, backend, program, models) for backend in ("opentelemetry", "lodestream")]
    theirs, ours = (_result(process) for process in both)
    assert ours["answer"] == theirs["answer"]
    assert {span["scope"] for span in theirs["spans"]} > {"program "}, (
        "under opentelemetry-sdk too nothing is instrumented"
    )
    assert ours["spans"] == theirs["spans"]
    assert ours["exported"] == theirs["spans"]


def _start(python: Path, backend: str, program: str, models: ModelServer) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [python, HERE / "record.py", backend, HERE / "programs" / f"{program}_program.py"],
        env=environment_for(models),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment_for(models: ModelServer) -> dict[str, str]:
    """The environment variables of a program that asks the model server, whatever client library it has."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LODESTREAM_", "PYTEST_"))
    }
    return {
        **kept,
        "MODEL_SERVER": models.address,
        "OPENAI_BASE_URL": f"{models.address}/v1",
        "OPENAI_API_BASE": f"{models.address}/v1",
        "OPENAI_API_KEY": "sk",
        "ANTHROPIC_BASE_URL": models.address,
        "ANTHROPIC_API_KEY": "sk",
        "LANGSMITH_TRACING": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
    }


def _result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return dict(json.loads(out.splitlines()[-1]))
