"""Processes that fork: each observation is delivered by the process it belongs to, and a fork is not held up."""

import textwrap
from pathlib import Path

import grpc
import pytest

from sdk.tests.collector import Collector, refused, spans_of, taken
from sdk.tests.polling import until
from sdk.tests.programs import PREAMBLE, Programs


def test_a_child_begins_anew_and_delivers_its_own(programs: Programs, collector: Collector) -> None:
    programs.run(
        """
        for _ in range(50): work("parent before")
        get_client().flush()
        for _ in range(50): work("parent before")
        pid = os.fork()
        if pid == 0:
            work("child")
            assert get_client().flush().complete
            os._exit(0)
        work("parent after")
        assert os.waitpid(pid, 0)[1] == 0
        receipt = get_client().flush()
        assert (receipt.delivered, receipt.pending, receipt.dropped) == (101, 0, 0), receipt
        """
    )
    assert collector.kept == {"parent before": 100, "child": 1, "parent after": 1}
    assert collector.delivered.total() == 102
    assert programs.left() == []


def test_what_was_open_at_the_fork_is_the_parent_s(programs: Programs, collector: Collector) -> None:
    """The child's observations are its children, the child does not end it."""
    programs.run(
        """
        with get_client().start_as_current_observation(name="request"):
            pid = os.fork()
            if pid == 0:
                work("child")
        if pid == 0:
            get_client().flush()
            os._exit(0)
        os.waitpid(pid, 0)
        """
    )
    assert collector.kept == {"request": 1, "child": 1}
    assert collector.delivered.total() == 2
    spans = {span.name: span for request in collector.requests for span in spans_of(request)}
    assert spans["child"].parent_span_id == spans["request"].span_id


def test_children_have_children(programs: Programs, collector: Collector) -> None:
    programs.run(
        """
        def descend(depth):
            work(f"before {depth}")
            pid = os.fork() if depth else None
            if pid == 0:
                try:
                    descend(depth - 1)
                    code = 0
                finally:
                    os._exit(code)
            work(f"after {depth}")
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
            assert get_client().flush().complete
        code = 1
        descend(4)
        """
    )
    assert collector.kept == {f"{when} {depth}": 1 for when in ("before", "after") for depth in range(5)}
    assert collector.delivered.total() == 10


FORKS_AMID_BUSY_THREADS = """
def busy():
    for _ in range(300): work("thread")
threads = [threading.Thread(target=busy) for _ in range(4)]
for thread in threads: thread.start()
pids = []
for number in range(12):
    pid = os.fork()
    if pid == 0:
        for _ in range(10): work("child")
        get_client().flush()
        durable()
        os._exit(0)
    pids.append(pid)
    time.sleep(0.005)
codes = [os.waitpid(pid, 0)[1] for pid in pids]
for thread in threads: thread.join()
assert codes == [0] * 12, codes
"""


@pytest.mark.parametrize("support", ["", "0", "1"])
def test_forks_amid_busy_threads(programs: Programs, collector: Collector, support: str) -> None:
    environment = {"GRPC_ENABLE_FORK_SUPPORT": support} if support else {}
    with programs.start(FORKS_AMID_BUSY_THREADS, **environment) as process:
        _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert collector.kept["child"] > 60  # on a machine that is starved a fork may not get its second
    programs.deliver_left()
    assert collector.kept == {"thread": 1200, "child": 120, "next": 1}


GRPC_OF_THE_HOST = """
import grpc
theirs = grpc.insecure_channel(os.environ["LODESTREAM_ENDPOINT"])
grpc.channel_ready_future(theirs).result()
work("parent")
assert get_client().flush().complete
"""


