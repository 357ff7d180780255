"""Runs on the command line, from a file to a gate, on the real stack: figures, verdicts and exit codes."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.experiments_pb2 import StartExperimentRequest

from shared.event_log.topics import EXPERIMENTS
from tests.conftest import _fresh_database, _stack, _starting
from tests.support.cli import CommandLine, Ran, typing_to
from tests.support.evaluating import MODULE, QUICK
from tests.support.polling import until
from tests.support.read_model import begin_at_the_end
from tests.support.servers import Servers
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(300)

ITEMS = 40
RIGHT = "A return takes 14 days.\n\nShipping takes 2 days."
WRONG = "A return takes 14 days.\n\nShipping takes 9 days."
MODEL = ("--provider", "mock", "--model", "mock-large", "--set", "seed=1")
JUDGES = ("--evaluator", "contains:name=right,ignore_case=true", "--evaluator", "length:name=long",
          "--run-evaluator", "pass_rate:of=right")  # fmt: skip


@pytest.fixture(scope="module")
async def worked(ground, servers: Servers, template: str) -> AsyncIterator[Stack]:
    """A stack with a worker."""
    async with (
        _fresh_database(servers, template) as dsn,
        _starting(ground, servers) as start,
        _stack(servers, dsn, start) as its,
    ):
        await begin_at_the_end(servers.kafka, dsn, "evaluator", EXPERIMENTS)
        await start(MODULE, **QUICK, LODESTREAM_POSTGRES=dsn, LODESTREAM_EVALUATOR_GROUP=dsn.rpartition("/")[2])
        yield its


@pytest.fixture
def client(worked: Stack) -> CommandLine:
    return typing_to(worked)


@pytest.fixture(scope="module")
async def compared(worked: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Two runs over one dataset; the second one's prompt is wrong about shipping. What the commands said."""
    client, folder = typing_to(worked), tmp_path_factory.mktemp("experiments")
    rows = [
        {"id": f"q-{n:02}", "topic": ("return", "shipping")[n % 2], "expected": ("14 days", "2 days")[n % 2],
         "question": f"How many days does {('a return', 'shipping')[n % 2]} take? ({n})"}
        for n in range(ITEMS)
    ]  # fmt: skip
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--input", "question", "--expected", "expected", "--metadata", "topic", "--id", "id", "--create")
    said = {"import": await client.run("datasets", "import", "questions", str(folder / "questions.jsonl"), *words)}
    for number, knowledge in enumerate((RIGHT, WRONG), start=1):
        messages = [{"role": "system", "content": knowledge}, {"role": "user", "content": "{{question}}"}]
        (folder / "prompt.json").write_text(json.dumps(messages))
        made = await client.run(
            "prompts", "create", "answer", str(folder / "prompt.json"), "--chat", "--label", "production"
        )
        assert made.code == 0, made.err
        name = ("--name", f"answer.{number}")
        files = ("--html", str(folder / "one.html"), "--markdown", str(folder / "one.md")) if number == 2 else ()
        said[f"run {number}"] = await client.run(
            "experiments", "run", "questions", "--prompt", f"answer:{number}", *MODEL, *JUDGES, *name, *files
        )
    said["files"] = Ran(0, (folder / "one.html").read_text(), (folder / "one.md").read_text())
    return said


async def test_a_run_is_watched_to_its_end_and_reported(compared: dict[str, Ran]) -> None:
    first, second = compared["run 1"], compared["run 2"]
    assert (first.code, second.code) == (0, 0), second.err
    assert "started answer.1 (run " in first.err
    for said in (
        "answer.1  completed  40 of 40 items",
        "questions version 41",
        "answer version 1 with mock mock-large",
    ):
        assert said in first.out
    assert "right 100.0 %" in first.out
    assert "right 50.0 %" in second.out
    assert "checks not passed (20)" in second.out
    assert "topic = shipping" in second.out
    assert "<h1>answer.2</h1>" in compared["files"].out
    assert "| right | 50.0 % |" in compared["files"].err


