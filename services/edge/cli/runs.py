"""Experiment runs: found by name, followed until they end, and reported."""

import enum
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from lodestream_evals.reports import Report, as_html, as_json, as_junit, as_markdown, as_text
from lodestream_proto.v1 import experiments_pb2 as pb
from rich.text import Text

from services.edge.cli import console
from services.edge.cli.connection import Gateway
from services.edge.cli.console import progress, write_text
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.render.json_output import document
from services.edge.cli.render.quantities import cost
from services.edge.cli.render.text import escape_control

LATEST = "latest"
_ID = re.compile(r"[0-9a-f]{32}")
_PAGE = 1_000
_ITEMS = 200  # a page of them may be large
_MOST_NAMED = 5
_UNDER_WAY = (pb.EXPERIMENT_STATE_UNSPECIFIED, pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_PAUSED)
_TRIES = 10  # without an answer in between
_PAUSE = 0.3  # seconds after the first; more each time
_STATES = {
    pb.EXPERIMENT_STATE_RUNNING: ("running", "cyan"),
    pb.EXPERIMENT_STATE_PAUSED: ("paused", "yellow"),
    pb.EXPERIMENT_STATE_COMPLETED: ("completed", "green"),
    pb.EXPERIMENT_STATE_CANCELLED: ("cancelled", "yellow"),
    pb.EXPERIMENT_STATE_FAILED: ("failed", "red"),
    pb.EXPERIMENT_STATE_BUDGET_SPENT: ("budget spent", "yellow"),
}


def find_run(gateway: Gateway, name: str) -> pb.ExperimentRun:
    """Find a run by id, name, DATASET/NAME or the beginning of one; `latest` is the newest.

    Raises CliError when there is none, or when there are several.
    """
    if _ID.fullmatch(name):
        return gateway.call(gateway.experiments.GetExperiment, pb.GetExperimentRequest(run_id=name)).run
    if name == LATEST:
        newest = gateway.call(gateway.experiments.ListExperiments, pb.ListExperimentsRequest(page_size=1)).runs
        if not newest:
            raise CliError("there are no runs yet")
        return newest[0]
    try:
        return choose_run(name, list(_candidates(gateway, name)))
    except CliError as failure:
        dataset, slash, name = name.partition("/")
        if not (failure.not_found and slash):
            raise
    return choose_run(name, list(_candidates(gateway, name, dataset)))


def choose_run(name: str, runs: Sequence[pb.ExperimentRun]) -> pb.ExperimentRun:
    """Choose the run that a name, id or prefix refers to.

    Raises CliError when none matches, or when several do.
    """
    by_id = [run for run in runs if run.request.run_id == name]
    by_name = [run for run in runs if name in {run.request.name, full_name(run)}]
    by_prefix = [run for run in runs if any(each.startswith(name) for each in _names(run))]
    for matches in (by_id, by_name, by_prefix if name else []):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = ", ".join(f"{full_name(run)} ({run.request.run_id})" for run in matches[:_MOST_NAMED])
            more = f" and {len(matches) - _MOST_NAMED:,} more" if len(matches) > _MOST_NAMED else ""
            raise CliError(
                f"{name!r} is ambiguous, it matches {several}{more}: use DATASET/NAME or the id", ExitCode.USAGE
            )
    raise CliError(f"there is no run {name!r}", not_found=True)


def full_name(run: pb.ExperimentRun) -> str:
    """`questions/answer.4`: names are of one dataset's runs."""
    return f"{run.dataset_name}/{run.request.name}" if run.dataset_name else run.request.name


def items_of(gateway: Gateway, run: pb.ExperimentRun, *, with_dataset_items: bool) -> list[pb.ExperimentItem]:
    """All finished items of a run. Raises CliError."""
    items: list[pb.ExperimentItem] = []
    token = ""
    with progress(f"reading items of {run.request.name}", run.items_finished or None) as advance:
        while True:
            request = pb.ListExperimentItemsRequest(
                run_id=run.request.run_id, with_dataset_items=with_dataset_items, page_size=_ITEMS, page_token=token
            )
            response = gateway.call(gateway.experiments.ListExperimentItems, request, tries=3)
            items += response.items
            advance(len(items))
            token = response.next_page_token
            if not token:
                return items


def has_ended(run: pb.ExperimentRun) -> bool:
    """Whether a run has ended."""
    return run.state not in _UNDER_WAY


def _names(run: pb.ExperimentRun) -> tuple[str, str, str]:
    return run.request.run_id, run.request.name, full_name(run)


