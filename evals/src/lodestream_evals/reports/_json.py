"""The report for programs: keys that stay. docs/experiments.md says what each of them means."""

import json
import math
from collections.abc import Sequence
from typing import Any

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._changes import ItemChanges, MetricChange
from lodestream_evals.reports._findings import Candidate, Findings, Report, findings
from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._segments import Segment
from lodestream_evals.reports._units import Kind
from lodestream_evals.reports._views import ItemView, Judgement

FORMAT = "lodestream.experiment-report/1"


def as_json(report: Report) -> str:
    """JSON in ASCII. Shares are 0 to 1, times seconds, prices US dollars; what is not known is null."""
    return json.dumps(_finite(_document(findings(report))), indent=2, allow_nan=False) + "\n"


def _document(found: Findings) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "headline": found.headline,
        "warnings": list(found.warnings),
        "run": {
            **_run(found.run),
            "metrics": [_metric(its) for its in (*found.metrics, *found.costs)],
            "run_evaluations": [_judgement(its) for its in found.run_judgements],
        },
        "baseline": _run(found.baseline) if found.baseline else None,
        "gate": {
            "outcome": found.gate.outcome.value,
            "exit_code": found.gate.exit_code,
            "checks": [
                {"name": its.name, "metric": its.metric or None, "outcome": its.outcome.value, "reason": its.reason}
                for its in found.gate.checks
            ],
        }
        if found.gate
        else None,
        "comparisons": [_candidate(its) for its in found.candidates],
        "failed": [_item(its) for its in found.failed],
        "missed": [_item(its) for its in found.missed],
        "segments": [_segment(its) for its in found.segments],
    }


def _run(run: pb.ExperimentRun) -> dict[str, Any]:
    request = run.request
    return {
        "run_id": request.run_id,
        "name": request.name,
        "dataset": run.dataset_name or None,
        "dataset_version": request.dataset_version or None,
        "splits": list(request.splits),
        "task": _parsed(request.task_json),
        "evaluators": _parsed(request.evaluators_json),
        "metadata": _parsed(request.metadata_json),
        "repetitions": request.repetitions,
        "state": pb.ExperimentState.Name(run.state).removeprefix("EXPERIMENT_STATE_").lower(),
        "reason": run.reason or None,
        "requested_at": run.requested_at.ToJsonString() if run.HasField("requested_at") else None,
        "ended_at": run.ended_at.ToJsonString() if run.HasField("ended_at") else None,
        "items_total": run.items_total,
        "items_finished": run.items_finished,
        "items_failed": run.items_failed,
        "latency_p50_seconds": run.latency_p50_us / 1e6,
        "latency_p95_seconds": run.latency_p95_us / 1e6,
        "input_tokens": run.usage.input_tokens,
        "output_tokens": run.usage.output_tokens,
        "cost_usd": run.usage.cost_picodollars / 1e12 if run.usage.HasField("cost_picodollars") else None,
    }


def _metric(its: Metric) -> dict[str, Any]:
    return {
        "name": its.name,
        "kind": its.kind.value,
        "mean": its.mean,
        "interval_95": list(its.interval) if its.interval else None,
        "values": its.count,
        "evaluator_errors": its.errors,
        "counts": dict(its.counts),
    }


def _candidate(its: Candidate) -> dict[str, Any]:
    return {
        "run_id": its.run.request.run_id,
        "name": its.run.request.name,
        "metrics": [_compared(each) for each in its.metrics],
        "regressed": [_changes(each) for each in its.regressed],
        "improved": [_changes(each) for each in its.improved],
        "segments": [_segment(each) for each in its.segments],
    }


def _compared(its: pb.MetricComparison) -> dict[str, Any]:
    """The contract's names, but for the run, which is named once."""
    fields = {
        field.name: getattr(its, field.name)
        if not field.has_presence or its.HasField(field.name)  # type: ignore[arg-type]
        else None
        for field in its.DESCRIPTOR.fields
        if field.name != "run_id"
    }
    return {**fields, "verdict": pb.MetricVerdict.Name(its.verdict).removeprefix("METRIC_VERDICT_").lower()}


def _changes(its: ItemChanges) -> dict[str, Any]:
    return {
        "item_id": its.item_id,
        "input": its.input,
        "expected": its.expected or None,
        "metrics": [_change(each) for each in its.metrics],
        "baseline": _side(its.before, its.before_trace_id, its.before_error),
        "run": _side(its.after, its.after_trace_id, its.after_error),
    }


def _change(its: MetricChange) -> dict[str, Any]:
    return {
        "metric": its.metric,
        "change": pb.ItemChange.Name(its.change).removeprefix("ITEM_CHANGE_").lower(),
        "baseline": its.before if its.before is not None else its.before_category or None,
        "run": its.after if its.after is not None else its.after_category or None,
    }


def _side(item: ItemView | None, trace_id: str, error: str) -> dict[str, Any]:
    return {
        "trace_id": trace_id or None,
        "error": error or None,
        "output": item.output if item else None,
        "evaluations": [_judgement(each) for each in item.judgements] if item else [],
    }


def _item(its: ItemView) -> dict[str, Any]:
    return {
        "item_id": its.item_id,
        "repetition": its.repetition,
        "input": its.input,
        "expected": its.expected or None,
        "latency_seconds": its.seconds,
        "cost_usd": its.usd,
        "attempts": its.attempts,
        **_side(its, its.trace_id, its.error),
    }


def _judgement(its: Judgement) -> dict[str, Any]:
    return {
        "name": its.name,
        "value": _value(its),
        "comment": its.comment or None,
        "error": its.error or None,
    }


def _value(its: Judgement) -> Any:
    if its.error:
        return None
    if its.kind is Kind.SHARE:
        return its.number == 1
    return its.words if its.number is None else its.number


def _segment(its: Segment) -> dict[str, Any]:
    return {
        "metric": its.metric,
        "key": its.key,
        "value": its.value,
        "items": its.count,
        "mean": its.mean,
        "against": its.against,
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON can't hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