async def test_runs_are_listed_and_shown_by_name_id_and_beginning(
    client: CommandLine, compared: dict[str, Ran]
) -> None:
    listed = (await client.run("experiments", "list", "--dataset", "questions", "--json")).json["runs"]
    assert [run["request"]["name"] for run in listed][-2:] == ["answer.2", "answer.1"]
    run_id = listed[-1]["request"]["run_id"]
    table = (await client.run("experiments", "list", "--state", "completed")).out
    assert "answer.2" in table
    assert "50.0 %" in table
    for named in ("answer.1", run_id, run_id[:12]):
        shown = await client.run("experiments", "show", named, "--json")
        assert shown.json["run"]["run_id"] == run_id
        assert {its["name"]: its["mean"] for its in shown.json["run"]["metrics"]}["right"] == 1.0
    items = await client.run("experiments", "show", "answer.2", "--items", "-n", "3")
    assert "3 of 40 shown" in items.out
    assert "no matching items" in (await client.run("experiments", "show", "answer.2", "--failed")).out
    ambiguous = await client.run("experiments", "show", "answer.")
    assert ambiguous.code == 2
    assert "it matches questions/answer." in ambiguous.err
    assert (await client.run("experiments", "show", "nothing")).code == 1


async def test_a_loss_is_seen_with_its_items(client: CommandLine, compared: dict[str, Ran], tmp_path: Path) -> None:
    page = tmp_path / "compared.html"
    said = await client.run("experiments", "compare", "answer.1", "answer.2", "--html", str(page), "--json")
    (comparison,) = said.json["comparisons"]
    verdicts = {its["metric"]: its["verdict"] for its in comparison["metrics"]}
    assert verdicts["right"] == "worse"
    assert len(comparison["regressed"]) == ITEMS // 2
    lost = comparison["regressed"][0]
    assert ("2 days" in lost["baseline"]["output"], "9 days" in lost["run"]["output"]) == (True, True)
    assert lost["baseline"]["trace_id"] != lost["run"]["trace_id"]
    assert (await client.run("traces", "get", lost["run"]["trace_id"], "--json")).json["trace"]["name"] == "answer.2"
    assert "Got worse: 20 items" in page.read_text()
    text = (await client.run("experiments", "compare", "answer.1", "answer.2", "--metric", "right")).out
    for part in (
        "100.0 %",
        "50.0 %",
        "-50.0 pp",
        "worse",
        "got worse (20)",
        "Shipping takes 9 days.",
        "topic = shipping",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("answer.2", "--baseline", "answer.1"), 1, "it got worse: 100.0 % to 50.0 %"),
        (("answer.1", "--baseline", "answer.2"), 0, "it got better: 50.0 % to 100.0 %"),
        (("answer.2", "--metric", "right:min=0.6"), 1, "50.0 % is below the 60.0 % that it must reach"),
        (("answer.2", "--metric", "right:min=50%"), 0, "50.0 % is at least 50.0 %"),
        (("answer.2", "--baseline", "answer.1", "--metric", "long"), 0, "against the baseline"),
        (("answer.1", "--baseline", "answer.2", "--metric", "right", "--min-pairs", "41"), 2, "41 are needed"),
        (("answer.1", "--baseline", "answer.2", "--metric", "tone"), 2, "tone"),
        (("answer.1",), 2, "there is neither a baseline nor a threshold"),
        (("answer.1", "--baseline", "answer.1"), 2, "can't be compared with itself"),
        (("answer.1", "--baseline", "nothing"), 2, "there is no run 'nothing'"),
        (("nothing", "--metric", "right:min=1"), 2, "there is no run 'nothing'"),
    ],
)  # fmt: skip
async def test_a_gate_ends_with_what_it_found(
    client: CommandLine, compared: dict[str, Ran], words: tuple[str, ...], code: int, said: str
) -> None:
    ran = await client.run("experiments", "gate", *words)
    assert ran.code == code, ran.out + ran.err
    assert said in " ".join((ran.out + ran.err).split())


