"""A result as the contract's messages, and as the reports that are made of those."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.datasets_pb2 import DatasetItem
from lodestream_proto.v1.experiment_event_pb2 import ExperimentUsage

from lodestream._experiments.messages import evaluation_message, result_message, usage_message
from lodestream._json.lenient import to_json
from lodestream._recording.attributes import Shown
from lodestream._results import EvaluatorOutcome, ExperimentResult, ItemResult

if TYPE_CHECKING:
    from lodestream.reports import Report

_SUFFIXES = {
    ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".xml": "junit", ".json": "json",
    ".txt": "text",
}  # fmt: skip
_MICROSECONDS = 1e6


def report_of(result: ExperimentResult, comparison: pb.CompareExperimentsResponse | None) -> "Report":
    """What the formats are made of; masked like what is sent."""
    from lodestream.reports import Report

    shown = result.run.client._recorder.shown
    items = [item_message(item, result.run_id, shown) for item in result.items]
    return Report(run=run_message(result), items=items, comparison=comparison)


def formatted(result: ExperimentResult, kind: str, comparison: pb.CompareExperimentsResponse | None = None) -> str:
    """In one of the formats."""
    from lodestream import reports

    write: Callable[[Report], str] = getattr(reports, f"as_{kind}")
    return write(report_of(result, comparison))


def saved(result: ExperimentResult, path: Path, comparison: pb.CompareExperimentsResponse | None) -> Path:
    """Write it. Raises ValueError for a suffix that names no format."""
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path.name}: a report's name ends with {', '.join(_SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(formatted(result, kind, comparison), encoding="utf-8")
    return path


def as_lines(result: ExperimentResult, *, include_item_results: bool) -> str:
    """For a terminal."""
    lines = [formatted(result, "text").rstrip("\n")]
    if include_item_results:
        lines += ["", *(line for item in result.items for line in _item_lines(item))]
    if not result.recorded:
        lines.append("There is no server: these results are in this process only.")
    elif result.receipt.pending:
        lines.append(f"{result.receipt.pending} records are not delivered yet: {result.receipt.problem}")
    elif result.receipt.dropped:
        lines.append(f"{result.receipt.dropped} records of this process were lost; the log says why.")
    return "\n".join(lines)


def item_message(item: ItemResult, run_id: str, shown: Shown) -> pb.ExperimentItem:
    """An item with what it was."""
    told = result_message(item, run_id, shown, with_item=True)
    row = DatasetItem(
        item_id=item.item_id,
        input_json=told.input_json,
        expected_output_json=told.expected_output_json,
        metadata_json=told.metadata_json,
    )
    return pb.ExperimentItem(result=told, item=row)


def run_message(result: ExperimentResult) -> pb.ExperimentRun:
    """The run as the server would tell it."""
    items, run = result.items, result.run
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
        run_evaluations=[evaluation_message(each, run.client._recorder.shown) for each in result.run_judgements],
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
    return [_summary(name, said) for name, said in sorted(by_name.items())]


def _summary(name: str, said: Sequence[EvaluatorOutcome]) -> pb.EvaluationSummary:
    evaluations = [each.evaluation for each in said if each.evaluation is not None]
    summary = pb.EvaluationSummary(name=name, count=len(evaluations), errors=len(said) - len(evaluations))
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


def _item_lines(item: ItemResult) -> list[str]:
    head = f"{item.item_id[:8]}" + (f" #{item.repetition}" if item.repetition else "")
    outcome = f"error: {item.error}" if item.error else f"output: {_short(item.output)}"
    lines = [f"{head}  input: {_short(item.input)}", f"          {outcome}  ({item.latency:.2f} s)"]
    for each in item.judgements:
        said = each.error if each.evaluation is None else each.evaluation.value
        why = f"  {each.evaluation.comment}" if each.evaluation is not None and each.evaluation.comment else ""
        lines.append(f"          {each.name}: {said}{why}")
    return lines


def _short(value: object) -> str:
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
