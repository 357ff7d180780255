"""`lodestream experiments pause|resume|cancel`: runs that are to go on, or not."""

import os
from typing import Annotated

import typer
from lodestream_proto.v1 import experiments_pb2 as pb
from rich.text import Text

from services.edge.cli import options, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson, Author
from services.edge.cli.render.experiments import progress_words, state_word
from services.edge.cli.render.text import inert
from services.edge.cli.run_states import State
from services.edge.cli.runs import find_run

Run = Annotated[str, typer.Argument(metavar="RUN", help="A name, DATASET/NAME or an id, or how one begins; `latest`.")]


@takes(gateway=options.gateway)
def pause(*, gateway: Gateway, run: Run, author: Author = "", as_json: AsJson = False) -> None:
    """Pause a run: no item is begun until it is resumed; items in flight come to their end.

    \b
    Examples:
      lodestream experiments pause latest
    """  # noqa: D301
    request = pb.PauseExperimentRequest(run_id=_id(gateway, run), author=author or _user())
    moved = gateway.ask(gateway.experiments.PauseExperiment, request)
    _tell(moved.run, moved.position, as_json=as_json)


@takes(gateway=options.gateway)
def resume(*, gateway: Gateway, run: Run, author: Author = "", as_json: AsJson = False) -> None:
    """Let a paused run go on.

    \b
    Examples:
      lodestream experiments resume latest
    """  # noqa: D301
    request = pb.ResumeExperimentRequest(run_id=_id(gateway, run), author=author or _user())
    moved = gateway.ask(gateway.experiments.ResumeExperiment, request)
    _tell(moved.run, moved.position, as_json=as_json)


@takes(gateway=options.gateway)
def cancel(
    *,
    gateway: Gateway,
    run: Run,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """End a run before it is done; what is done stays. Ends with 1 when the run has ended already.

    \b
    Examples:
      lodestream experiments cancel latest --reason "wrong model"
    """  # noqa: D301
    request = pb.CancelExperimentRequest(run_id=_id(gateway, run), reason=reason, author=author or _user())
    moved = gateway.ask(gateway.experiments.CancelExperiment, request)
    _tell(moved.run, moved.position, as_json=as_json)


def _id(gateway: Gateway, named: str) -> str:
    return find_run(gateway, named).request.run_id


def _tell(run: pb.ExperimentRun, position: str, *, as_json: bool) -> None:
    if as_json:
        state = State[pb.ExperimentState.Name(run.state).removeprefix("EXPERIMENT_STATE_")]
        told = {"run_id": run.request.run_id, "name": run.request.name, "state": state.value, "position": position}
        screen.show_json(told)
    else:
        screen.show([Text.assemble(inert(run.request.name), ": ", state_word(run), f", {progress_words(run)}")])


def _user() -> str:
    return os.environ.get("USER", "")
