"""Spans that end while the interpreter does: they keep nothing from ending, and are delivered or spooled."""

import subprocess
import textwrap
from dataclasses import replace

import pytest

from sdk.tests.collector import Collector
from sdk.tests.interpreters import Interpreter, interpreters, prepared
from sdk.tests.programs import Programs
from sdk.tests.telling import delivered, new_spool

_PYTHONS = interpreters()
_FINALISER = """
class Late:
    def __del__(self):
        work("late")
        get_client().flush()
        get_client().get_prompt("unknown", fallback="fallback", fetch_timeout_seconds=0.1, max_retries=0)
"""


@pytest.fixture(scope="module", params=_PYTHONS)
def interpreter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    try:
        return prepared(_PYTHONS[request.param], tmp_path_factory.mktemp("environment") / request.param)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no environment for Python {request.param}: {error.stderr}")


@pytest.fixture
def end(programs: Programs, collector: Collector, interpreter: Interpreter):
    """Runs a program, which must end by itself, and gives the names of what it delivered or left in its spool."""

    def run(program: str, *, first: str = "") -> set[str]:
        theirs = replace(programs, python=interpreter.python)
        theirs.run(textwrap.dedent(program), first=textwrap.dedent(first), **interpreter.environment)
        names = set(collector.kept)
        for root in programs.spool.iterdir():
            left = new_spool(root)
            left.adopt()
            names |= set(delivered(left, own=False))
            left.close()
        return names

    return run


def test_nothing_was_traced_before(end):
    """A generator is left half-way, and a finaliser traces, flushes and looks a prompt up."""
    program = """
        @observe
        def numbers():
            yield 1
            yield 2
        left = numbers()
        next(left)
        late = Late()
        """
    assert end(textwrap.dedent(program), first=_FINALISER) == {"numbers", "late"}


def test_functions_at_exit_and_finalisers_after_spans(end):
    """Functions at exit run before ours and, those that were registered before the SDK was imported, after it."""
    first = f"{_FINALISER}\nimport atexit\natexit.register(lambda: work('after ours'))\n"
    program = """
        atexit.register(work, "before ours")
        work("early")
        late = Late()
        """
    assert end(program, first=first) == {"early", "before ours", "after ours", "late"}


def test_functions_at_exit_are_the_first_to_trace(end):
    first = "import atexit\natexit.register(lambda: work('after ours'))\n"
    assert end("atexit.register(work, 'before ours')", first=first) == {"before ours", "after ours"}


def test_a_thread_that_outlives_main_is_the_first_to_trace(end):
    """Some Pythons (3.12.1) start no threads any more once main has ended."""
    program = """
        def outlive():
            threading.main_thread().join()
            work("outlived")
        threading.Thread(target=outlive).start()
        """
    assert end(program) == {"outlived"}


def test_threads_trace_until_the_interpreter_ends_them(end):
    """They may be ended while they hold a lock, which a finaliser that traces then must not wait for."""
    program = """
        def busy():
            while True:
                work("busy")
                time.sleep(0.0005)
        sys.modules["held"] = type(sys)("held")
        sys.modules["held"].late = Late()  # not by __main__, which threads keep from being finalised
        work("early")
        for _ in range(4): threading.Thread(target=busy, daemon=True).start()
        """
    assert end(program, first=_FINALISER) >= {"early", "late"}
