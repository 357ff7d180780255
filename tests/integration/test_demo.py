"""The demo, end to end: all is started, the support assistant runs, and each of its traces can be read, whole."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.all_in_one import StartAllInOne
from tests.support.cli import CommandLine
from tests.support.polling import until

pytestmark = pytest.mark.timeout(300)

EXAMPLES = Path(__file__).parents[2] / "examples"

# The spans of each question, and the session's customer.
FIRST, LATER = ["support-question", "search", "answer"], ["support-question", "rewrite-question", "search", "answer"]
WITH_ORDER = ["support-question", "search", "look-up-order", "answer"]
QUESTIONS = {
    "How long does a refund take?": ("ada", FIRST),
    "And if I paid by invoice?": ("ada", LATER),
    "Where is my order 1042?": ("ben", WITH_ORDER),
    "Can I still change the delivery address?": ("ben", LATER),
    "My kettle stopped working after 14 months. Is that under warranty?": ("chen", FIRST),
    "Where is my order 9999? I want a refund!": ("dora", WITH_ORDER),
    "Do you ship to Norway?": ("dora", LATER),
}
STARS = {  # given to the last answer
    "And if I paid by invoice?": 5,
    "Can I still change the delivery address?": 4,
    "My kettle stopped working after 14 months. Is that under warranty?": 4,
    "Do you ship to Norway?": 2,
}
AFTER = set(list(QUESTIONS)[4:])  # the prompt was swapped
GOLD = 64  # questions that both versions of the prompt answer in the experiments
FAILED = "Where is my order 9999? I want a refund!"
SLOW = {"My kettle stopped working after 14 months. Is that under warranty?", "Do you ship to Norway?"}


async def lodestream(environment: dict[str, str], *words: str) -> Any:
    return (await CommandLine(environment).run(*words, "--json")).json


async def test_every_question_is_a_trace_that_can_be_read(all_in_one: StartAllInOne) -> None:
    acts = [EXAMPLES / "rag_support.py", EXAMPLES / "gold_dataset.py"]
    demo = await all_in_one(*(word for act in acts for word in ("--run", str(act))))
    await until(lambda: "gold_dataset.py ended" in demo.said(), deadline=240, what="the demo has run")
    said = demo.said()
    for act in acts:
        assert f"{act} ended with exit code 0" in said
    await check_experiments(demo.status()["environment"], said)
    environment = demo.status()["environment"]

    traces = (await lodestream(environment, "traces", "list", "--all", "--env", "demo"))["traces"]
    assert sorted(trace["input_preview"] for trace in traces) == sorted(QUESTIONS)
    for trace in traces:
        question = trace["input_preview"]
        customer, names = QUESTIONS[question]
        assert question in said
        assert trace["trace_id"] in said
        assert (trace["user_id"], trace["session_id"].split("-")[0], trace["environment"]) == (
            customer,
            customer,
            "demo",
        )

        spans = (await lodestream(environment, "traces", "get", trace["trace_id"]))["spans"]
        assert [span["name"] for span in spans] == names
        assert trace["span_count"] == len(names)
        check_totals(trace, spans)
        check_anatomy(trace, spans)
        assert trace["error_count"] == (question == FAILED)
        assert (trace["anatomy"]["retrieval_us"] > 400_000) == (question in SLOW)

        assert {score["name"]: score["average"] for score in trace["scores"]} == {
            "resolved": float(question != FAILED),
            **({"stars": STARS[question]} if question in STARS else {}),
        }
        (answered,) = (span for span in spans if span["name"] == "answer")
        assert (answered["prompt_name"], answered["prompt_version"]) == (
            "support-answer",
            2 if question in AFTER else 1,
        )

    assert "the assistant, which was not restarted, has version 2" in said
    history = await lodestream(environment, "prompts", "history", "support-answer", "--label", "production")
    assert [(move["from_version"], move["to_version"]) for move in history["moves"]] == [(1, 2), (0, 1)]
    metrics = (await lodestream(environment, "prompts", "metrics", "support-answer"))["versions"]
    assert [(version["version"], version["generations"]) for version in metrics] == [
        (2, len(AFTER) + GOLD),
        (1, 4 + GOLD),
    ]
    averages = [
        {score["name"]: score["average"] for score in version["scores"] if score["name"] in {"resolved", "stars"}}
        for version in metrics
    ]
    assert averages == [{"resolved": pytest.approx(2 / 3), "stars": 3.0}, {"resolved": 1.0, "stars": 4.5}]

    sessions = (await lodestream(environment, "sessions", "list"))["sessions"]
    assert sorted((session["user_ids"], session["trace_count"]) for session in sessions) == [
        (["ada"], 2),
        (["ben"], 2),
        (["chen"], 1),
        (["dora"], 2),
    ]
    assert await demo.end(signal.SIGINT) == 0


async def check_experiments(environment: dict[str, str], said: str) -> None:
    """Both versions answered every question once, though a worker was killed; the shorter one is found to be worse."""
    assert "$ kill -9 " in said
    assert "every item is there, once" in said
    assert "exit code 1: the shorter prompt may not go to production" in said
    runs = (await lodestream(environment, "experiments", "list"))["runs"]
    assert [(run["state"], run["items_finished"], run["items_failed"]) for run in runs] == [("completed", GOLD, 0)] * 2
    short, long = ({each["name"]: each for each in run["evaluations"]} for run in runs)
    assert short["correct"]["mean"] < long["correct"]["mean"]
    assert short["words"]["mean"] < long["words"]["mean"]
    traces = (await lodestream(environment, "traces", "list", "--all", "--env", "experiment"))["traces"]
    assert len(traces) == 2 * GOLD


def check_totals(trace: dict[str, Any], spans: list[dict[str, Any]]) -> None:
    """The summary adds up what its spans tell."""
    for kind in ("input", "output", "total"):
        assert trace["tokens"][kind] == sum(span["tokens"][kind] for span in spans if span["tokens"]) > 0
    assert trace["cost_usd"] == pytest.approx(sum(span["cost_usd"] for span in spans))
    assert trace["cost_usd"] > 0


def check_anatomy(trace: dict[str, Any], spans: list[dict[str, Any]]) -> None:
    """Nothing overlaps in these traces, so each kind is the sum of its spans, and all kinds are the whole latency."""
    for kind, span_type in (("retrieval", "retriever"), ("generation", "generation"), ("tool", "tool")):
        assert trace["anatomy"][f"{kind}_us"] == sum(span["duration_us"] for span in spans if span["type"] == span_type)
    assert sum(trace["anatomy"].values()) == trace["latency_us"]
    assert {span["name"] for span in spans if span["critical"]} >= {"support-question", "answer"}
