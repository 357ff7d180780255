"""Processes killed at any moment: what they were told is durable is delivered by the next, and nothing is invented."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from lodestream._delivery.segment import find_frames

from sdk.tests.collector import Collector, refused, taken
from sdk.tests.polling import until
from sdk.tests.telling import Told, segments

LIVES = 10
REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from pathlib import Path
from sdk.tests.telling import Told

address, root, life, filler = sys.argv[1:]
told = Told(address, Path(root))
for number in range(1, 1_000_000):
    told.recorder.observe(f"{life}-{number}", "span", {"input": "x" * int(filler)}).end()
    if number % 20 == 0:
        while not told.pipeline.receipt().durable:
            time.sleep(0.0005)
        print(number, flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_durable_is_delivered(tmp_path: Path, collector: Collector, seed: int) -> None:
    chance, promised = random.Random(seed), set[str]()
    answers = [taken(), collector.lost, refused(grpc.StatusCode.UNAVAILABLE), collector.never]

    def answer(request, context):
        return chance.choice(answers)(request, context)

    collector.otherwise = answer
    emitted: dict[int, int] = {}
    for life in range(LIVES):
        arguments = [collector.address, str(tmp_path), str(life), str(chance.choice([10, 1000, 50_000]))]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        assert process.stdout is not None
        told = 0
        for _ in range(chance.randrange(1, 40)):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        emitted[life] = max([told, *map(int, rest.split())])
        promised |= {f"{life}-{number}" for number in range(1, emitted[life] + 1)}
    for segment in segments(tmp_path):
        assert find_frames(segment.read_bytes()).bad == []
    collector.otherwise = taken()
    last = Told(collector.address, tmp_path)
    last.tell("last")
    until(lambda: promised <= collector.delivered.keys(), deadline=30)
    until(lambda: segments(tmp_path) == [], deadline=30)
    assert last.pipeline.close(5).delivered == 1
    for name in collector.delivered.keys() - promised - {"last"}:
        life, number = map(int, name.split("-"))
        assert emitted[life] < number <= emitted[life] + 20
