"""Prompts in a program: asked for once, kept true by the server's word, there when the server is not."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from lodestream import (
    ChatPrompt,
    Lodestream,
    PromptNotFoundError,
    PromptRefusedError,
    PromptTypeError,
    PromptUnavailableError,
    TextPrompt,
    get_client,
)
from lodestream._delivery.channel import RpcError
from lodestream._prompts.messages import selector_of
from lodestream._prompts.watch import _pause
from lodestream.testing import captured

from sdk.tests.polling import until
from sdk.tests.programs import Programs
from sdk.tests.prompt_server import PromptServer


@pytest.fixture
def server() -> Iterator[PromptServer]:
    with PromptServer() as running:
        yield running


@pytest.fixture
def client(server: PromptServer, tmp_path: Path) -> Iterator[Lodestream]:
    with_server = client_of(server.address, tmp_path)
    yield with_server
    with_server.shutdown()


def client_of(address: str, spool: Path, **settings: Any) -> Lodestream:
    return Lodestream(endpoint=address, secret_key="sk", spool_dir=spool, **settings)


def text_of(client: Lodestream, name: str = "greeting", **selector: Any) -> str:
    found = client.get_prompt(name, type="text", **selector)
    return found.prompt


def says(client: Lodestream, text: str) -> bool:
    return text_of(client) == text


def watched(server: PromptServer) -> None:
    until(lambda: server.watchers == 1)


# --- Looking up -------------------------------------------------------------------------------------------------------


def test_a_prompt_is_asked_for_once(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "Hello {{name}}", "production", config_json='{"model": "m"}', tags=["t"])
    for _ in range(1_000):
        prompt = client.get_prompt("greeting", type="text")
    assert (prompt.compile(name="Ada"), prompt.version, prompt.config) == ("Hello Ada", 1, {"model": "m"})
    assert (prompt.labels, prompt.tags, prompt.is_fallback) == (("latest", "production"), ("t",), False)
    assert server.asked["GetPrompt"] == 1


def test_threads_that_need_it_at_once_ask_once(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "Hi", "production")
    server.hangs.set()
    with ThreadPoolExecutor(50) as threads:
        texts = [threads.submit(text_of, client) for _ in range(50)]
        until(lambda: server.asked["GetPrompt"] == 1)
        server.hangs.clear()
        assert {text.result() for text in texts} == {"Hi"}
    assert server.asked["GetPrompt"] == 1


def test_versions_and_labels(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    server.add("greeting", "two", "staging")
    assert text_of(client) == "one"
    assert text_of(client, label="staging") == text_of(client, version=2) == text_of(client, label="latest") == "two"
    with pytest.raises(ValueError, match="a version or a label"):
        client.get_prompt("greeting", version=1, label="production")


@pytest.mark.parametrize("selector", [{"label": "nobody"}, {"version": 9}])
def test_what_the_project_does_not_have(server: PromptServer, client: Lodestream, selector: dict[str, Any]) -> None:
    server.add("greeting", "one")
    for _ in range(10):
        with pytest.raises(PromptNotFoundError, match="'greeting'"):
            client.get_prompt("greeting", **selector)
    assert client.get_prompt("greeting", fallback="mine", **selector).is_fallback
    assert server.asked["GetPrompt"] == 1


def test_the_other_type_is_refused_or_replaced_by_the_fallback(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    with pytest.raises(PromptTypeError, match="is a text prompt, not chat"):
        client.get_prompt("greeting", type="chat")
    assert client.get_prompt("greeting", type="chat", fallback=[]).is_fallback
    assert isinstance(client.get_prompt("greeting"), TextPrompt)


def test_without_a_cache_every_look_up_asks(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    for _ in range(3):
        text_of(client, cache_ttl_seconds=0)
    assert server.asked["GetPrompt"] == 3
    client.clear_prompt_cache()
    text_of(client)
    assert server.asked["GetPrompt"] == 4


# --- Kept true --------------------------------------------------------------------------------------------------------


def test_a_label_that_moves_is_seen_without_asking(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    watched(server)
    for text in ("two", "three", "four"):
        server.add("greeting", text, "production")
        until(partial(says, client, text))
    assert server.asked["GetPrompt"] == 1


def test_a_label_that_is_taken_off_is_missed(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    watched(server)
    server.move("greeting", 0, "production")
    until(lambda: text_of(client, fallback="mine") == "mine")
    with pytest.raises(PromptNotFoundError):
        client.get_prompt("greeting")
    server.move("greeting", 1, "production")
    until(lambda: text_of(client, fallback="mine") == "one")
    assert server.asked["GetPrompt"] == 1


def test_all_that_were_asked_for_are_watched_on_one_stream(server: PromptServer, client: Lodestream) -> None:
    for number in range(20):
        server.add(f"p{number}", "old", "production")
        assert text_of(client, f"p{number}") == "old"
    watched(server)
    for number in range(20):
        server.add(f"p{number}", "new", "production")
    until(lambda: {text_of(client, f"p{number}") for number in range(20)} == {"new"})
    assert server.watchers == 1
    assert server.asked["GetPrompt"] == 20


def test_a_watch_that_was_cut_catches_up(server: PromptServer, tmp_path: Path) -> None:
    client = client_of(server.address, tmp_path)
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    watched(server)
    server.stop()
    with PromptServer(server.port) as again:
        again.add("greeting", "one")
        again.add("greeting", "two", "production")
        until(lambda: text_of(client) == "two")
    client.shutdown()


def test_where_nothing_is_told_prompts_age(
    server: PromptServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.watching_fails = grpc.StatusCode.UNIMPLEMENTED
    server.add("greeting", "one", "production")
    assert text_of(client, cache_ttl_seconds=0.05) == "one"
    server.add("greeting", "two", "production")
    until(lambda: text_of(client, cache_ttl_seconds=0.05) == "two")
    server.failing = grpc.StatusCode.UNAVAILABLE
    asked = server.asked["GetPrompt"]
    until(lambda: text_of(client, cache_ttl_seconds=0.05) == "two" and server.asked["GetPrompt"] > asked)
    assert text_of(client, cache_ttl_seconds=0.05) == "two", "what is old is better than nothing"


def test_an_overtaken_answer_does_not_bring_back_the_past(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    watched(server)
    server.add("greeting", "two", "production")
    until(lambda: text_of(client) == "two")
    late = server._find(selector_of(("greeting", "production")))
    late.found.text, late.found.revision, late.revision = "one", 1, 1
    assert client._prompts is not None
    client._prompts._apply_changes([late])
    assert text_of(client) == "two"


# --- Without the server -----------------------------------------------------------------------------------------------


def test_a_start_without_the_server_has_the_last_known_good(
    server: PromptServer, client: Lodestream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    watched(server)
    server.add("greeting", "two", "production")
    until(lambda: text_of(client) == "two")
    client.shutdown()
    server.stop()
    later = client_of(server.address, tmp_path)
    with caplog.at_level(logging.WARNING, "lodestream"):
        assert text_of(later, max_retries=0, fallback="mine") == "two"
    assert "version 2, kept on disk, is used" in caplog.text
    with pytest.raises(PromptUnavailableError, match="'other'"):
        later.get_prompt("other", max_retries=0)
    later.shutdown()


def test_what_was_taken_off_is_not_on_disk(server: PromptServer, client: Lodestream, tmp_path: Path) -> None:
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    watched(server)
    server.move("greeting", 0, "production")
    until(lambda: text_of(client, fallback="mine") == "mine")
    until(lambda: not list(tmp_path.rglob("prompts/*/*.json")))


def test_a_server_that_hangs_costs_one_wait(server: PromptServer, client: Lodestream) -> None:
    server.hangs.set()
    before = time.monotonic()
    for _ in range(100):
        assert text_of(client, fallback="mine", fetch_timeout_seconds=0.3, max_retries=0) == "mine"
    assert time.monotonic() - before < 3
    server.add("greeting", "one", "production")
    server.hangs.clear()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_failure_that_passes_is_tried_again(server: PromptServer, client: Lodestream, code: grpc.StatusCode) -> None:
    server.add("greeting", "one", "production")
    server.failing = code

    def mend() -> None:
        until(lambda: server.asked["GetPrompt"] > 1)
        server.failing = None

    threading.Thread(target=mend).start()
    assert text_of(client, max_retries=5) == "one"


def test_a_wrong_key_is_said_at_once(server: PromptServer, client: Lodestream) -> None:
    server.failing = grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(PromptUnavailableError, match="UNAUTHENTICATED"):
        client.get_prompt("greeting")
    assert server.asked["GetPrompt"] == 1


def test_without_keys_there_are_fallbacks(tmp_path: Path) -> None:
    client = Lodestream(tracing_enabled=True, spool_dir=tmp_path)
    assert client.get_prompt("greeting", fallback="mine").version == 0
    with pytest.raises(PromptUnavailableError, match="LODESTREAM_SECRET_KEY"):
        client.get_prompt("greeting")


def test_a_folder_that_cannot_be_written_is_no_trouble(server: PromptServer, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    client = client_of(server.address, blocked)
    server.add("greeting", "one", "production")
    assert text_of(client) == "one"
    client.shutdown()


# --- Fallbacks --------------------------------------------------------------------------------------------------------


def test_a_fallback_serves_every_thread_that_waits_for_a_server_that_hangs(
    server: PromptServer, client: Lodestream
) -> None:
    """Also those that waited longer for the thread that asks than they would have for the server."""
    server.hangs.set()

    def look_up(number: int) -> str:
        return text_of(client, fallback="mine", fetch_timeout_seconds=0.05, max_retries=4 if number == 0 else 0)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(look_up, range(8))) == ["mine"] * 8
    server.hangs.clear()


def test_a_thread_that_gives_up_is_not_the_others_end(
    server: PromptServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the thread that asks is not raised in those that wait for its answer."""
    asking, going_on = threading.Event(), threading.Event()

    def interrupted(*_: object, **__: object) -> object:
        if asking.is_set():
            raise RpcError("UNAVAILABLE", "it came too late to wait")
        asking.set()
        going_on.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(client._prompts, "_fetch", interrupted)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(text_of, client, fallback="mine")
        asking.wait(10)
        second = threads.submit(text_of, client, fallback="mine")
        until(second.running)
        going_on.set()
        assert isinstance(first.exception(10), KeyboardInterrupt)
        assert second.result(10) == "mine"


