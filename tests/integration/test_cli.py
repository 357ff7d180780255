"""The command line against real services: what was sent is what is shown, and exit codes tell how it went."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.event_log.topics import TOPICS
from tests.support.cli import CommandLine, Ran
from tests.support.polling import until
from tests.support.read_model import offer_providers
from tests.support.records import any_value
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(180)

HOSTILE = "\x1b[2J\u202eevil"


async def in_a_process(*words: str, **environment: str) -> Ran:
    """Run the command the way a script does: a process, no terminal, this environment."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("LODESTREAM_") and name != "COLUMNS"
    }
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.edge.cli", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean, **environment},
    )
    out, err = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode is not None
    return Ran(child.returncode, out.decode(), err.decode())


@dataclass(frozen=True, slots=True)
class Client:
    """A project of its own on running services."""

    stack: Stack

    @property
    def environment(self) -> dict[str, str]:
        key = self.stack.keys["acme"]
        return {
            "LODESTREAM_ENDPOINT": self.stack.address,
            "LODESTREAM_PUBLIC_KEY": key.public_key,
            "LODESTREAM_SECRET_KEY": key.secret_key,
        }

    async def run(self, *words: str) -> Ran:
        return await CommandLine(self.environment).run(*words)

    async def run_in_a_process(self, *words: str, **environment: str) -> Ran:
        return await in_a_process(*words, **{**self.environment, **environment})


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack)


