"""`lodestream experiments compare` and `gate`: whether a run is better than another, and whether it may pass."""

import math
import re
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import typer
from lodestream.reports import GateRule, Report, Threshold, judge
from lodestream_proto.v1 import experiments_pb2 as pb

from services.edge.cli import options, runs
from services.edge.cli.arguments import typed
from services.edge.cli.connection import Gateway
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, with_options
from services.edge.cli.runs import ReportFiles, find_run, items_of, show_report

_BOUNDS = re.compile(r"(.*?)(?::((?:min|max)=[^,]*(?:,(?:min|max)=[^,]*)*))?", re.DOTALL)
_Names = list[str] | None


class JudgedMetric(NamedTuple):
    """A metric that is judged, and what its mean must keep to, if anything."""

    name: str
    threshold: Threshold | None


_Metrics = list[JudgedMetric] | None


class Allowance(NamedTuple):
    """A metric, and the loss of it that is allowed."""

    name: str
    value: float


def judged_metric(text: str) -> JudgedMetric:
    """`accuracy`, `accuracy:min=0.8`, `latency:max=2`, `score:min=0.2,max=0.4`. Raises ValueError."""
    match = _BOUNDS.fullmatch(text)
    if match is None or not match[1]:
        raise ValueError(f"{text!r} is not a metric: write accuracy, accuracy:min=0.8 or latency:max=2")
    if match[2] is None:
        return JudgedMetric(match[1], None)
    bounds: dict[str, float] = {}
    for piece in match[2].split(","):
        name, _, value = piece.partition("=")
        if name in bounds:
            raise ValueError(f"{text!r} says {name} twice")
        bounds[name] = number(value, text)
    if bounds.get("min", -math.inf) > bounds.get("max", math.inf):
        raise ValueError(f"{text!r} leaves no value between min and max")
    return JudgedMetric(match[1], Threshold(bounds.get("min"), bounds.get("max")))


def allowed_regression(text: str) -> Allowance:
    """`accuracy=0.02`. Raises ValueError."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE: write accuracy=0.02")
    allowed = number(value, text)
    if allowed < 0:
        raise ValueError(f"{text!r}: a loss that is allowed is not below 0")
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


@with_options(how=statistics, files=runs.report_files, gateway=options.gateway)
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


@with_options(how=statistics, files=runs.report_files, gateway=options.gateway)
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
    except CliError as failure:  # that there is no answer must not look like a regression
        raise CliError(str(failure), ExitCode.USAGE) from None
    assert report.gate is not None
    raise typer.Exit(report.gate.exit_code)


def judged(gateway: Gateway, how: Statistics, trace_url: str, *, run: str, baseline: str, rule: GateRule) -> Report:
    """The run's report with the verdict in it. Raises CliError."""
    found = find_run(gateway, run)
    if not baseline:
        items = items_of(gateway, found, with_dataset_items=True)
        return Report(found, items, gate=judge(rule, found, items=items), trace_url=trace_url)
    first = find_run(gateway, baseline)
    if first.request.run_id == found.request.run_id:
        raise CliError(f"{first.request.name} can't be held against itself", ExitCode.USAGE)
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