@pytest.mark.parametrize("fallback", [None, "mine"])
def test_none_stands_for_the_default(server: PromptServer, client: Lodestream, fallback: str | None) -> None:
    server.add("greeting", "one", "production")
    for _ in range(2):
        found = client.get_prompt(
            "greeting", cache_ttl_seconds=None, fetch_timeout_seconds=None, max_retries=None, fallback=fallback
        )
        assert found.prompt == "one"
    assert server.asked["GetPrompt"] == 1


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"fallback": 7}, "fallback is a list"),
        ({"fallback": {"role": "user", "content": "x"}}, "fallback is a list, not of type dict"),
        ({"fallback": [{"role": "user", "content": None}]}, r"fallback\[0\] is not"),
        ({"fallback": ["x"]}, r"fallback\[0\] is a message"),
        ({"fallback": "x", "type": "chat"}, "fallback of a chat prompt is a list of messages"),
        ({"fallback": [], "type": "text"}, "fallback of a text prompt is a text"),
    ],
)
def test_a_fallback_that_is_none_is_refused_also_when_it_is_not_needed(
    server: PromptServer, client: Lodestream, options: dict[str, Any], refusal: str
) -> None:
    server.add("greeting", "one", "production")
    with pytest.raises((TypeError, ValueError), match=refusal):
        client.get_prompt("greeting", **options)


