"""`lodestream experiments gate`: may this run take the place of that one? For CI."""

from dataclasses import replace
from typing import Annotated

import typer
from lodestream.reports import GateRule, Report, judge
from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli import experiment_compare, options, report_files
from services.edge.cli.arguments import typed
from services.edge.cli.connection import Gateway
from services.edge.cli.experiment_compare import Statistics, compared
from services.edge.cli.failures import ExitCode, Failure
from services.edge.cli.gate_rules import Allowance, JudgedMetric, allowed_regression, judged_metric
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.report_files import ReportFiles, show_report
from services.edge.cli.runs import find_run, items_of

_Metrics = list[JudgedMetric] | None


@takes(how=experiment_compare.statistics, files=report_files.report_files, gateway=options.gateway)
def gate(
    *,
    gateway: Gateway,
    how: Statistics,
    files: ReportFiles,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A name, DATASET/NAME or an id, or how one begins; `latest`.")
    ],
    baseline: Annotated[
        str, typer.Option(metavar="RUN", help="What it is held against; without: thresholds only.")
    ] = "",
    metric: Annotated[
        _Metrics,
        typer.Option(
            parser=typed(judged_metric), metavar="NAME[:min=X,max=Y]", help="Judge only this; with bounds for its mean."
        ),
    ] = None,
    max_regression: Annotated[
        list[Allowance] | None,
        typer.Option(
            parser=typed(allowed_regression),
            metavar="NAME=VALUE",
            help="The loss that must be shown not to be exceeded.",
        ),
    ] = None,
    min_pairs: Annotated[int, typer.Option(min=1, metavar="N", help="Items that both runs must have a value for.")] = 1,
    max_failed: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Of the items may end with an error.", show_default="the baseline's"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a run for CI. Ends with 0 when it may pass, 1 when it must not, 2 when that can't be judged.

    \b
    1, when
    - a judged metric is WORSE than the baseline's at --confidence, corrected for all that are judged
    - the worse end of the interval of its difference is beyond --max-regression, where that is given:
      it has not been shown to be no worse than that (non-inferiority)
    - the mean of a metric misses its min or max
    - more of its items ended with an error than --max-failed, by default than of the baseline's

    \b
    2, and never 0, when
    - a run is not completed
    - the runs have no items in common, fewer than --min-pairs, or too few for any verdict
    - a metric that is named is not there, or the gateway can't be asked

    Judged are all evaluations that have numbers, or those that --metric and --max-regression name; latency (seconds),
    cost (US dollars) and errors (a share) of an item only when they are named. Booleans are shares: 0.02 or 2% is two
    points.

    \b
    Examples:
      lodestream experiments gate latest --baseline answer.3
      lodestream experiments gate answer.4 --baseline answer.3 --metric correct:min=0.8 --max-regression correct=2% \\
        --metric latency:max=2.5 --markdown gate.md --junit gate.xml
    """  # noqa: D301
    rule = _rule(metric, max_regression, min_pairs, max_failed)
    try:
        report = judged(gateway, how, files.trace_url, run=run, baseline=baseline, rule=rule)
        files.write(report)
        show_report(report, as_document=as_json)
    except Failure as failure:  # that there is no answer must not look like a regression
        raise Failure(str(failure), ExitCode.USAGE) from None
    assert report.gate is not None
    raise typer.Exit(report.gate.exit_code)


def judged(gateway: Gateway, how: Statistics, trace_url: str, *, run: str, baseline: str, rule: GateRule) -> Report:
    """The run's report with the verdict in it. Raises Failure."""
    found = find_run(gateway, run)
    if not baseline:
        items = items_of(gateway, found, with_dataset_items=True)
        return Report(found, items, gate=judge(rule, found, items=items), trace_url=trace_url)
    first = find_run(gateway, baseline)
    if first.request.run_id == found.request.run_id:
        raise Failure(f"{first.request.name} can't be held against itself", ExitCode.USAGE)
    # Only what is judged is tested: each further test would make the others harder to show.
    names = list(dict.fromkeys([*rule.metrics, *rule.max_regression, *rule.thresholds])) or _numbers(first, found)
    report = compared(gateway, first, [found], how, metrics=names, trace_url=trace_url)
    verdict = judge(rule, report.run, report.comparison, report.items)
    return replace(report, gate=verdict)


def _rule(
    metrics: _Metrics, max_regression: list[Allowance] | None, min_pairs: int, max_failed: float | None
) -> GateRule:
    named = metrics or []
    return GateRule(
        metrics=[name for name, _ in named],
        thresholds={name: threshold for name, threshold in named if threshold is not None},
        max_regression=dict(max_regression or ()),
        min_pairs=min_pairs,
        max_failed=max_failed,
    )


def _numbers(*runs: pb.ExperimentRun) -> list[str]:
    """The evaluations that have means in one of the runs."""
    return sorted({its.name for run in runs for its in run.evaluations if its.HasField("mean")})
