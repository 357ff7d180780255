"""`lodestream experiments compare` and `gate`: whether a run is better than another, and whether it may pass."""

import math
import re
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import typer
from lodestream_evals.reports import GateRule, Report, Threshold, judge
from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli import options, runs
from services.edge.cli.arguments import typed
from services.edge.cli.connection import Gateway
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, with_options
from services.edge.cli.runs import ReportFiles, find_run, items_of, show_report

_BOUNDS = re.compile(r"(.*?)(?::((?:min|max)=[^,]*(?:,(?:min|max)=[^,]*)*))?", re.DOTALL)
_Names = list[str] | None


class GatedMetric(NamedTuple):
    """A metric that the gate checks, and the bounds of its mean, if any."""

    name: str
    threshold: Threshold | None


_Metrics = list[GatedMetric] | None


class Allowance(NamedTuple):
    """A metric, and its largest acceptable loss."""

    name: str
    value: float


def gated_metric(text: str) -> GatedMetric:
    """`accuracy`, `accuracy:min=0.8`, `latency:max=2`, `score:min=0.2,max=0.4`. Raises ValueError."""
    match = _BOUNDS.fullmatch(text)
    if match is None or not match[1]:
        raise ValueError(f"{text!r} is not a metric: write accuracy, accuracy:min=0.8 or latency:max=2")
    if match[2] is None:
        return GatedMetric(match[1], None)
    bounds: dict[str, float] = {}
    for piece in match[2].split(","):
        name, _, value = piece.partition("=")
        if name in bounds:
            raise ValueError(f"{text!r} sets {name} twice")
        bounds[name] = number(value, text)
    if bounds.get("min", -math.inf) > bounds.get("max", math.inf):
        raise ValueError(f"{text!r} has a min above its max")
    return GatedMetric(match[1], Threshold(bounds.get("min"), bounds.get("max")))


def allowed_regression(text: str) -> Allowance:
    """`accuracy=0.02`. Raises ValueError."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE: write accuracy=0.02")
    allowed = number(value, text)
    if allowed < 0:
        raise ValueError(f"{text!r}: an allowed loss can't be negative")
    return Allowance(name, allowed)


def number(text: str, where: str) -> float:
    """A finite number; `2%` is 0.02. Raises ValueError."""
    spelled = text.strip()
    percent = spelled.endswith("%")
    try:
        value = float(spelled.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} in {where!r} is not a number")
    return value


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistical options of a comparison."""

    confidence: float
    lower_is_better: list[str]
    segment_by: list[str]
    seed: int


def statistics(
    *,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, metavar="SHARE", help="Confidence of intervals and verdicts.")
    ] = 0.95,
    lower_is_better: Annotated[
        _Names,
        typer.Option(metavar="METRIC", help="Treat lower values of this metric as better, as with latency and cost."),
    ] = None,
    segment_by: Annotated[
        _Names, typer.Option(metavar="KEY", help="Also compare by the values of this metadata key.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Seed of the random resampling: the same seed gives the same result."),
    ] = 0,
) -> Statistics:
    """What holds for every comparison."""
    return Statistics(confidence, lower_is_better or [], segment_by or [], seed)


