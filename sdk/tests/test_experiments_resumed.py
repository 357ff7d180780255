"""Experiments that stop: killed, interrupted, without their server. What was done is kept, only the rest is done."""

import asyncio
import json
import logging
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lodestream import ExperimentRefusedError, ExperimentStoppedError, ExperimentUnavailableError, Lodestream
from lodestream._experiments import runner, runs
from lodestream_proto.v1 import experiments_pb2 as pb

from sdk.tests.experiment_server import ExperimentServer, scores_in
from sdk.tests.polling import until
from sdk.tests.programs import Programs

ITEMS = 30


@pytest.fixture
def server() -> Iterator[ExperimentServer]:
    with ExperimentServer() as running_server:
        running_server.add("sums", *({"input": n, "expected_output": 2 * n} for n in range(ITEMS)))
        yield running_server


def client_of(server: ExperimentServer, spool: Path, **settings: Any) -> Lodestream:
    return Lodestream(endpoint=server.address, secret_key="sk", spool_dir=spool, **settings)


@pytest.fixture
def client(server: ExperimentServer, tmp_path: Path) -> Iterator[Lodestream]:
    made = client_of(server, tmp_path)
    yield made
    made.shutdown()


PROGRAM = """
import json, logging
logging.disable(logging.WARNING)
client = get_client()
repetitions = int(os.environ["REPETITIONS"])

def task(item, repetition):
    os.write(1, f"began {item.input}/{repetition}\\n".encode())  # whole, whichever threads write
    with client.start_as_current_observation(name="ask"):
        time.sleep(0.01)
    return item.input * 2

def correct(output, expected):
    return output == expected

def count(items):
    return len(items)

result = client.get_dataset("sums").run_experiment(
    name="doubling", run_name="nightly", task=task, evaluators=[correct], run_evaluators=[count],
    max_concurrency=4, repetitions=repetitions,
)
print("result " + json.dumps([[it.input, it.repetition, it.output, it.value("correct"), it.trace_id] for it in result]))
"""


def begun(lines: list[str]) -> list[str]:
    return [line.removeprefix("began ").strip() for line in lines if line.startswith("began ")]


