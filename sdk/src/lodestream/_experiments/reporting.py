"""Reports of a run and comparisons with others: its result as the contract's messages."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.datasets_pb2 import DatasetItem
from lodestream_proto.v1.experiment_event_pb2 import ExperimentUsage

from lodestream._experiments.errors import ExperimentRefusedError, ExperimentUnavailableError
from lodestream._experiments.messages import evaluation_message, result_message, usage_message
from lodestream._experiments.requests import call_experiment_service, find_run, wait_for
from lodestream._experiments.runs import Run, run_id_of
from lodestream._experiments.session import Session
from lodestream._recording.attributes import Shown
from lodestream._results import EvaluatorOutcome, ExperimentResult, ItemResult

if TYPE_CHECKING:
    from lodestream_evals.reports import Report

_MICROSECONDS = 1e6
_COMPARE_SECONDS = 60.0


class RunReporter:
    """Makes the reports of a run, and compares it with others."""

    def __init__(self, session: Session, run: Run) -> None:
        self._session, self._run = session, run

    def report(self, result: ExperimentResult, comparison: pb.CompareExperimentsResponse | None) -> "Report":
        """Return what the formats are made of; masked like what is sent."""
        from lodestream_evals.reports import Report

        shown = self._session._recorder.shown
        items = [item_message(item, result.run_id, shown) for item in result.items]
        return Report(run=run_message(result, self._run, shown), items=items, comparison=comparison)

    def compare(
        self, result: ExperimentResult, baseline: str, options: Mapping[str, Any]
    ) -> pb.CompareExperimentsResponse:
        """Return the server's comparison, once it has all that was delivered.

        Args:
            result: The run's result.
            baseline: The name of a run over the same data, or the id of any.
            options: Further fields of the CompareExperimentsRequest.

        Raises:
            ExperimentError: The run is in this process only, or the server refused or could not be asked.
        """
        channel = self._session._channel
        if not result.recorded:
            raise ExperimentUnavailableError("the run is in this process only; the server compares those it has")
        named = run_id_of(self._run.request.dataset_id, baseline)
        baseline = named if find_run(channel, named) is not None else baseline
        try:
            request = pb.CompareExperimentsRequest(
                baseline_run_id=baseline,
                run_ids=[result.run_id],
                wait_for=wait_for(self._session.position),
                **options,
            )
        except (TypeError, ValueError) as error:
            raise ExperimentRefusedError(str(error)) from None
        response = pb.CompareExperimentsResponse
        return call_experiment_service(channel, "CompareExperiments", request, response, seconds=_COMPARE_SECONDS)


def item_message(item: ItemResult, run_id: str, shown: Shown) -> pb.ExperimentItem:
    """An item with what it was."""
    message = result_message(item, run_id, shown, with_item=True)
    row = DatasetItem(
        item_id=item.item_id,
        input_json=message.input_json,
        expected_output_json=message.expected_output_json,
        metadata_json=message.metadata_json,
    )
    return pb.ExperimentItem(result=message, item=row)


def run_message(result: ExperimentResult, run: Run, shown: Shown) -> pb.ExperimentRun:
    """The run as the server would tell it."""
    items = result.items
    total = len(run.rows) * run.request.repetitions
    latencies = [item.latency for item in items]
    message = pb.ExperimentRun(
        request=run.request,
        dataset_name=run.dataset_name,
        state=pb.EXPERIMENT_STATE_COMPLETED if len(items) >= total else pb.EXPERIMENT_STATE_RUNNING,
        items_total=total,
        items_finished=len(items),
        items_failed=len(result.failed),
        usage=_usage(items),
        latency_p50_us=_quantile(latencies, 50),
        latency_p95_us=_quantile(latencies, 95),
        evaluations=_summaries(judgement for item in items for judgement in item.judgements),
        run_evaluations=[evaluation_message(each, shown) for each in result.run_judgements],
    )
    if items:
        message.requested_at.FromDatetime(min(item.started_at for item in items))
    return message


def _usage(items: Sequence[ItemResult]) -> ExperimentUsage:
    total = ExperimentUsage()
    for item in items:
        one = usage_message(item)
        total.input_tokens += one.input_tokens
        total.output_tokens += one.output_tokens
        if one.HasField("cost_picodollars"):
            total.cost_picodollars += one.cost_picodollars
    return total


def _summaries(judgements: Iterable[EvaluatorOutcome]) -> list[pb.EvaluationSummary]:
    by_name: dict[str, list[EvaluatorOutcome]] = {}
    for judgement in judgements:
        by_name.setdefault(judgement.name, []).append(judgement)
    return [_summary(name, outcomes) for name, outcomes in sorted(by_name.items())]


def _summary(name: str, outcomes: Sequence[EvaluatorOutcome]) -> pb.EvaluationSummary:
    evaluations = [each.evaluation for each in outcomes if each.evaluation is not None]
    summary = pb.EvaluationSummary(name=name, count=len(evaluations), errors=len(outcomes) - len(evaluations))
    numbers = [float(each.value) for each in evaluations if each.data_type in ("NUMERIC", "BOOLEAN")]
    if numbers:
        summary.mean = statistics.fmean(numbers)
    labels = Counter(
        str(each.value).lower() if each.data_type == "BOOLEAN" else str(each.value)
        for each in evaluations
        if each.data_type in ("CATEGORICAL", "BOOLEAN")
    )
    summary.counts.update(labels)
    return summary


def _quantile(seconds: Sequence[float], percent: int) -> int:
    if len(seconds) < 2:
        return round(sum(seconds) * _MICROSECONDS)
    return round(statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * _MICROSECONDS)
