"""What tests of the comparison of runs compare."""

from collections.abc import Iterable, Mapping, Sequence

from lodestream_proto.v1.experiments_pb2 import MetricComparison

from services.read.query.experiments.statistics.comparison import Metric, RunMetrics, compare
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.pairing import ValueKind, Values

METRIC = Metric("m")


def numbers(told: Iterable[float | Sequence[float]], kind: ValueKind = ValueKind.NUMBER) -> Values:
    """Of the items 0, 1 …: a value, or one a repetition."""
    return Values(
        kind,
        {f"{n:05}": tuple(each) if isinstance(each, Sequence) else (float(each),) for n, each in enumerate(told)},
    )


def booleans(told: Iterable[float | Sequence[float]]) -> Values:
    return numbers(told, ValueKind.BOOLEAN)


def categories(told: Iterable[str | Sequence[str]]) -> Values:
    labels = {f"{n:05}": (each,) if isinstance(each, str) else tuple(each) for n, each in enumerate(told)}
    return Values(ValueKind.CATEGORY, labels=labels)


def compared(
    baseline: Values | Mapping[str, Values],
    run: Values | Mapping[str, Values],
    rules: Rules | None = None,
    metric: Metric = METRIC,
) -> MetricComparison:
    """What is said of one metric "m"."""
    (found,) = compare(_run("b", baseline), [_run("r", run)], [metric], rules or Rules())
    return found.message


def _run(run_id: str, values: Values | Mapping[str, Values]) -> RunMetrics:
    return RunMetrics(run_id, {"m": values} if isinstance(values, Values) else values)
