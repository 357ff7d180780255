"""A text where a list is meant: refused by its name before anything is sent, and never taken for its letters."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lodestream import (
    DatasetItemsRefusedError,
    ExperimentRefusedError,
    Lodestream,
    PromptRefusedError,
    get_client,
    propagate_attributes,
)
from lodestream.testing import captured

from sdk.tests.experiment_server import ExperimentServer
from sdk.tests.prompt_server import PromptServer

Server = PromptServer | ExperimentServer


def _client_of(server: Server, folder: Path) -> Iterator[Lodestream]:
    client = Lodestream(endpoint=server.address, secret_key="sk", spool_dir=folder)
    yield client
    client.shutdown()


@pytest.fixture
def prompts(tmp_path: Path) -> Iterator[tuple[Lodestream, PromptServer]]:
    with PromptServer() as server:
        for client in _client_of(server, tmp_path):
            yield client, server


@pytest.fixture
def datasets(tmp_path: Path) -> Iterator[tuple[Lodestream, ExperimentServer]]:
    with ExperimentServer() as server:
        for client in _client_of(server, tmp_path):
            yield client, server


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda client: client.create_prompt("p", "x", labels="production"), "labels is a list, not a text"),
        (lambda client: client.create_prompt("p", "x", labels=b"production"), "labels is a list, not of type bytes"),
        (lambda client: client.create_prompt("p", "x", labels=["a", 1]), r"labels\[1\] is a text"),
        (lambda client: client.create_prompt("p", "x", tags="web"), "tags is a list, not a text"),
        (lambda client: client.create_prompt("p", "x", tags={"web": 1}), "tags is a list, not of type dict"),
        (lambda client: client.update_prompt("p", 1, new_labels="prod"), "new_labels is a list, not a text"),
        (lambda client: client.update_prompt("p", 1, 7), "new_labels is a list, not of type int"),
        (lambda client: client.create_prompt("p", {"role": "user", "content": "x"}), "prompt is a list, not of type"),
        (lambda client: client.create_prompt("p", ["x"]), r"prompt\[0\] is a message"),
    ],
)
def test_no_prompt_is_changed(
    prompts: tuple[Lodestream, PromptServer], change: Callable[[Lodestream], Any], refusal: str
) -> None:
    client, server = prompts
    with pytest.raises((TypeError, PromptRefusedError), match=refusal):
        change(client)
    assert not server.asked


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda client: client.get_dataset("d", splits="test"), "splits is a list, not a text"),
        (lambda client: client.create_dataset_item(dataset_name="d", input=1, splits="test"), "splits: splits is a"),
        (lambda client: client.create_dataset_items("d", {"input": 1}), "items is a list, not of type dict"),
        (lambda client: client.archive_dataset_items("d", "item"), "item_ids is a list, not a text"),
        (
            lambda client: client.run_experiment(name="e", data=[{"input": 1}], task=len, evaluators="exact_match"),
            "evaluators is a list, not a text",
        ),
        (
            lambda client: client.run_experiment(name="e", data=[{"input": 1}], task=len, run_evaluators={"kind": "m"}),
            "run_evaluators is a list, not of type dict",
        ),
    ],
)
def test_no_dataset_is_changed_and_nothing_is_run(
    datasets: tuple[Lodestream, ExperimentServer], call: Callable[[Lodestream], Any], refusal: str
) -> None:
    client, server = datasets
    with pytest.raises((TypeError, DatasetItemsRefusedError, ExperimentRefusedError), match=refusal):
        call(client)
    assert not server.asked


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ("web", ["web"]),
        (b"web", ["web"]),
        (["web", 7], ["web", "7"]),
        ({"web"}, ["web"]),
        ({"web": 1}, None),
        (7, None),
    ],
)
def test_tags_never_raise(caplog: pytest.LogCaptureFixture, tags: Any, kept: list[str] | None) -> None:
    """A text is one tag, which is logged; what makes no sense is left out."""
    with caplog.at_level(logging.WARNING), captured() as told:
        for _ in range(2):
            with propagate_attributes(tags=tags, user_id="ada"):
                get_client().start_observation(name="a").end()
    assert [span.attributes.get("lodestream.trace.tags") for span in told.spans] == [kept, kept]
    assert [span.attributes["user.id"] for span in told.spans] == ["ada", "ada"]
    logged = [record for record in caplog.records if "tags is a list" in record.message]
    assert len(logged) == (0 if isinstance(tags, list | set) else 1)
