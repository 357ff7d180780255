"""What a comparison was asked for, checked."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from lodestream_proto.v1.experiments_pb2 import CompareExperimentsRequest

from services.read.query.filters import lookable, required
from shared.runtime.refusal import InvalidError

MOST_RUNS, MOST_NAMES = 10, 200
OWN = ("errors", "latency", "cost")
"""Metrics that every run has, without an evaluator."""
_LEAST_CONFIDENCE, _MOST_CONFIDENCE, _USUAL_CONFIDENCE = 0.5, 0.9999, 0.95


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered, as far as can be told without looking."""

    baseline_id: str
    run_ids: tuple[str, ...]
    metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    segment_by: tuple[str, ...]
    confidence: float
    seed: int

    def wanted_of(self, names: AbstractSet[str]) -> list[str]:
        """Of the names that evaluators used in any run, those whose values are compared.

        Raises InvalidError for a metric that no run has: a slip of the pen must not look like no difference.
        """
        there = {metric_name(name) for name in names} | set(OWN)
        for field, asked in (("metrics", self.metrics), ("lower_is_better", self.lower_is_better)):
            for n, name in enumerate(asked):
                if name not in there:
                    raise InvalidError(f"{field}[{n}]", f"no run has {name!r}; there are {', '.join(sorted(there))}")
        return sorted(name for name in names if not self.metrics or metric_name(name) in self.metrics)


def metric_name(name: str) -> str:
    """What an evaluation is compared as: one that has the name of a run's own figure is told apart."""
    return f"{name} evaluation" if name in OWN else name


def read_request(request: CompareExperimentsRequest) -> Asked:
    """Raises InvalidError naming the field that can't be used."""
    baseline_id = required("baseline_run_id", request.baseline_run_id)
    if not 1 <= len(request.run_ids) <= MOST_RUNS:
        raise InvalidError("run_ids", f"{len(request.run_ids)} runs; 1 to {MOST_RUNS} can be compared with a baseline")
    for n, run_id in enumerate(request.run_ids):
        required(f"run_ids[{n}]", run_id)
        if run_id == baseline_id:
            raise InvalidError(f"run_ids[{n}]", "it is the baseline")
        if run_id in request.run_ids[:n]:
            raise InvalidError(f"run_ids[{n}]", f"{run_id!r} is there twice")
    confidence = request.confidence or _USUAL_CONFIDENCE
    if not _LEAST_CONFIDENCE <= confidence <= _MOST_CONFIDENCE:  # nor is NaN
        raise InvalidError("confidence", f"{confidence} is not from {_LEAST_CONFIDENCE} to {_MOST_CONFIDENCE}")
    return Asked(
        baseline_id,
        tuple(request.run_ids),
        _names(request.metrics, "metrics"),
        _names(request.lower_is_better, "lower_is_better"),
        _names(request.segment_by, "segment_by"),
        confidence,
        request.seed,
    )


def _names(names: object, field: str) -> tuple[str, ...]:
    told = tuple(dict.fromkeys(names))  # type: ignore[call-overload]
    if len(told) > MOST_NAMES:
        raise InvalidError(field, f"{len(told)} names; at most {MOST_NAMES}")
    return tuple(lookable(f"{field}[{n}]", required(f"{field}[{n}]", name)) for n, name in enumerate(told))
