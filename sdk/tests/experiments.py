"""Runs, items and a comparison made by hand: what the reports are made of."""

import json
from collections.abc import Sequence
from typing import Any

from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ItemEvaluation

BASELINE, CANDIDATE = "b" * 32, "c" * 32


def made_run(run_id: str = CANDIDATE, name: str = "answer 4", **fields: Any) -> pb.ExperimentRun:
    """A run that is completed, unless `fields` say otherwise."""
    known: dict[str, Any] = {"state": pb.EXPERIMENT_STATE_COMPLETED, "items_total": 4, "items_finished": 4, **fields}
    run = pb.ExperimentRun(dataset_name="questions", latency_p50_us=412_000, latency_p95_us=1_310_000, **known)
    run.request.run_id, run.request.name = run_id, name
    run.request.dataset_version, run.request.repetitions = 12, 1
    run.request.task_json = json.dumps(
        {"kind": "prompt", "prompt": {"name": "answer", "version": 4}, "provider": "mock", "model": "mock-large"}
    )
    return run


def made_item(number: int, *evaluations: ItemEvaluation, run_id: str = CANDIDATE, **fields: Any) -> pb.ExperimentItem:
    """An item that took `seconds` and cost `usd`; `input`, `expected`, `output` and `metadata` are values."""
    result = ExperimentItemFinished(
        run_id=run_id,
        item_id=fields.get("item_id", f"item-{number}"),
        repetition=fields.get("repetition", 0),
        trace_id=bytes.fromhex(fields.get("trace", f"{number:032x}")),
        output_json=json.dumps(fields.get("output", f"output {number}")),
        error=fields.get("error", ""),
        evaluations=evaluations,
        attempts=fields.get("attempts", 1),
    )
    result.started_at.FromSeconds(1_700_000_000)
    result.ended_at.FromMilliseconds(1_700_000_000_000 + round(1_000 * fields.get("seconds", 1.0)))
    if (usd := fields.get("usd", 0.0012)) is not None:
        result.usage.cost_picodollars = round(usd * 1e12)
    item = pb.ExperimentItem(result=result)
    item.item.item_id = result.item_id
    item.item.input_json = json.dumps(fields.get("input", f"input {number}"))
    item.item.expected_output_json = json.dumps(fields.get("expected", f"expected {number}"))
    item.item.metadata_json = json.dumps(fields.get("metadata", {"topic": "billing" if number % 2 else "returns"}))
    return item


def boolean(value: bool, name: str = "correct", comment: str = "") -> ItemEvaluation:
    return ItemEvaluation(name=name, boolean=value, comment=comment)


def numeric(value: float, name: str = "similarity", comment: str = "") -> ItemEvaluation:
    return ItemEvaluation(name=name, numeric=value, comment=comment)


def summed_up(run: pb.ExperimentRun, items: Sequence[pb.ExperimentItem]) -> pb.ExperimentRun:
    """The run with the summaries of these items' booleans and numbers."""
    said: dict[str, list[ItemEvaluation]] = {}
    for item in items:
        for its in item.result.evaluations:
            said.setdefault(its.name, []).append(its)
    for name, evaluations in sorted(said.items()):
        numbers = [its.numeric if its.WhichOneof("value") == "numeric" else float(its.boolean) for its in evaluations]
        summary = run.evaluations.add(name=name, count=len(numbers), mean=sum(numbers) / len(numbers))
        for its in evaluations:
            if its.WhichOneof("value") == "boolean":
                summary.counts["true" if its.boolean else "false"] += 1
    run.items_failed = sum(bool(item.result.error) for item in items)
    run.items_finished = run.items_total = len(items)
    return run


def metric(name: str = "correct", **fields: Any) -> pb.MetricComparison:
    """Of the candidate: nothing shown over 40 pairs, unless `fields` say otherwise."""
    known: dict[str, Any] = {"pairs": 40, "verdict": pb.METRIC_VERDICT_NOT_SHOWN, **fields}
    return pb.MetricComparison(run_id=CANDIDATE, metric=name, **known)


def worse(name: str = "correct") -> pb.MetricComparison:
    """From 82 % to 75 %, shown."""
    return metric(
        name, baseline_mean=0.82, run_mean=0.75, difference=-0.07, interval_low=-0.12, interval_high=-0.02,
        p_value=0.004, p_adjusted=0.008, improved=1, regressed=7, unchanged=32, verdict=pb.METRIC_VERDICT_WORSE,
        summary="correct is lower by 7.0 percentage points.",
    )  # fmt: skip


def compared(
    *metrics: pb.MetricComparison,
    run: pb.ExperimentRun | None = None,
    baseline: pb.ExperimentRun | None = None,
    **fields: Any,
) -> pb.CompareExperimentsResponse:
    """A comparison of two runs."""
    return pb.CompareExperimentsResponse(
        baseline=baseline or made_run(BASELINE, "answer 3"), runs=[run or made_run()], metrics=metrics, **fields
    )


def changed(number: int, change: pb.ItemChange.ValueType, name: str = "correct", **fields: Any) -> pb.ItemComparison:
    """An item of the candidate; by default it regressed from true to false."""
    known: dict[str, Any] = {"baseline_value": 1.0, "run_value": 0.0, **fields}
    return pb.ItemComparison(run_id=CANDIDATE, item_id=f"item-{number}", metric=name, change=change, **known)
