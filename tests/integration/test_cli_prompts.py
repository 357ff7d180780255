"""Prompts on the command line, against real services: what was decided is what is shown."""

import json
from pathlib import Path

import pytest

from tests.integration.test_cli import HOSTILE
from tests.support.cli import CommandLine, typing_to
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def client(stack: Stack) -> CommandLine:
    return typing_to(stack)


async def test_the_life_of_a_prompt(client: CommandLine, tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("Answer {{question}}\nin full.\n")
    second.write_text("Answer {{question}}\nin one sentence.\n")

    created = await client.run("prompts", "create", "support", str(first), "--label", "production", "--tag", "help")
    assert (created.code, created.out) == (0, "created support version 1\n"), created.err
    made = await client.run("prompts", "create", "support", str(second), "-m", "shorter", "--json")
    assert made.json["version"] == 2

    shown = await client.run("prompts", "get", "support")
    assert "support version 1" in shown.out
    assert "    Answer {{question}}\n    in full.\n" in shown.out
    assert (
        await client.run("prompts", "get", "support", "2", "--raw")
    ).out == "Answer {{question}}\nin one sentence.\n"
    latest = (await client.run("prompts", "get", "support", "latest", "--json")).json
    assert (latest["version"], latest["commit_message"], latest["author"]) == (2, "shorter", "ada")

    compared = await client.run("prompts", "diff", "support")
    assert compared.code == 1
    assert "-in full.\n+in one sentence.\n" in compared.out
    assert (await client.run("prompts", "diff", "support", "2", "latest")).code == 0

    moved = await client.run("prompts", "label", "support", "2", "production")
    assert (moved.code, moved.out) == (0, "production now points to support version 2 (revision 3)\n")
    late = await client.run("prompts", "label", "support", "1", "production", "--expect-revision", "2")
    assert late.code == 1
    assert "revision" in late.err
    back = await client.run("prompts", "rollback", "support")
    assert (back.code, back.out) == (0, "production points to support version 1 again (revision 4)\n")

    history = (await client.run("prompts", "history", "support", "--label", "production", "--json")).json
    assert [(move["from_version"], move["to_version"], move["author"]) for move in history["moves"]] == [
        (2, 1, "ada"), (1, 2, "ada"), (0, 1, "ada"),
    ]  # fmt: skip
    assert [version["version"] for version in history["versions"]] == [2, 1]
    table = (await client.run("prompts", "history", "support")).out
    assert "shorter" in table
    listed = (await client.run("prompts", "list", "--label", "production")).out
    assert "production → 1" in listed

    assert (await client.run("prompts", "archive", "support")).code == 0
    gone = await client.run("prompts", "get", "support")
    assert gone.code == 1
    assert "support" in gone.err
    assert "no matching prompts" in (await client.run("prompts", "list")).out
    assert "archived" in (await client.run("prompts", "list", "--archived")).out


async def test_chat_prompts_and_what_they_hold(client: CommandLine, tmp_path: Path) -> None:
    messages = [{"role": "system", "content": f"Help. {HOSTILE}"}, {"type": "placeholder", "name": "history"}]
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(messages))
    words = ("prompts", "create", "chat", str(file), "--chat", "--config", '{"model": "m"}', "--label", "production")
    assert (await client.run(*words)).code == 0
    shown = (await client.run("prompts", "get", "chat")).out
    assert "\x1b" not in shown
    assert "[history]  messages go here" in shown
    assert '"model": "m"' in shown
    assert json.loads((await client.run("prompts", "get", "chat", "--raw")).out) == messages


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("get", "nothing"), 1, "nothing"),
        (("create", "p", "/no/such/file"), 2, "/no/such/file: No such file or directory"),
        (("create", "bad|name", "-"), 2, "name"),
        (("create", "p", "-", "--chat"), 2, "is not JSON"),
        (("create", "p", "-", "--config", "{"), 2, "--config: is not JSON"),
        (("label", "p", "1", "latest"), 2, "latest"),
        (("label", "nothing", "1", "production"), 1, "nothing"),
        (("rollback", "nothing"), 1, "nothing"),
    ],
)
async def test_mistakes_are_one_sentence(client: CommandLine, words: tuple[str, ...], code: int, said: str) -> None:
    ran = await client.run("prompts", *words)
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err
