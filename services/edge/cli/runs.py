"""Runs as people name them, and all that a report needs of one."""

import re
from collections.abc import Iterator, Sequence

from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli.connection import Gateway
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.progress import progress

LATEST = "latest"
_ID = re.compile(r"[0-9a-f]{32}")
_PAGE = 1_000
_ITEMS = 200  # a page of them may be large
_MOST_NAMED = 5
_UNDER_WAY = (pb.EXPERIMENT_STATE_UNSPECIFIED, pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_PAUSED)


def find_run(gateway: Gateway, named: str) -> pb.ExperimentRun:
    """The run of this id, name or DATASET/NAME, or of which this is the beginning; `latest` is the newest.

    Raises Failure: there is none, or several.
    """
    if _ID.fullmatch(named):
        return gateway.ask(gateway.experiments.GetExperiment, pb.GetExperimentRequest(run_id=named)).run
    if named == LATEST:
        newest = gateway.ask(gateway.experiments.ListExperiments, pb.ListExperimentsRequest(page_size=1)).runs
        if not newest:
            raise Failure("there are no runs yet")
        return newest[0]
    try:
        return chosen(named, list(_candidates(gateway, named)))
    except Failure as failure:
        dataset, slash, name = named.partition("/")
        if not (failure.not_found and slash):
            raise
    return chosen(named, list(_candidates(gateway, name, dataset)))


def chosen(named: str, runs: Sequence[pb.ExperimentRun]) -> pb.ExperimentRun:
    """The one of these runs that is meant.

    Raises Failure: none is, or several.
    """
    by_id = [run for run in runs if run.request.run_id == named]
    by_name = [run for run in runs if named in {run.request.name, full_name(run)}]
    begun = [run for run in runs if any(each.startswith(named) for each in _names(run))]
    for meant in (by_id, by_name, begun if named else []):
        if len(meant) == 1:
            return meant[0]
        if meant:
            several = ", ".join(f"{full_name(run)} ({run.request.run_id})" for run in meant[:_MOST_NAMED])
            more = f" and {len(meant) - _MOST_NAMED:,} more" if len(meant) > _MOST_NAMED else ""
            raise Failure(f"{named!r} may be {several}{more}: say DATASET/NAME, or the id", ExitCode.USAGE)
    raise Failure(f"there is no run {named!r}", not_found=True)


def full_name(run: pb.ExperimentRun) -> str:
    """`questions/answer.4`: names are of one dataset's runs."""
    return f"{run.dataset_name}/{run.request.name}" if run.dataset_name else run.request.name


def items_of(gateway: Gateway, run: pb.ExperimentRun, *, with_dataset_items: bool) -> list[pb.ExperimentItem]:
    """All finished items of a run. Raises Failure."""
    items: list[pb.ExperimentItem] = []
    token = ""
    with progress(f"reading items of {run.request.name}", run.items_finished or None) as advance:
        while True:
            request = pb.ListExperimentItemsRequest(
                run_id=run.request.run_id, with_dataset_items=with_dataset_items, page_size=_ITEMS, page_token=token
            )
            answer = gateway.ask(gateway.experiments.ListExperimentItems, request, tries=3)
            items += answer.items
            advance(len(items))
            token = answer.next_page_token
            if not token:
                return items


def has_ended(run: pb.ExperimentRun) -> bool:
    """Nothing more comes of it."""
    return run.state not in _UNDER_WAY


def _names(run: pb.ExperimentRun) -> tuple[str, str, str]:
    return run.request.run_id, run.request.name, full_name(run)


def _candidates(gateway: Gateway, named: str, dataset: str = "") -> Iterator[pb.ExperimentRun]:
    """Runs that may be meant: by name as the server finds them; by id only where it can be the beginning of one."""
    by_id = not dataset and re.fullmatch(r"[0-9a-f]{4,31}", named) is not None
    token = ""
    while True:
        request = pb.ListExperimentsRequest(
            dataset_name=dataset, name_contains="" if by_id else named, page_size=_PAGE, page_token=token
        )
        answer = gateway.ask(gateway.experiments.ListExperiments, request)
        yield from answer.runs
        token = answer.next_page_token
        if not token:
            return