def all_that_is_left(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it still printed, and complained of, until it ended; `communicate` would pass over what was read ahead."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        return process.stdout.read(), process.stderr.read()


def next_line(process: "subprocess.Popen[str]") -> str:
    """What a program printed; fails when it has ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return line


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_again_and_again_does_each_item_once(
    tmp_path: Path, server: ExperimentServer, seed: int
) -> None:
    chance, programs, repetitions = random.Random(seed), Programs(tmp_path, server.address), 2
    tried: Counter[str] = Counter()
    for _ in range(4):
        process = programs.start(PROGRAM, REPETITIONS=str(repetitions))
        lines = [next_line(process) for _ in range(chance.randrange(1, 16))]
        process.send_signal(signal.SIGKILL)
        rest, err = all_that_is_left(process)
        assert not err
        tried.update(begun([*lines, *rest.splitlines()]))
        if "result " in rest:
            break
    out = programs.run(PROGRAM, REPETITIONS=str(repetitions))
    tried.update(begun(out.splitlines()))
    (told,) = (line for line in out.splitlines() if line.startswith("result "))
    result = json.loads(told.removeprefix("result "))
    assert [item[:4] for item in result] == [[n, r, 2 * n, True] for r in range(repetitions) for n in range(ITEMS)]
    (run_id,) = server.runs
    finished = server.finished(run_id)
    assert len(finished) == ITEMS * repetitions
    assert sorted(item.trace_id.hex() for item in finished) == sorted(item[4] for item in result)
    assert server.run(run_id).state == pb.EXPERIMENT_STATE_COMPLETED
    assert [each.numeric for each in server.run(run_id).run_evaluations] == [ITEMS * repetitions]
    assert set(tried) == {f"{n}/{r}" for r in range(repetitions) for n in range(ITEMS)}
    roots = {span.trace_id.hex() for span in spans_named(server, "experiment-item")}
    assert roots == {item[4] for item in result}, "one trace an item, however often it was tried"
    assert sum(score.name == "correct" for score in scores_in(server)) == ITEMS * repetitions
    assert programs.left() == []


def spans_named(server: ExperimentServer, name: str) -> Iterator[Any]:
    for request in server.requests:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                yield from (span for span in scope.spans if span.name == name)


def test_what_a_killed_process_finished_and_did_not_deliver_is_not_done_again(
    tmp_path: Path, server: ExperimentServer
) -> None:
    programs = Programs(tmp_path, server.address)
    process = programs.start(
        PROGRAM.replace("return item.input * 2", "return item.input * 2 if item.input < 20 else time.sleep(600)"),
        REPETITIONS="1",
        LODESTREAM_FLUSH_INTERVAL="600",
    )
    seen: list[str] = []
    while sum(int(each.split("/")[0]) >= 20 for each in begun(seen)) < 4:
        seen.append(next_line(process))
    until(lambda: sum(path.read_bytes().count(b"correct") for path in programs.left()) >= 20 * 2)
    time.sleep(0.05)  # the writer gathers for 20 ms
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (run_id,) = server.runs
    assert server.finished(run_id) == []
    out = programs.run(PROGRAM, REPETITIONS="1")
    assert sorted(int(each.split("/")[0]) for each in begun(out.splitlines())) == list(range(20, ITEMS))
    assert len(server.finished(run_id)) == ITEMS


def test_ctrl_c_begins_no_item_any_more_and_keeps_those_under_way(tmp_path: Path, server: ExperimentServer) -> None:
    programs = Programs(tmp_path, server.address)
    slow = PROGRAM.replace("time.sleep(0.01)", "time.sleep(0.3)").replace("logging.disable(logging.WARNING)", "")
    process = programs.start(slow, REPETITIONS="1")
    lines = [next_line(process) for _ in range(6)]
    process.send_signal(signal.SIGINT)
    rest, err = all_that_is_left(process)
    assert process.returncode != 0
    tried = begun([*lines, *rest.splitlines()])
    (run_id,) = server.runs
    assert len(tried) == len(server.finished(run_id)) < ITEMS
    assert f"{len(tried)} of {ITEMS} items are done and kept; with run_name='nightly' it goes on" in err
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert server.run(run_id).state == pb.EXPERIMENT_STATE_RUNNING
    out = programs.run(PROGRAM, REPETITIONS="1")
    assert len(begun(out.splitlines())) == ITEMS - len(tried)


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path, server: ExperimentServer) -> None:
    programs = Programs(tmp_path, server.address)
    process = programs.start(PROGRAM.replace("time.sleep(0.01)", "time.sleep(600)"), REPETITIONS="1")
    next_line(process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=15)
    assert process.returncode != 0


def test_ctrl_c_that_another_thread_receives_is_not_lost(tmp_path: Path, server: ExperimentServer) -> None:
    """The kernel may hand a signal to any thread; the main thread sleeps on, and has to look by itself."""
    programs = Programs(tmp_path, server.address)
    interrupting = "signal.pthread_kill(threading.get_ident(), signal.SIGINT)"
    process = programs.start(PROGRAM.replace("time.sleep(0.01)", f"{interrupting}; time.sleep(0.3)"), REPETITIONS="1")
    process.communicate(timeout=30)
    assert process.returncode != 0
    (run_id,) = server.runs
    assert len(server.finished(run_id)) < ITEMS


# --- Under the same name ----------------------------------------------------------------------------------------------


def test_a_run_that_is_complete_is_given_as_it_is(
    server: ExperimentServer, client: Lodestream, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, ran = client.get_dataset("sums"), Counter[int]()

    def task(input: int) -> Any:
        ran[input] += 1
        if input == 3:
            raise ValueError("not three")
        return {"double": 2 * input}

    options: Any = {
        "run_name": "r", "task": task, "run_evaluators": [len],
        "evaluators": [lambda output: (0.5, "half"), {"kind": "exact_match"}],
    }  # fmt: skip
    first = dataset.run_experiment(name="e", **options)
    with caplog.at_level(logging.INFO, "lodestream"):
        again = dataset.run_experiment(name="e", **options)
    assert "run 'r' is complete; it is given as it is" in caplog.text
    assert set(ran.values()) == {1}
    assert again.run_id == first.run_id
    for one, other in zip(first, again, strict=True):
        assert (one.output, one.error, one.trace_id, one.input, one.item) == (
            other.output, other.error, other.trace_id, other.input, other.item,
        )  # fmt: skip
        assert [(each.name, each.evaluation, each.revision, each.score_id) for each in one.judgements] == [
            (each.name, each.evaluation, each.revision, each.score_id) for each in other.judgements
        ]
        assert other.latency == pytest.approx(one.latency, abs=1e-5)
    assert again.run_evaluations == first.run_evaluations
    assert len(server.finished(first.run_id)) == ITEMS


def test_without_a_name_it_is_another_run(client: Lodestream) -> None:
    one, two = (client.run_experiment(name="e", data=[{"input": 1}], task=lambda item: 1) for _ in range(2))
    assert one.run_id != two.run_id
    assert one.run_name.startswith("e - 20")


def test_another_run_of_that_name_is_refused_naming_what_differs(server: ExperimentServer, client: Lodestream) -> None:
    def run(count: int, *, name: str = "e", repetitions: int = 1) -> Any:
        data = [{"input": n} for n in range(count)]
        return client.run_experiment(name=name, run_name="r", data=data, task=lambda item: 1, repetitions=repetitions)

    run(2)
    with pytest.raises(
        ExperimentRefusedError, match=r"'r' is another run: its task is .*\"items\": 2.*, now .*\"items\": 3"
    ):
        run(3)
    with pytest.raises(ExperimentRefusedError, match="another run: its repetitions are 1, now 2"):
        run(2, repetitions=2)
    with pytest.raises(ExperimentRefusedError, match="another run"):
        run(2, name="other")


def test_a_run_that_was_ended_otherwise_is_refused(server: ExperimentServer, client: Lodestream) -> None:
    dataset = client.get_dataset("sums")
    result = dataset.run_experiment(name="e", run_name="r", task=lambda item: 1)
    run = server.runs[result.run_id]
    run.state, run.reason = pb.EXPERIMENT_STATE_CANCELLED, "too expensive"
    with pytest.raises(ExperimentRefusedError, match=r"'r' was cancelled \(too expensive\); to run it again"):
        dataset.run_experiment(name="e", run_name="r", task=lambda item: 1)


def interrupted(server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """A run of which five items are done; gives its id."""
    told: Any = {"run_name": "r", **options}
    experiment = runner.ExperimentRunner(client, "e", client.get_dataset("sums"), lambda item: 1, told)
    work = runner.run_item

    async def run_item(*arguments: Any) -> Any:
        result = await work(*arguments)
        done.append(1)
        if len(done) == 5:
            experiment.stop()
        return result

    done: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(runner, "run_item", run_item)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(experiment.result())
    client.flush()
    (run_id,) = server.runs
    assert len(server.finished(run_id)) == 5
    return run_id


def test_a_run_goes_on_over_the_version_it_began_with(
    server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = interrupted(server, client, monkeypatch, max_concurrency=1)
    server.add("sums", {"input": 1_000})
    dataset = client.get_dataset("sums")
    assert len(dataset) == ITEMS + 1
    with caplog.at_level(logging.WARNING, "lodestream"):
        result = dataset.run_experiment(name="e", run_name="r", task=lambda item: 1, max_concurrency=7)
    assert (result.run_id, len(result)) == (run_id, ITEMS)
    assert "goes on over version" in caplog.text
    assert "5 items were done before" in caplog.text
    with pytest.raises(ExperimentRefusedError, match="another one needs another name"):
        client.get_dataset("sums", version=dataset.version).run_experiment(name="e", run_name="r", task=lambda item: 1)


def test_a_run_that_was_paused_goes_on(
    server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = interrupted(server, client, monkeypatch, max_concurrency=1)
    server.runs[run_id].state = pb.EXPERIMENT_STATE_PAUSED
    result = client.get_dataset("sums").run_experiment(name="e", run_name="r", task=lambda item: 1)
    assert (len(result), server.asked["ResumeExperiment"]) == (ITEMS, 1)
    assert server.run(run_id).state == pb.EXPERIMENT_STATE_COMPLETED


# --- By somebody else -------------------------------------------------------------------------------------------------


def test_a_run_that_is_cancelled_meanwhile_begins_no_item_any_more(
    server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0.02)

    def task(input: int) -> int:
        if input == 4:
            (run,) = server.runs.values()
            run.state, run.reason = pb.EXPERIMENT_STATE_CANCELLED, "too expensive"
            assert taken.wait(15)
        return input

    def take(self: runs.RemoteRunState, found: pb.ExperimentRun) -> None:
        its_take(self, found)
        if found.state == pb.EXPERIMENT_STATE_CANCELLED:
            taken.set()

    taken, its_take = threading.Event(), runs.RemoteRunState._take
    monkeypatch.setattr(runs.RemoteRunState, "_take", take)
    with pytest.raises(ExperimentStoppedError, match=r"'r' was cancelled \(too expensive\): 5 of 30 items") as raised:
        client.get_dataset("sums").run_experiment(name="e", run_name="r", task=task, max_concurrency=1)
    assert [item.output for item in raised.value.result] == list(range(5))
    (run_id,) = server.runs
    assert len(server.finished(run_id)) == 5


def test_a_run_that_is_paused_meanwhile_waits(
    server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0.02)
    begun: list[int] = []

    def task(input: int) -> int:
        begun.append(input)
        if input == 4:
            set_state(pb.EXPERIMENT_STATE_PAUSED)
            until(lambda: "is paused; no item is begun" in caplog.text)
        return input

    def set_state(state: pb.ExperimentState.ValueType) -> None:
        (run,) = server.runs.values()
        run.state = state

    def resume() -> None:
        until(lambda: "is paused; no item is begun" in caplog.text)
        looked = server.asked["GetExperiment"]
        until(lambda: server.asked["GetExperiment"] > looked + 3)
        assert begun == list(range(5))
        set_state(pb.EXPERIMENT_STATE_RUNNING)

    with ThreadPoolExecutor(1) as pool:
        resuming = pool.submit(resume)
        result = client.get_dataset("sums").run_experiment(name="e", run_name="r", task=task, max_concurrency=1)
        resuming.result(20)
    assert (len(result), begun) == (ITEMS, list(range(ITEMS)))


# --- Without the server -----------------------------------------------------------------------------------------------


def test_a_server_that_goes_away_gets_all_of_it_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_DELIVERY_SECONDS", 0.5)
    going, gone = threading.Event(), threading.Event()

    def task(input: int) -> int:
        if input >= 3:
            going.set()
            gone.wait(30)
        return 2 * input

    with ExperimentServer() as server:
        client = client_of(server, tmp_path)

        def stop() -> None:
            going.wait(30)
            server._server.stop(None).wait()
            gone.set()

        stopping = threading.Thread(target=stop)
        stopping.start()
        with caplog.at_level(logging.WARNING, "lodestream"):
            result = client.run_experiment(
                name="e", run_name="r", data=[{"input": n} for n in range(10)], task=task, max_concurrency=1,
                evaluators=[lambda output: output % 4 == 0],
            )  # fmt: skip
        stopping.join()
    assert [item.output for item in result] == [2 * n for n in range(10)]
    assert result.mean("<lambda>") == 0.5
    assert (result.receipt.pending > 0, result.receipt.durable, result.receipt.complete) == (True, True, False)
    assert "records are on disk, and delivered as soon as it can be" in caplog.text
    assert "records are not delivered yet" in result.format()
    with ExperimentServer(int(server.address.rpartition(":")[2])) as back:
        assert client.flush(20).complete
        events = [event.WhichOneof("payload") for event in (*server.events, *back.events)]
        assert events[-1] == "experiment_finished"
        told = {it.item_id for it in (*server.finished(result.run_id), *back.finished(result.run_id))}
        assert told == {item.item_id for item in result}
        client.shutdown()


def test_what_can_not_be_delivered_before_going_on_is_told(
    server: ExperimentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runs, "_LEFT_SECONDS", 0.0)
    monkeypatch.setattr(runs, "_FLUSH_SECONDS", 0.1)
    client = client_of(server, tmp_path)
    client._pipeline.close(0)
    with caplog.at_level(logging.WARNING, "lodestream"):
        runs._deliver_what_was_left(client)
    assert "some items may be done again" in caplog.text


def test_a_run_whose_server_is_away_is_not_begun(tmp_path: Path) -> None:
    with ExperimentServer() as server:
        client = client_of(server, tmp_path)
    with pytest.raises(ExperimentUnavailableError):
        client.run_experiment(name="e", data=[{"input": 1}], task=lambda item: 1)
    client.shutdown()