async def test_a_gate_writes_what_ci_shows(client: CommandLine, compared: dict[str, Ran], tmp_path: Path) -> None:
    markdown, junit = tmp_path / "gate.md", tmp_path / "gate.xml"
    words = (
        "--baseline",
        "answer.1",
        "--max-regression",
        "right=2%",
        "--markdown",
        str(markdown),
        "--junit",
        str(junit),
    )
    ran = await client.run("experiments", "gate", "answer.2", *words, "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["gate"]["outcome"] == "failed"
    assert "**The gate failed: right against the baseline.**" in markdown.read_text()
    root = ET.fromstring(junit.read_text())
    assert (root.attrib["failures"], root.attrib["errors"]) == ("1", "0")


async def test_a_run_can_be_paused_resumed_and_cancelled_and_is_no_ground_for_a_verdict(
    client: CommandLine, compared: dict[str, Ran]
) -> None:
    slow = ("--set", "latency_seconds=0.5", "--concurrency", "1", "--name", "slow", "--detach")
    started = await client.run(
        "experiments", "run", "questions@41", "--prompt", "answer:1", *MODEL, *JUDGES, *slow, "--json"
    )
    assert started.json["created"]
    again = await client.run(
        "experiments", "run", "questions@41", "--prompt", "answer:1", *MODEL, *JUDGES, *slow, "--json"
    )
    assert (again.json["created"], again.json["run_id"]) == (False, started.json["run_id"])
    other = await client.run("experiments", "run", "questions@41", "--prompt", "answer:2", *MODEL, *JUDGES, *slow)
    assert other.code == 1
    assert "task_json" in other.err
    assert "paused" in (await client.run("experiments", "pause", "slow")).out
    judged = await client.run("experiments", "gate", "slow", "--baseline", "answer.1")
    assert judged.code == 2
    assert "is paused" in judged.out
    assert (await client.run("experiments", "resume", "slow", "--json")).json["state"] == "running"
    cancelled = await client.run("experiments", "cancel", "slow", "--reason", "enough", "--json")
    assert cancelled.json["state"] == "cancelled"
    assert (await client.run("experiments", "pause", "slow")).code == 1
    watched = await client.run("experiments", "watch", "slow")
    assert watched.code == 1
    assert "cancelled (enough)" in watched.out


async def test_ctrl_c_stops_watching_and_not_the_run(
    client: CommandLine, worked: Stack, compared: dict[str, Ran]
) -> None:
    words = ("experiments", "run", "questions", "--prompt", "answer:1", *MODEL, "--set", "latency_seconds=1",
             "--concurrency", "1", "--name", "left alone")  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.edge.cli", *words, env={**_plain(), **client.environment},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stderr
        assert b"started left alone" in await asyncio.wait_for(child.stderr.readline(), 60)

        async def items_come_in() -> int:
            listed = (await client.run("experiments", "list", "--contains", "left", "--json")).json
            return int(listed["runs"][0]["items_finished"])

        await until(items_come_in, deadline=60)
        child.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(child.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    assert child.returncode == 1
    assert "stopped watching; the run continues" in err.decode()
    assert "experiments cancel" in err.decode()
    assert (await client.run("experiments", "cancel", "left alone", "--json")).json["state"] == "cancelled"


async def test_what_an_evaluator_can_not_be_is_said_before_anything_starts(client: CommandLine) -> None:
    words = ("experiments", "run", "questions", "--prompt", "answer", *MODEL)
    wrong = await client.run(*words, "--evaluator", "contians:value=1")
    assert wrong.code == 2
    assert "contians" in wrong.err
    unknown = await client.run(*words, "--evaluator", "contains:valeu=1")
    assert unknown.code == 2
    assert "do you mean value?" in unknown.err
    missing = await client.run("experiments", "run", "nothing", "--prompt", "answer", *MODEL)
    assert missing.code == 1
    assert "nothing" in missing.err


async def test_the_word_of_a_program_is_taken_too(worked: Stack, client: CommandLine) -> None:
    """A run that no worker runs is listed and shown, though its dataset is nobody's."""
    asked = ExperimentRequested(name="of a program", task_json='{"kind": "sdk"}')
    await worked.experiments.StartExperiment(
        StartExperimentRequest(experiment=asked), metadata=worked.metadata(), timeout=20
    )
    shown = await client.run("experiments", "show", "of a program")
    assert "of a program  running  0 items" in shown.out
    assert "a program's own" in shown.out


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LODESTREAM_")}
