"""Is the shorter prompt as good? Both versions of it answer the same 64 questions, and the answers are compared.

    make up                                       # in another terminal
    .venv/bin/python examples/rag_support.py      # makes the prompt
    .venv/bin/python examples/gold_dataset.py

The questions of gold_answers.csv become a dataset, each with the articles that the assistant's retriever finds for it
and with what its answer must say. The evaluation worker runs each version of the prompt over it with the mock model.
While it runs the second one, a worker of our own joins in and is killed in the middle: its items are done by the other
one, and each is there once. Then the command line compares the two runs, writes a report, and judges for a CI server.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lodestream import Lodestream
from rag_support import (
    ARTICLES,
    COMMAND,
    ENDPOINT,
    PROMPT,
    RUN,
    SECRET_KEY,
    ask,
    environment,
    index,
    run,
    said,
    tokenize,
)

DATASET = "support-gold"
GOLD = Path(__file__).with_name("gold_answers.csv")
EVALUATORS = ["contains:name=correct", "length:name=words,unit=words"]
LATENCY_SECONDS, CONCURRENCY, KILLED_AFTER = 1.0, 4, 20


def main() -> None:
    """Make the dataset, run both versions, compare them. Exit code 1: something did not come to its end."""
    client = Lodestream(endpoint=ENDPOINT, secret_key=SECRET_KEY)
    if not (check := client.check_connection()).ok:
        sys.exit(check.message)
    make_dataset(client)
    long, short = (f"{PROMPT}.{version}.{RUN}" for version in (1, 2))
    run("experiments", "run", DATASET, *options_of(1), "--name", long)
    run_with_a_death(short)
    report = Path(tempfile.gettempdir()) / f"{short}.html"
    shorter = ["--lower-is-better", "words"]
    run("experiments", "compare", long, short, *shorter, "--segment-by", "topic", "--html", str(report))
    print(f"\nThe report is in {report}", flush=True)
    code = ask("experiments", "gate", short, "--baseline", long, "--metric", "correct")
    print(f"exit code {code}: {'the shorter prompt may not go to production' if code else 'it may go to production'}")
    print("\nMore to try:")
    for words in (
        ["experiments", "list"],
        ["experiments", "show", short, "--items"],
        ["datasets", "items", DATASET, "-n", "5"],
        ["datasets", "history", DATASET, "-n", "5"],
    ):
        print(f"  $ {COMMAND} {' '.join(words)}")


def make_dataset(client: Lodestream) -> None:
    """The questions, with what was found for them and what the answer must say. The same rows again change nothing."""
    client.create_dataset(
        DATASET,
        description="What customers ask, and what the answer must say.",
        input_schema={"type": "object", "required": ["question", "facts"]},
        expected_output_schema={"type": "string", "minLength": 1},
    )
    with GOLD.open(encoding="utf-8", newline="") as rows:
        recorded = client.create_dataset_items(
            DATASET,
            [
                {
                    "input": {"question": row["question"], "facts": facts_for(row["question"])},
                    "expected_output": row["must_say"],
                    "metadata": {"topic": row["topic"]},
                }
                for row in csv.DictReader(rows)
            ],
        )
    print(f"\n{len(recorded.item_ids)} questions are in the dataset {DATASET}, version {recorded.version}", flush=True)


def facts_for(question: str) -> list[dict[str, str]]:
    """The articles that fit best, as the assistant tells the model of them."""
    found, _ = index.retrieve(tokenize([question]), k=3, show_progress=False)
    return [dict(said("system", ARTICLES[number])) for number in found[0]]


def options_of(version: int) -> list[str]:
    """How a version of the prompt is run."""
    judged = [word for spec in EVALUATORS for word in ("--evaluator", spec)]
    model = ["--provider", "mock", "--model", "mock-large", "--set", f"latency_seconds={LATENCY_SECONDS}"]
    return ["--prompt", f"{PROMPT}:{version}", *model, *judged, "--concurrency", str(CONCURRENCY)]


def run_with_a_death(name: str) -> None:
    """Run the second version with one worker more, which dies in the middle of it."""
    with second_worker() as worker:
        run("experiments", "run", DATASET, *options_of(2), "--name", name, "--detach")
        watching = subprocess.Popen(  # noqa: S603
            [COMMAND, "experiments", "watch", name, "--json"], stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert watching.stdout is not None
        last: dict[str, Any] = {}
        for line in watching.stdout:
            last = json.loads(line)
            finished, total = last["items_finished"], last["items_total"]
            print(f"\r  {finished} of {total} items", end="", flush=True)
            if finished >= KILLED_AFTER and worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                print(f"\n$ kill -9 {worker.pid}    # the second worker; what it had begun waits for its lease to end")
        if watching.wait() or last["items_finished"] != last["items_total"]:
            sys.exit(f"\nthe run has not come to its end: {last.get('reason')}")
        print("\nevery item is there, once", flush=True)


@contextmanager
def second_worker() -> Iterator[subprocess.Popen[bytes]]:
    """One more evaluation worker on this machine, as a platform team would add one while a run goes on."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "services.write.evaluator"]
        worker = subprocess.Popen(  # noqa: S603
            command, stdout=log, stderr=log, env={**os.environ, "LODESTREAM_METRICS_PORT": "0"}
        )
        print(f"\n$ python -m services.write.evaluator &    # process {worker.pid}", flush=True)
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    main()
