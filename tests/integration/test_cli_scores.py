"""Scores on the command line, against real services: what is judged there is found there."""

import pytest

from tests.integration.test_cli import HOSTILE, question
from tests.support.cli import CommandLine, typing_to
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(180)
ONE, TWO = f"{1:032x}", f"{2:032x}"


@pytest.fixture
def client(stack: Stack) -> CommandLine:
    return typing_to(stack)


async def test_what_is_judged_is_found(client: CommandLine, stack: Stack) -> None:
    spans = await stack.export(*question(1, user="ada", session="s1"), *question(2, user="ben", session="s2"))
    positions = [spans]
    for words in (
        ("helpful", "0.9", "--trace", ONE, "--comment", f"polite {HOSTILE}"),
        ("helpful", "0.2", "--trace", TWO, "--id", "feedback-2"),
        ("tone", "kind", "--trace", ONE, "--span", f"{4:016x}"),
        ("resolved", "true", "--session", "s1"),
    ):
        given = await client.run("scores", "add", *words, "--json")
        positions.append(given.json["position"])
    everything = ("--wait-for", ",".join(positions))

    good = await client.run("traces", "list", "--score", "helpful>=0.5", "--json", *everything)
    assert [trace["trace_id"] for trace in good.json["traces"]] == [ONE]
    kind = (await client.run("traces", "list", "--score", "tone=kind", "--json")).json["traces"]
    assert [trace["trace_id"] for trace in kind] == [ONE]
    worst = (await client.run("traces", "list", "--sort-score", "helpful", "--asc", "--json")).json["traces"]
    assert [trace["trace_id"] for trace in worst] == [TWO, ONE]
    table = (await client.run("traces", "list")).out.splitlines()
    assert "helpful" in table[0]
    assert any("0.9" in line and ONE in line for line in table)

    shown = (await client.run("traces", "get", ONE)).out
    assert "\x1b" not in shown
    assert "helpful  0.9    the trace" in shown
    assert "tone     kind" in shown

    listed = (await client.run("scores", "list", "--json")).json["scores"]
    assert sorted(score["name"] for score in listed) == ["helpful", "helpful", "resolved", "tone"]
    assert "session s1" in (await client.run("scores", "list", "--session", "s1")).out
    stats = (await client.run("scores", "stats", "--name", "helpful", "--json")).json["groups"]
    assert [(group["count"], round(group["average"], 3)) for group in stats] == [(2, 0.55)]
    assert "0.55" in (await client.run("scores", "stats")).out


async def test_a_judgement_that_changes(client: CommandLine) -> None:
    await client.run("scores", "add", "helpful", "0.2", "--trace", ONE, "--id", "f", "--json")
    again = (await client.run("scores", "add", "helpful", "0.7", "--trace", ONE, "--id", "f", "--json")).json
    history = await client.run("scores", "history", "f", "--json", "--wait-for", again["position"])
    assert [(score["value"]["numeric"], score["superseded"]) for score in history.json["scores"]] == [
        (0.7, False),
        (0.2, True),
    ]
    gone = await client.run("scores", "retract", "f", "--trace", ONE, "--reason", "mistaken", "--json")
    assert "no matching scores" in (await client.run("scores", "list", "--wait-for", gone.json["position"])).out
    assert "retracted: mistaken" in (await client.run("scores", "history", "f")).out


async def test_configs_are_kept_to(client: CommandLine) -> None:
    assert (await client.run("scores", "configs", "define", "stars", "stars", "--min", "1", "--max", "5")).code == 0
    assert "1 … 5" in (await client.run("scores", "configs", "list")).out
    assert (await client.run("scores", "add", "stars", "4", "--trace", ONE, "--config", "stars")).code == 0
    refused = await client.run("scores", "add", "stars", "9", "--trace", ONE, "--config", "stars")
    assert refused.code == 2
    assert "stars" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "helpful", "1"), "--trace"),
        (("add", "helpful", "1", "--trace", ONE, "--session", "s"), "--trace"),
        (("add", "helpful", "1", "--session", "s", "--span", f"{4:016x}"), "--span"),
        (("add", "helpful", "nan", "--trace", ONE), "value"),
        (("add", "helpful", "much", "--type", "numeric", "--trace", ONE), "'much' is not numeric"),
        (("configs", "define", "c", "c", "--category", "kind"), "LABEL=VALUE"),
    ],
)
async def test_mistakes_are_one_sentence(client: CommandLine, words: tuple[str, ...], said: str) -> None:
    ran = await client.run("scores", *words)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


async def test_a_score_that_makes_no_sense_in_a_filter(client: CommandLine) -> None:
    ran = await client.run("traces", "list", "--score", "helpful>=much")
    assert ran.code == 2
    assert "'much' in 'helpful>=much' is not a number" in ran.err.replace("\n", " ")