@with_options(statistics=statistics, files=runs.report_files, gateway=options.gateway)
def compare(
    *,
    gateway: Gateway,
    statistics: Statistics,
    files: ReportFiles,
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="Run to compare with.")],
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to compare, at most 10.")],
    metric: Annotated[
        _Names,
        typer.Option(metavar="NAME", help="Compare only this: an evaluation, latency or cost; repeat for several."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs with a baseline, item by item: differences with intervals, verdicts, and the items that changed.

    A run counts as better or worse only at the given confidence, corrected for the number of comparisons. "not shown"
    does not mean "no difference": the line below it says which difference could have been detected.

    \b
    Examples:
      lodestream experiments compare answer.3 answer.4
      lodestream experiments compare answer.3 answer.4 answer.5 --metric correct --segment-by topic
      lodestream experiments compare answer.3 latest --html report.html
    """  # noqa: D301
    first = find_run(gateway, baseline)
    others = [find_run(gateway, run) for run in runs]
    report = compare_runs(gateway, first, others, statistics, metrics=metric or [], trace_url=files.trace_url)
    files.write(report)
    show_report(report, as_document=as_json)


def compare_runs(
    gateway: Gateway,
    baseline: pb.ExperimentRun,
    runs: list[pb.ExperimentRun],
    statistics: Statistics,
    *,
    metrics: list[str],
    trace_url: str,
) -> Report:
    """The comparison with the items of all runs. Raises CliError."""
    request = pb.CompareExperimentsRequest(
        baseline_run_id=baseline.request.run_id, run_ids=[run.request.run_id for run in runs], metrics=metrics,
        confidence=statistics.confidence, lower_is_better=statistics.lower_is_better, segment_by=statistics.segment_by,
        seed=statistics.seed,
    )  # fmt: skip
    response = gateway.call(gateway.experiments.CompareExperiments, request)
    items = [item for run in response.runs for item in items_of(gateway, run, with_dataset_items=True)]
    items += items_of(gateway, response.baseline, with_dataset_items=False)
    return Report(response.runs[0], items, response, confidence=statistics.confidence, trace_url=trace_url)


@with_options(statistics=statistics, files=runs.report_files, gateway=options.gateway)
def gate(
    *,
    gateway: Gateway,
    statistics: Statistics,
    files: ReportFiles,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Name, DATASET/NAME, id or the beginning of one; or `latest`.")
    ],
    baseline: Annotated[
        str, typer.Option(metavar="RUN", help="Run to compare with; without one only thresholds are checked.")
    ] = "",
    metric: Annotated[
        _Metrics,
        typer.Option(
            parser=typed(gated_metric),
            metavar="NAME[:min=X,max=Y]",
            help="Check only this metric, with bounds for its mean; repeatable.",
        ),
    ] = None,
    max_regression: Annotated[
        list[Allowance] | None,
        typer.Option(
            parser=typed(allowed_regression),
            metavar="NAME=VALUE",
            help="Largest acceptable loss; the run must be shown to stay within it.",
        ),
    ] = None,
    min_pairs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Least number of items that both runs have a value for.")
    ] = 1,
    max_failed: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Largest share of items that may fail.", show_default="the baseline's"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Gate a run for CI. Exits with 0 when it passes, 1 when it fails, 2 when that can't be decided.

    \b
    It fails when
    - a checked metric is WORSE than the baseline's at --confidence, corrected for all metrics checked
    - the worse end of the interval of its difference is beyond --max-regression, where that is given:
      the run has not been shown to be no worse than that (non-inferiority)
    - the mean of a metric is below its min or above its max
    - a larger share of its items failed than --max-failed, or by default than of the baseline's

    \b
    It can't be decided, and never passes, when
    - a run has not completed
    - the runs have no items in common, fewer than --min-pairs, or too few for any verdict
    - a named metric does not exist, or the gateway can't be reached

    All numeric evaluations are checked, or those that --metric and --max-regression name. The latency (seconds), cost
    (US dollars) and errors (a share) of items are checked only when they are named. Booleans are shares: 0.02 or 2% is
    two points.

    \b
    Examples:
      lodestream experiments gate latest --baseline answer.3
      lodestream experiments gate answer.4 --baseline answer.3 --metric correct:min=0.8 --max-regression correct=2% \\
        --metric latency:max=2.5 --markdown gate.md --junit gate.xml
    """  # noqa: D301
    rule = _rule(metric, max_regression, min_pairs, max_failed)
    try:
        report = gate_report(gateway, statistics, files.trace_url, run=run, baseline=baseline, rule=rule)
        files.write(report)
        show_report(report, as_document=as_json)
    except CliError as failure:  # that there is no answer must not look like a regression
        raise CliError(str(failure), ExitCode.USAGE) from None
    assert report.gate is not None
    raise typer.Exit(report.gate.exit_code)


def gate_report(
    gateway: Gateway, statistics: Statistics, trace_url: str, *, run: str, baseline: str, rule: GateRule
) -> Report:
    """The run's report with the verdict in it. Raises CliError."""
    candidate = find_run(gateway, run)
    if not baseline:
        items = items_of(gateway, candidate, with_dataset_items=True)
        return Report(candidate, items, gate=judge(rule, candidate, items=items), trace_url=trace_url)
    baseline_run = find_run(gateway, baseline)
    if baseline_run.request.run_id == candidate.request.run_id:
        raise CliError(f"{baseline_run.request.name} can't be compared with itself", ExitCode.USAGE)
    # Only what is judged is tested: each further test would make the others harder to show.
    names = list(dict.fromkeys([*rule.metrics, *rule.max_regression, *rule.thresholds])) or _numbers(
        baseline_run, candidate
    )
    report = compare_runs(gateway, baseline_run, [candidate], statistics, metrics=names, trace_url=trace_url)
    verdict = judge(rule, report.run, report.comparison, report.items)
    return replace(report, gate=verdict)


def _rule(
    metrics: _Metrics, max_regression: list[Allowance] | None, min_pairs: int, max_failed: float | None
) -> GateRule:
    gated = metrics or []
    return GateRule(
        metrics=[name for name, _ in gated],
        thresholds={name: threshold for name, threshold in gated if threshold is not None},
        max_regression=dict(max_regression or ()),
        min_pairs=min_pairs,
        max_failed=max_failed,
    )


def _numbers(*runs: pb.ExperimentRun) -> list[str]:
    """The evaluations that have means in one of the runs."""
    return sorted({evaluation.name for run in runs for evaluation in run.evaluations if evaluation.HasField("mean")})