@pytest.mark.parametrize("support", ["0", "1"])
def test_a_child_in_which_grpc_may_hang_or_abort_has_others_deliver_while_it_lives(
    programs: Programs, collector: Collector, support: str
) -> None:
    """The host has channels open, so that gRPC runs on when ours are closed."""
    with programs.start(
        GRPC_OF_THE_HOST
        + textwrap.dedent(
            """
            pid = os.fork()
            if pid:
                sys.exit(os.waitpid(pid, 0)[1])
            work("child")
            receipt = get_client().flush(0.3)
            print((receipt.pending, receipt.durable) == (1, True) and "forked" in receipt.problem, flush=True)
            sys.stdin.readline()
            os._exit(0)
            """
        ),
        GRPC_ENABLE_FORK_SUPPORT=support,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        programs.deliver_left()
        assert collector.kept == {"parent": 1, "child": 1, "next": 1}
        _, err = process.communicate("\n", timeout=30)
    assert process.returncode == 0
    assert "left to other processes" in err


def test_forks_while_requests_are_under_way_interrupt_them_and_nothing_is_lost(
    programs: Programs, collector: Collector
) -> None:
    """A server that takes 50 ms for each request has one under way at every fork."""

    def slowly(request, context):
        collector.gone.wait(0.05)
        return taken()(request, context)

    collector.otherwise = slowly
    program = (
        FORKS_AMID_BUSY_THREADS + "receipt = get_client().flush(30)\n"
        "assert (receipt.delivered, receipt.problem) == (1200, ''), receipt"
    )
    with programs.start(program, LODESTREAM_FLUSH_INTERVAL="0.01") as process:
        _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    programs.deliver_left()
    assert collector.kept == {"thread": 1200, "child": 120, "next": 1}


def test_a_server_that_hangs_does_not_hold_up_a_fork(programs: Programs, collector: Collector) -> None:
    """The promise: some milliseconds, and never more than a second."""
    collector.otherwise = collector.never
    with programs.start(
        """
        work("parent")
        sys.stdin.readline()
        longest, children = 0.0, []
        for number in range(20):
            begun = time.monotonic()
            pid = os.fork()
            if pid == 0:
                work(f"child {number}")
                durable()
                os._exit(0)
            longest = max(longest, time.monotonic() - begun)
            children.append(pid)
            time.sleep(0.05)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        print(longest, flush=True)
        sys.stdin.readline()
        assert get_client().flush(30).complete
        """,
        LODESTREAM_FLUSH_INTERVAL="0.01",
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        until(lambda: collector.requests, what="the first request hangs")
        child.stdin.write("\n")
        child.stdin.flush()
        assert float(child.stdout.readline()) < 1.0
        collector.otherwise = taken()
        _, err = child.communicate("\n", timeout=60)
    assert (child.returncode, err) == (0, "")
    programs.deliver_left()
    assert collector.kept == {"parent": 1, "next": 1, **{f"child {number}": 1 for number in range(20)}}


def test_a_fork_while_grpc_is_being_imported_waits_for_it(programs: Programs, collector: Collector) -> None:
    """The import is begun by the exporter's thread, and would never end in a child."""
    programs.run(
        """
        work("parent")
        end = time.monotonic() + 20
        while "grpc" not in sys.modules and time.monotonic() < end:
            time.sleep(0.0002)
        assert "grpc._channel" not in sys.modules or not hasattr(sys.modules["grpc"], "aio")
        pid = os.fork()
        if pid == 0:
            work("child")
            os._exit(0 if get_client().flush().complete else 1)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        LODESTREAM_FLUSH_INTERVAL="0.01",
    )
    assert collector.kept == {"parent": 1, "child": 1}


def test_a_child_of_a_fork_that_could_not_wait_leaves_its_spans_to_others(
    programs: Programs, collector: Collector
) -> None:
    """A signal handler forks in the very thread that is within gRPC: nobody can leave it."""
    collector.otherwise = collector.never
    program = """
        pids = []
        def fork(*_):
            begun = time.monotonic()
            pids.append(os.fork())
            if pids[0] == 0:
                work("child")
                receipt = get_client().flush(1)
                code = 0 if (receipt.pending, receipt.durable) == (1, True) and "forked" in receipt.problem else 1
                assert not get_client().check_connection().ok
                os._exit(code)
            assert time.monotonic() - begun < 1.5
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        assert not get_client().check_connection(2.5).ok
        assert os.waitpid(pids[0], 0)[1] == 0
        """
    with programs.start(program) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "left to other processes" in err
    assert programs.left()
    collector.otherwise = taken()
    programs.deliver_left()
    assert collector.kept == {"next": 1, "child": 1}


def test_a_fork_during_a_pause_after_failures_leaves_the_parent_s_state_alone(
    programs: Programs, collector: Collector
) -> None:
    collector.otherwise = refused(grpc.StatusCode.UNAVAILABLE)
    with programs.start(
        """
        work("parent")
        while not get_client().receipt.problem: time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            assert get_client().receipt.problem == ""
            work("child")
            durable()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(flush=True)
        sys.stdin.readline()
        assert get_client().flush(30).delivered == 1
        """
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        collector.otherwise = taken()
        _, err = child.communicate("\n", timeout=60)
    assert (child.returncode, err) == (0, "")
    programs.deliver_left()
    assert collector.kept == {"parent": 1, "child": 1, "next": 1}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(tmp_path: Path, programs: Programs, collector: Collector, method: str) -> None:
    (tmp_path / "tasks.py").write_text(PREAMBLE + "\ndef task(number):\n    work('task')\n    return number\n")
    programs.run(
        f"""
        import multiprocessing, tasks
        if __name__ == "__main__":
            work("main")
            with multiprocessing.get_context("{method}").Pool(3) as pool:
                assert pool.map(tasks.task, range(60)) == list(range(60))
                pool.close()
                pool.join()
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert collector.kept == {"main": 1, "task": 60}
