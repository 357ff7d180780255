"""`lodestream experiments compare`: whether one run is better than another, and by how much."""

from dataclasses import dataclass
from typing import Annotated

import typer
from lodestream.reports import Report
from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli import options, report_files
from services.edge.cli.connection import Gateway
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.report_files import ReportFiles, show_report
from services.edge.cli.runs import find_run, items_of

_Names = list[str] | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """How runs are compared."""

    confidence: float
    lower_is_better: list[str]
    segment_by: list[str]
    seed: int


def statistics(
    *,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, metavar="SHARE", help="Of intervals and verdicts.")
    ] = 0.95,
    lower_is_better: Annotated[
        _Names, typer.Option(metavar="METRIC", help="Of this, less is better, as it is of latency and cost.")
    ] = None,
    segment_by: Annotated[
        _Names, typer.Option(metavar="KEY", help="Look at the items by this key of their metadata, too.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of what is drawn by lot: the same, the same answer.")
    ] = 0,
) -> Statistics:
    """What holds for every comparison."""
    return Statistics(confidence, lower_is_better or [], segment_by or [], seed)


@takes(how=statistics, files=report_files.report_files, gateway=options.gateway)
def compare(
    *,
    gateway: Gateway,
    how: Statistics,
    files: ReportFiles,
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="A run.")],
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="At most 10.")],
    metric: Annotated[
        _Names, typer.Option(metavar="NAME", help="Only this: an evaluation, latency, cost. Several: all of them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs with a baseline, item by item: differences with intervals, verdicts, and the items that changed.

    A run that is better or worse is so at the confidence asked for, corrected for all that was looked at. "not shown"
    is not "no difference": the line below says what could have been shown.

    \b
    Examples:
      lodestream experiments compare answer.3 answer.4
      lodestream experiments compare answer.3 answer.4 answer.5 --metric correct --segment-by topic
      lodestream experiments compare answer.3 latest --html report.html
    """  # noqa: D301
    first = find_run(gateway, baseline)
    others = [find_run(gateway, run) for run in runs]
    report = compared(gateway, first, others, how, metrics=metric or [], trace_url=files.trace_url)
    files.write(report)
    show_report(report, as_document=as_json)


def compared(
    gateway: Gateway,
    baseline: pb.ExperimentRun,
    runs: list[pb.ExperimentRun],
    how: Statistics,
    *,
    metrics: list[str],
    trace_url: str,
) -> Report:
    """The comparison with the items of all runs. Raises Failure."""
    request = pb.CompareExperimentsRequest(
        baseline_run_id=baseline.request.run_id, run_ids=[run.request.run_id for run in runs], metrics=metrics,
        confidence=how.confidence, lower_is_better=how.lower_is_better, segment_by=how.segment_by, seed=how.seed,
    )  # fmt: skip
    answer = gateway.ask(gateway.experiments.CompareExperiments, request)
    items = [item for run in answer.runs for item in items_of(gateway, run, with_dataset_items=True)]
    items += items_of(gateway, answer.baseline, with_dataset_items=False)
    return Report(answer.runs[0], items, answer, confidence=how.confidence, trace_url=trace_url)