def test_an_error_of_ours_leads_to_the_fallback(
    client: Lodestream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("LODESTREAM_STRICT", raising=False)
    monkeypatch.setattr(client._prompts, "_fetch", lambda *_, **__: 1 / 0)
    assert text_of(client, fallback="mine") == "mine"
    assert "ZeroDivisionError" in caplog.text


# --- Changing ---------------------------------------------------------------------------------------------------------


def test_creating_moving_and_rolling_back(server: PromptServer, client: Lodestream) -> None:
    created = client.create_prompt("greeting", "one", labels=["production"], config={"temperature": 0.2})
    assert (created.version, created.config) == (1, {"temperature": 0.2})
    assert text_of(client) == "one"
    assert client.create_prompt("greeting", "two").version == 2
    assert client.update_prompt("greeting", 2, ["production"]).labels == ("latest", "production")
    assert text_of(client) == "two", "one's own change is seen at once"
    assert client.roll_back_prompt("greeting").version == 1
    assert text_of(client) == "one"


def test_chat_prompts(server: PromptServer, client: Lodestream) -> None:
    messages = [{"role": "system", "content": "Be {{tone}}"}, {"type": "placeholder", "name": "history"}]
    assert client.create_prompt("chat", messages, labels=["production"], type="chat").version == 1
    prompt = client.get_prompt("chat", type="chat")
    assert isinstance(prompt, ChatPrompt)
    assert list(prompt.prompt) == messages
    assert prompt.compile(tone="kind", history=[]) == [{"role": "system", "content": "Be kind"}]


def test_changes_that_are_refused(server: PromptServer, client: Lodestream) -> None:
    client.create_prompt("greeting", "one", labels=["production"])
    with pytest.raises(PromptRefusedError, match="at another revision"):
        client.update_prompt("greeting", 1, ["production"], expected_revision=7)
    assert server.asked["MoveLabels"] == 1, "the same command has the same verdict"
    with pytest.raises(PromptNotFoundError, match="nobody held"):
        client.roll_back_prompt("greeting")
    with pytest.raises(PromptRefusedError, match=r"prompt\[0\]"):
        client.create_prompt("greeting", [{"role": "user"}])
    with pytest.raises(PromptRefusedError, match="JSON"):
        client.create_prompt("greeting", "x", config={"a": object()})
    server.failing = grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(PromptUnavailableError):
        client.create_prompt("greeting", "x")


# --- Generations ------------------------------------------------------------------------------------------------------


def test_generations_name_their_prompt_but_not_a_fallback(server: PromptServer, client: Lodestream) -> None:
    server.add("greeting", "one", "production")
    prompts = client.get_prompt("greeting"), client.get_prompt("other", fallback="mine")
    with captured() as told:
        for prompt in prompts:
            get_client().start_observation(name="g", as_type="generation", prompt=prompt).end()
    linked, alone = told.spans
    assert linked.attributes["lodestream.observation.prompt.name"] == "greeting"
    assert linked.attributes["lodestream.observation.prompt.version"] == 1
    assert "lodestream.observation.prompt.name" not in alone.attributes


# --- Processes --------------------------------------------------------------------------------------------------------


def test_a_fork_is_not_held_up_by_the_watch_and_both_go_on(server: PromptServer, tmp_path: Path) -> None:
    server.add("greeting", "one", "production")
    with Programs(tmp_path, server.address).start(
        """
        text = lambda: get_client().get_prompt("greeting").prompt
        def see(expected):
            end = time.monotonic() + 20
            while text() != expected:
                assert time.monotonic() < end
                time.sleep(0.01)
        see("one")
        input()
        pids, longest = [], 0
        for _ in range(5):
            before = time.monotonic()
            pid = os.fork()
            if pid == 0:
                see("two")
                os._exit(0)
            longest = max(longest, time.monotonic() - before)
            pids.append(pid)
        print(longest, flush=True)
        see("two")
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 5
        """
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        watched(server)
        program.stdin.write("fork\n")
        program.stdin.flush()
        assert float(program.stdout.readline()) < 0.5
        until(lambda: server.watchers == 6)
        server.add("greeting", "two", "production")
        _, err = program.communicate(timeout=60)
        assert (program.returncode, err) == (0, "")


def test_the_watch_ends_with_the_client(server: PromptServer, tmp_path: Path) -> None:
    client = client_of(server.address, tmp_path)
    server.add("greeting", "one", "production")
    text_of(client)
    watched(server)
    client.shutdown()
    until(lambda: not server.watchers)
    assert not [thread for thread in threading.enumerate() if thread.name == "lodestream-prompts"]


def test_a_watch_asks_for_patience_when_the_server_is_away() -> None:
    pauses = [_pause(RpcError("UNAVAILABLE", "away"), failures) for failures in range(1, 20)]
    assert 0.1 <= pauses[0] <= 0.2
    assert all(pause <= 30 for pause in pauses)
    assert _pause(RpcError("UNAVAILABLE", "away", retry_after=60.0), 1) == 60