def question(trace: int, *, user: str, session: str, latency_ms: int = 1_000, failed: bool = False) -> list[Span]:
    """A trace of four spans that began a minute ago: an agent that searches, uses a tool, and asks a model."""

    def span(number: int, parent: int, name: str, start_ms: int, end_ms: int, **attributes: str | int) -> Span:
        return Span(
            trace_id=trace.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            name=name,
            start_time_unix_nano=begin + start_ms * 1_000_000,
            end_time_unix_nano=begin + end_ms * 1_000_000,
            attributes=[
                KeyValue(key=key.replace("__", "."), value=any_value(value)) for key, value in attributes.items()
            ],
        )

    begin = (time.time_ns() // 1_000_000 - 60_000) * 1_000_000
    about = {"user__id": user, "session__id": session, "langfuse__environment": "test"}
    root = span(1, 0, f"question of {user}", 0, latency_ms, **about, langfuse__observation__type="agent")
    search = span(2, 1, "search", 0, latency_ms // 4, **about, langfuse__observation__type="retriever")
    tool = span(3, 1, "look-up", latency_ms // 4, latency_ms // 2, **about, langfuse__observation__type="tool")
    if failed:
        tool.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=f"no answer {HOSTILE}"))
    answer = span(
        4,
        1,
        "answer",
        latency_ms // 2,
        latency_ms,
        **about,
        gen_ai__operation__name="chat",
        gen_ai__request__model="gpt-4o-mini",
        gen_ai__usage__input_tokens=100,
        gen_ai__usage__output_tokens=20,
    )
    return [root, search, tool, answer]


def ids(traces: Sequence[dict[str, Any]]) -> list[int]:
    return [int(trace["trace_id"], 16) for trace in traces]


async def test_what_was_sent_is_listed_filtered_sorted_and_paged(client: Client) -> None:
    sent = (
        question(1, user="ada", session="chat-1", latency_ms=3_000),
        question(2, user="ada", session="chat-1", latency_ms=1_000, failed=True),
        question(3, user="bob", session="chat-2", latency_ms=2_000),
    )
    everything = ",".join([await client.stack.export(*spans) for spans in sent])

    listed = (await client.run("traces", "list", "--json", "--wait-for", everything, "--wait-timeout", "20s")).json
    assert sorted(ids(listed["traces"])) == [1, 2, 3]
    assert listed["next_page_token"] == ""
    assert listed["freshness"]["complete_until"] is not None

    async def found(*options: str) -> list[int]:
        return ids((await client.run("traces", "list", "--json", "--sort", "latency", *options)).json["traces"])

    assert await found() == [1, 3, 2]
    assert await found("--asc") == [2, 3, 1]
    assert await found("--user", "ada") == [1, 2]
    assert await found("--user", "ada", "--user", "bob", "--session", "chat-2") == [3]
    assert await found("--has-error") == [2]
    assert await found("--no-error", "--min-latency", "2.5s") == [1]
    assert await found("--level", "error") == [2]
    assert await found("--contains", "OF B") == [3]
    assert await found("--env", "test", "--since", "10m") == [1, 3, 2]
    assert await found("--since", "1s") == []
    assert await found("--name", "question of bob", "--min-tokens", "120") == [3]
    assert await found("--min-tokens", "121") == []

    page = (await client.run("traces", "list", "--json", "--sort", "latency", "--limit", "2")).json
    assert ids(page["traces"]) == [1, 3]
    assert await found("--limit", "2", "--page-token", page["next_page_token"]) == [2]

    table = await client.run("traces", "list")
    assert table.code == 0
    assert "\x1b" not in table.out, "no colours without a terminal"
    assert "3 shown · complete up to " in table.out
    assert table.out.count("question of ada") == 2
    nobody = await client.run("traces", "list", "--user", "nobody")
    assert (nobody.code, nobody.out.splitlines()[0]) == (0, "no matching traces")


async def test_a_trace_is_drawn_with_its_tree_its_anatomy_and_nothing_hostile(client: Client) -> None:
    position = await client.stack.export(*question(7, user="ada", session="chat-1", latency_ms=2_000, failed=True))
    fresh = ("--wait-for", position, "--wait-timeout", "20s")

    shown = await client.run("traces", "get", f"{7:032x}", *fresh)
    assert shown.code == 0, shown.err
    for expected in (
        "4 spans",
        "100→20 tokens",
        "├─ search",
        "└─ answer",
        "gpt-4o-mini",
        "█ critical path",
        "no answer ␛[2J\\u202eevil",
        "where the time went  2.00 s",
        "█ retrieval 500 ms 25 %",
        "▓ generation 1.00 s 50 %",
        "▒ tool 500 ms 25 %",
    ):
        assert expected in shown.out
    assert shown.out.replace("\n", "").isprintable()
    assert (await client.run("traces", "get", "latest", "--content")).out.startswith(shown.out.splitlines()[0])

    document = (await client.run("traces", "get", "latest", "--json")).json
    assert [(span["name"], span["type"], span["level"]) for span in document["spans"]] == [
        ("question of ada", "agent", "default"),
        ("search", "retriever", "default"),
        ("look-up", "tool", "error"),
        ("answer", "generation", "default"),
    ]
    assert document["trace"]["anatomy"] == {
        "retrieval_us": 500_000, "generation_us": 1_000_000, "tool_us": 500_000, "other_us": 0, "idle_us": 0,
        "grain_us": 0,
    }  # fmt: skip


async def test_sessions_and_the_state_of_the_projections(client: Client) -> None:
    sent = (question(1, user="ada", session="chat-1"), question(2, user="ada", session="chat-1", failed=True))
    everything = ",".join([await client.stack.export(*spans) for spans in sent])
    fresh = ("--wait-for", everything, "--wait-timeout", "20s")

    sessions = (await client.run("sessions", "list", "--json", *fresh)).json["sessions"]
    assert [(each["session_id"], each["trace_count"], each["user_ids"]) for each in sessions] == [
        ("chat-1", 2, ["ada"])
    ]
    session = (await client.run("sessions", "get", "chat-1", "--json")).json
    assert ids(session["traces"]) == [1, 2]
    shown = await client.run("sessions", "get", "chat-1")
    assert shown.out.startswith("session chat-1\n  2 traces · ")

    async def caught_up() -> bool:
        return bool((await client.run("status", "--json")).json["freshness"]["lag_ms"] in (0, "0"))

    await until(caught_up, deadline=30, what="no lag")
    status = (await client.run("status", "--json")).json
    assert {each["topic"] for each in status["projections"]} == {topic.name for topic in TOPICS}
    assert status["dead_letters"] == 0
    assert status["problem"] is None
    assert "traces       lodestream.traces" in (await client.run("status")).out


async def test_the_tail_shows_traces_as_they_come_in(client: Client) -> None:
    tail = asyncio.create_task(client.run_in_a_process("traces", "tail", "--json", "--user", "ada", "--limit", "1"))
    number = 0
    while not tail.done():  # a trace a moment, so that one comes after the tail has begun
        number += 1
        await client.stack.export(
            *question(number, user="ada", session="chat"), *question(9_999, user="bob", session="chat")
        )
        await asyncio.wait([tail], timeout=0.5)
        assert number < 60
    ended = await tail
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["user_id"] == "ada"
    assert ended.out.count("\n") == 1


async def test_failures_end_with_1_and_mistakes_with_2(client: Client) -> None:
    unknown = await client.run_in_a_process("traces", "get", "f" * 32)
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("lodestream: ")
    assert unknown.err.count("\n") == 1
    assert (await client.run_in_a_process("sessions", "get", "nobody")).code == 1
    assert (await client.run_in_a_process("traces", "get", "latest")).err == "lodestream: there are no traces yet\n"
    stranger = await client.run_in_a_process("traces", "list", LODESTREAM_SECRET_KEY="sk-wrong")
    assert stranger.code == 1
    assert "refuses the key" in stranger.err
    assert (await client.run_in_a_process("traces", "list", "--page-token", "nonsense")).code == 2
    assert (await client.run_in_a_process("traces", "list", "--wait-for", "nonsense")).code == 2


async def test_projects_and_keys_are_managed_in_postgres(database: str, tmp_path: Path) -> None:
    async def admin(*words: str) -> Ran:
        return await CommandLine({"LODESTREAM_POSTGRES": database}).run("admin", *words)

    assert (await admin("projects", "create", "support", "--name", "Support")).out == "created project support\n"
    again = await admin("projects", "create", "support")
    assert (again.code, again.err) == (1, "lodestream: project 'support' already exists\n")
    projects = (await admin("projects", "list", "--json")).json["projects"]
    assert [(project["project_id"], project["name"]) for project in projects] == [("support", "Support")]

    nowhere = await admin("keys", "create", "elsewhere")
    assert nowhere.code == 1
    assert "there is no project 'elsewhere'" in nowhere.err
    key = (await admin("keys", "create", "support", "--json")).json
    exported = (await admin("keys", "create", "support")).out.splitlines()
    assert [line.partition("=")[0] for line in exported] == [
        "export LODESTREAM_PUBLIC_KEY",
        "export LODESTREAM_SECRET_KEY",
    ]

    assert (await admin("keys", "revoke", key["public_key"])).code == 0
    assert (await admin("keys", "revoke", key["public_key"])).code == 1
    known = (await admin("keys", "list", "support", "--json")).json["keys"]
    assert [bool(each["revoked_at"]) for each in known] == [True, False]
    table = (await admin("keys", "list")).out
    assert key["public_key"] in table
    assert key["secret_key"] not in table, "a secret is shown once"


async def test_what_projects_may_use_and_spend_is_managed_in_postgres(database: str) -> None:
    async def admin(*words: str) -> Ran:
        return await CommandLine({"LODESTREAM_POSTGRES": database}).run("admin", *words)

    await offer_providers(database, "mock")
    nowhere = await admin("caps", "set", "support", "--period", "day", "--usd", "5")
    assert (nowhere.code, "there is no project 'support'" in nowhere.err) == (1, True)
    await admin("projects", "create", "support")
    assert (await admin("providers", "grant", "support", "mock", "--model", "mock-small")).code == 0
    assert (await admin("providers", "list", "support", "--json")).json["providers"] == [
        {"provider": "mock", "kind": "mock", "models": ["mock-small"]}
    ]
    assert [(await admin("providers", "revoke", "support", "mock")).code for _ in range(2)] == [0, 1]

    capped = await admin("caps", "set", "support", "--period", "day", "--usd", "5", "--tokens", "1000")
    assert capped.out == "support may spend $5.00 in a day\n"
    assert (await admin("caps", "list", "--json")).json["caps"] == [
        {"project_id": "support", "period": "day", "spent_usd": 0, "max_usd": 5, "spent_tokens": 0, "max_tokens": 1000}
    ]
    assert "$5" in (await admin("caps", "list", "support")).out
    assert (await admin("caps", "set", "support", "--period", "year", "--usd", "5")).code == 2
    assert [(await admin("caps", "remove", "support", "--period", "day")).code for _ in range(2)] == [0, 1]
