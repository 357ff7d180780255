"""Watching a run through what the connection does: it is told to its end, or why it can't be."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli import runs
from services.edge.cli.errors import CliError
from services.edge.cli.runs import follow_run, watch_run

AWAY = CliError("the gateway can't answer now", transient=True)
Stream = list[int | BaseException]
"""How many items are finished, -1 for the end of the run, or what the stream breaks off with."""


def gateway(*streams: Stream) -> Any:
    """One that answers each watcher with the next of these streams."""
    left = list(streams)

    def follow(_method: object, request: pb.WatchExperimentRequest) -> Iterator[pb.WatchExperimentResponse]:
        assert request.run_id == "r"
        for told in left.pop(0):
            if isinstance(told, BaseException):
                raise told
            state = pb.EXPERIMENT_STATE_RUNNING if told >= 0 else pb.EXPERIMENT_STATE_COMPLETED
            run = pb.ExperimentRun(state=state, items_finished=max(told, 0))
            run.request.run_id = "r"
            yield pb.WatchExperimentResponse(run=run)

    return SimpleNamespace(stream=follow, experiments=SimpleNamespace(WatchExperiment=None))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that it would have waited."""
    waited: list[float] = []
    wait: Callable[[float], None] = waited.append
    monkeypatch.setattr(time, "sleep", wait)
    return waited


def test_a_stream_that_breaks_off_or_ends_early_is_opened_again(pauses: list[float]) -> None:
    runs = list(follow_run(gateway([1, 2, AWAY], [2], [], [3, -1]), "r"))
    assert [run.items_finished for run in runs] == [1, 2, 2, 3, 0]
    assert runs[-1].state == pb.EXPERIMENT_STATE_COMPLETED
    assert len(pauses) == 3
    assert pauses[1] < pauses[2], "an answer begins the count anew"


def test_a_gateway_that_stays_away_is_given_up_with_its_reason(pauses: list[float]) -> None:
    away: list[Stream] = [[AWAY] for _ in range(50)]
    with pytest.raises(CliError, match="can't answer now"):
        list(follow_run(gateway(*away), "r"))
    assert len(pauses) == runs._TRIES
    with pytest.raises(CliError, match="sends no more updates of run r"):
        list(follow_run(gateway(*([] for _ in range(50))), "r"))


def test_what_no_later_try_would_change_is_told_at_once(pauses: list[float]) -> None:
    with pytest.raises(CliError, match="no such run"):
        list(follow_run(gateway([CliError("no such run", not_found=True)]), "r"))
    assert not pauses


def test_ctrl_c_says_how_to_go_on_and_how_to_end_it() -> None:
    run = pb.ExperimentRun()
    run.request.run_id = "r"
    with pytest.raises(CliError, match=r"continues.*experiments watch r.*experiments cancel r") as stopped:
        watch_run(gateway([1, KeyboardInterrupt()]), run)
    assert stopped.value.code == 1
