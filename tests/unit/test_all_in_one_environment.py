"""Each process of a local stack gets the settings and the secrets that it needs."""

import pytest

from services.all_in_one.processes import Command
from services.all_in_one.services import SERVICES, environment_of

STACK = {
    "LODESTREAM_KAFKA": "kafka:1",
    "LODESTREAM_POSTGRES": "postgresql://lodestream:secret@postgres/lodestream",
    "LODESTREAM_REDIS": "redis://:secret@valkey/0",
    "LODESTREAM_INIT_PROJECT_ID": "local",
    "LODESTREAM_INIT_SECRET_KEY": "sk-ls-local",
    "LODESTREAM_SECRET_KEY": "sk-of-a-program",
    "LODESTREAM_LOG_LEVEL": "INFO",
    "OPENAI_API_KEY": "sk-of-a-provider",
}
NEEDED = {
    "traces": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES"},
    "scores": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES"},
    "experiments": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES"},
    "prompts": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES", "LODESTREAM_REDIS"},
    "evaluator": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES", "LODESTREAM_REDIS", "OPENAI_API_KEY"},
    "query": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES"},
    "mock_llm": set(),
    "gateway": {"LODESTREAM_KAFKA", "LODESTREAM_POSTGRES", "LODESTREAM_REDIS", "LODESTREAM_INIT_SECRET_KEY"},
}
PLAIN = {"LODESTREAM_INIT_PROJECT_ID", "LODESTREAM_LOG_LEVEL"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_process_has_the_secrets_that_it_needs(service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-provider")
    given = environment_of(service, STACK)
    assert given.keys() & STACK.keys() == NEEDED[service.name] | PLAIN
    assert "PATH" in given or service.calls_models


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (
            "postgresql://lodestream:secret@127.0.0.1:5432/lodestream",
            "postgresql://lodestream@127.0.0.1:5432/lodestream",
        ),
        ("redis://:secret@127.0.0.1:6379/0", "redis://@127.0.0.1:6379/0"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, place: str) -> None:
    assert Command(name="server", argv=(), address=address).public_address == place