def _candidates(gateway: Gateway, name: str, dataset: str = "") -> Iterator[pb.ExperimentRun]:
    """Candidate runs: by name as the server finds them, by id where the text can be the beginning of one."""
    by_id = not dataset and re.fullmatch(r"[0-9a-f]{4,31}", name) is not None
    token = ""
    while True:
        request = pb.ListExperimentsRequest(
            dataset_name=dataset, name_contains="" if by_id else name, page_size=_PAGE, page_token=token
        )
        response = gateway.call(gateway.experiments.ListExperiments, request)
        yield from response.runs
        token = response.next_page_token
        if not token:
            return


class State(enum.StrEnum):
    """The state of a run, as it is typed."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    BUDGET_SPENT = "budget-spent"


def follow_run(gateway: Gateway, run_id: str) -> Iterator[pb.ExperimentRun]:
    """Yield a run at each change, at last as it ended.

    A stream that breaks off is opened again. Raises CliError.
    """
    fruitless = 0
    while True:
        try:
            request = pb.WatchExperimentRequest(run_id=run_id)
            for response in gateway.stream(gateway.experiments.WatchExperiment, request):
                fruitless = 0
                yield response.run
                if has_ended(response.run):
                    return
        except CliError as failure:
            if not failure.transient or fruitless == _TRIES:
                raise
        fruitless += 1
        if fruitless > _TRIES:
            raise CliError(
                f"the gateway sends no more updates of run {run_id}: "
                f"`lodestream experiments watch {run_id}` tries again"
            )
        time.sleep(_PAUSE * fruitless)


def watch_run(gateway: Gateway, run: pb.ExperimentRun, *, as_lines: bool = False) -> pb.ExperimentRun:
    """Watch a run until it has ended, with a bar on a terminal, or with `as_lines` one JSON document per change.

    Raises CliError when somebody stops watching: the run goes on.
    """
    try:
        with _bar(run) as show:
            for update in follow_run(gateway, run.request.run_id):
                run = update
                show(run)
                if as_lines:
                    console.show_json(document(run), line=True)
    except KeyboardInterrupt:
        run_id = run.request.run_id
        raise CliError(
            f"stopped watching; the run continues. `lodestream experiments watch {run_id}` resumes watching, "
            f"`lodestream experiments cancel {run_id}` cancels it"
        ) from None
    return run


@contextmanager
def _bar(run: pb.ExperimentRun) -> Iterator[Callable[[pb.ExperimentRun], None]]:
    if not sys.stderr.isatty():
        yield lambda _run: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    name = escape_control(run.request.name)
    columns = (
        TextColumn(name, markup=False),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(progress_words(run), total=run.items_total or None)
        yield lambda update: bar.update(
            task, completed=update.items_finished, total=update.items_total or None, description=progress_words(update)
        )


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where each format goes; None: nowhere."""

    html: Path | None
    markdown: Path | None
    junit: Path | None
    trace_url: str

    @property
    def any(self) -> bool:
        """Whether any report is to be written."""
        return bool(self.html or self.markdown or self.junit)

    def write(self, report: Report) -> None:
        """Write the reports that were asked for. Raises CliError."""
        for file, form in ((self.html, as_html), (self.markdown, as_markdown), (self.junit, as_junit)):
            if file is not None:
                write_text(file, form(report))
                console.remark(f"wrote {file}")


def report_files(
    *,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML page to this file.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Markdown for a pull request comment to this file.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML for a CI server to this file.")
    ] = None,
    trace_url: Annotated[
        str,
        typer.Option(
            envvar="LODESTREAM_TRACE_URL",
            metavar="URL",
            help="URL of a trace; {trace_id} is replaced by its id.",
        ),
    ] = "",
) -> ReportFiles:
    """Reports as files."""
    return ReportFiles(html, markdown, junit, trace_url)


def show_report(report: Report, *, as_document: bool) -> None:
    """Print a report, as text or as a JSON document."""
    if as_document:
        sys.stdout.write(as_json(report))
    else:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.write(as_text(report, width=console.width(), color=color))
    sys.stdout.flush()


def state_word(run: pb.ExperimentRun) -> Text:
    """The state of a run, in its colour."""
    return Text(*_STATES.get(run.state, ("requested", "dim")))


def progress_words(run: pb.ExperimentRun) -> str:
    """`37 of 100 · 2 failed · $0.012`."""
    failed = f" · {run.items_failed:,} failed" if run.items_failed else ""
    spent = f" · {_spent(run)}" if _spent(run) else ""
    paused = " · paused" if run.state == pb.EXPERIMENT_STATE_PAUSED else ""
    return f"{_progress(run, ' of ')}{failed}{spent}{paused}"


def _progress(run: pb.ExperimentRun, between: str = "/") -> str:
    return f"{run.items_finished:,}{between}{run.items_total:,}" if run.items_total else f"{run.items_finished:,}"


def _spent(run: pb.ExperimentRun) -> str:
    return cost(run.usage.cost_picodollars / 1e12)
