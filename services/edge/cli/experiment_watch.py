"""Runs while they go on: followed until they end, through whatever the connection does."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli import screen
from services.edge.cli.connection import Gateway
from services.edge.cli.failures import Failure
from services.edge.cli.render.documents import document
from services.edge.cli.render.experiments import progress_words
from services.edge.cli.render.text import inert
from services.edge.cli.runs import has_ended

_TRIES = 10  # without an answer in between
_PAUSE = 0.3  # seconds after the first; more each time


def followed(gateway: Gateway, run_id: str) -> Iterator[pb.ExperimentRun]:
    """The run at each change, the last time as it ended.

    A stream that breaks off is opened again. Raises Failure.
    """
    fruitless = 0
    while True:
        try:
            request = pb.WatchExperimentRequest(run_id=run_id)
            for answer in gateway.follow(gateway.experiments.WatchExperiment, request):
                fruitless = 0
                yield answer.run
                if has_ended(answer.run):
                    return
        except Failure as failure:
            if not failure.passing or fruitless == _TRIES:
                raise
        fruitless += 1
        if fruitless > _TRIES:
            raise Failure(
                f"the gateway tells no more of run {run_id}: watch it again with `experiments watch {run_id}`"
            )
        time.sleep(_PAUSE * fruitless)


def watched(gateway: Gateway, run: pb.ExperimentRun, *, as_lines: bool = False) -> pb.ExperimentRun:
    """The run when it has ended; until then a bar on a terminal, or with `as_lines` a JSON document a change.

    Raises Failure when somebody stops watching: the run goes on.
    """
    try:
        with _bar(run) as show:
            for its in followed(gateway, run.request.run_id):
                run = its
                show(run)
                if as_lines:
                    screen.show_json(document(run), line=True)
    except KeyboardInterrupt:
        run_id = run.request.run_id
        raise Failure(
            f"watching no more; the run goes on. `lodestream experiments watch {run_id}` goes on watching, "
            f"`lodestream experiments cancel {run_id}` ends it"
        ) from None
    return run


@contextmanager
def _bar(run: pb.ExperimentRun) -> Iterator[Callable[[pb.ExperimentRun], None]]:
    if not sys.stderr.isatty():
        yield lambda _run: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    name = inert(run.request.name)
    columns = (
        TextColumn(name, markup=False),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(progress_words(run), total=run.items_total or None)
        yield lambda its: bar.update(
            task, completed=its.items_finished, total=its.items_total or None, description=progress_words(its)
        )
