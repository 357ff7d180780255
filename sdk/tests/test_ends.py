"""Processes that end, in every way there is: what they told is delivered by themselves or by the next."""

import signal
import socket
import time
from pathlib import Path

import pytest

from sdk.tests.collector import Collector
from sdk.tests.polling import until
from sdk.tests.programs import Programs


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(0)",
        "threading.Thread(target=sys.exit).start()",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); os.kill(os.getpid(), signal.SIGTERM)",
        "get_client().shutdown(); get_client().shutdown()",
    ],
)
def test_a_program_that_ends_without_flushing_has_delivered(programs: Programs, collector: Collector, end: str) -> None:
    programs.run(f"for _ in range(100): work('a')\n{end}")
    assert collector.kept == {"a": 100}
    assert programs.left() == []


def test_a_program_that_fails_has_delivered(programs: Programs, collector: Collector) -> None:
    with programs.start("work('a')\nraise RuntimeError('mine')") as child:
        _, err = child.communicate(timeout=30)
    assert "RuntimeError: mine" in err
    assert collector.kept == {"a": 1}


def test_what_other_functions_at_exit_tell_is_delivered_too(programs: Programs, collector: Collector) -> None:
    """Functions that were registered after ours run before it."""
    programs.run("import atexit\natexit.register(lambda: work('at exit'))\nwork('a')")
    assert collector.kept == {"a": 1, "at exit": 1}


def test_what_is_told_after_our_end_neither_hangs_nor_shows(programs: Programs, collector: Collector) -> None:
    programs.run(
        """
        class Late:
            def __del__(self): work("finalised at the very end")
        late = Late()
        work("a")
        """
    )
    assert collector.kept.keys() - {"finalised at the very end"} == {"a"}


def test_daemon_threads_may_go_on_tracing_at_the_end(programs: Programs, collector: Collector) -> None:
    """What ended before the main thread did is not lost; the end does not wait for those who never stop."""
    programs.run(
        """
        begun = threading.Event()
        def busy(number):
            while True:
                work(f"thread {number}")
                begun.set()
                time.sleep(0.0005)
        for number in range(4):
            threading.Thread(target=busy, args=(number,), daemon=True).start()
        begun.wait()
        for _ in range(500): work("main")
        """
    )
    if collector.kept.get("main", 0) < 500:  # where there is little CPU: the rest is in the spool
        programs.deliver_left()
        until(lambda: collector.kept.get("main") == 500)
    assert collector.kept["main"] == 500
    assert collector.kept.keys() <= {"main", "next", *(f"thread {number}" for number in range(4))}


def test_threads_that_exit_by_the_dozen(programs: Programs, collector: Collector) -> None:
    programs.run(
        """
        def briefly(number):
            work(f"briefly {number}")
            sys.exit(number)
        for number in range(200):
            threading.Thread(target=briefly, args=(number,)).start()
        """
    )
    assert collector.kept == {f"briefly {number}": 1 for number in range(200)}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_program_left_is_delivered_by_the_next(tmp_path: Path, collector: Collector, kill: int) -> None:
    away, home = Programs(tmp_path / "away", "127.0.0.1:1"), Programs(tmp_path / "home", collector.address)
    with away.start("for _ in range(100): work('a')\ndurable()\nprint(flush=True)\ntime.sleep(60)") as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(kill)
        child.communicate()
    home.run("work('b')")
    (theirs,), (ours,) = away.spool.iterdir(), home.spool.iterdir()
    ours.rmdir()
    theirs.rename(ours)  # each server and key has a folder: give what was meant for one to the other
    home.deliver_left()
    assert collector.kept == {"a": 100, "b": 1, "next": 1}


def test_a_server_that_never_answers_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        programs = Programs(tmp_path, f"127.0.0.1:{deaf.getsockname()[1]}")
        before = time.monotonic()
        programs.run("for _ in range(100): work('a')")
        assert time.monotonic() - before < 15
    assert programs.left()


def test_without_a_place_to_write_all_goes_on_in_memory(programs: Programs, collector: Collector) -> None:
    with programs.start("for _ in range(100): work('a')", LODESTREAM_SPOOL_DIR="/dev/null/nowhere") as child:
        _, err = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "spans are kept in memory only" in err
    assert collector.kept == {"a": 100}
