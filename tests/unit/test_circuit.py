"""The circuit breaker: who failed is left alone for a while, then tried once."""

import pytest

from shared.runtime.circuit import Circuit, OpenError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def attempt(circuit: Circuit, *, fails: bool) -> None:
    with circuit.trying(OSError):
        if fails:
            raise OSError


def test_open_after_a_failure_longer_each_time_closed_by_a_success() -> None:
    clock = Clock()
    circuit = Circuit(first_seconds=1, longest_seconds=3, clock=clock)
    for pause in (1, 2, 3, 3):
        with pytest.raises(OSError):
            attempt(circuit, fails=True)
        clock.now += pause - 0.01
        with pytest.raises(OpenError):
            attempt(circuit, fails=False)
        clock.now += 0.02
    attempt(circuit, fails=False)
    attempt(circuit, fails=False)
    with pytest.raises(OSError):
        attempt(circuit, fails=True)
    clock.now += 1.01
    attempt(circuit, fails=False)


def test_one_try_at_a_time_decides() -> None:
    clock = Clock()
    circuit = Circuit(first_seconds=1, longest_seconds=3, clock=clock)
    with pytest.raises(OSError):
        attempt(circuit, fails=True)
    clock.now += 1.01
    with circuit.trying(OSError), pytest.raises(OpenError):
        attempt(circuit, fails=False)
    attempt(circuit, fails=False)


def test_other_errors_are_nobodys_failure() -> None:
    circuit = Circuit(first_seconds=1, longest_seconds=3)
    with pytest.raises(KeyError), circuit.trying(OSError):
        raise KeyError
    attempt(circuit, fails=False)
