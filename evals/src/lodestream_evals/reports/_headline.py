"""What came out, in one sentence."""

from collections.abc import Mapping, Sequence

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._gate import GateVerdict, Outcome
from lodestream_evals.reports._metrics import MEASURES, Metric
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._units import Kind, count, shown, signed

_MOST_NAMED = 3


def headline(
    run: pb.ExperimentRun,
    metrics: Sequence[Metric],
    comparison: pb.CompareExperimentsResponse | None,
    gate: GateVerdict | None,
    kinds: Mapping[str, Kind],
) -> str:
    """The gate's verdict, or what the comparison shows, or what the run came to."""
    if gate is not None:
        return _of_gate(gate)
    if comparison is None:
        return _of_run(run, metrics)
    # Quality first, a loss before a gain.
    shown_ones = sorted(
        (its for its in comparison.metrics if _shown(its)),
        key=lambda its: (its.metric in MEASURES, its.verdict != pb.METRIC_VERDICT_WORSE),
    )
    told = [f"{_name(comparison, its)} {_change(its, kinds)}" for its in shown_ones]
    if told:
        return f"{_list(told)}."
    judged = [its for its in comparison.metrics if its.verdict == pb.METRIC_VERDICT_NOT_SHOWN]
    if not judged:
        return "Nothing could be compared."
    return "No difference is shown, which is not to say that there is none."


def _of_gate(gate: GateVerdict) -> str:
    failed = [one_line(check.name, 80) for check in gate.checks if check.outcome is Outcome.FAILED]
    open_ones = [check for check in gate.checks if check.outcome is Outcome.CANNOT_JUDGE]
    match gate.outcome:
        case Outcome.PASSED:
            return f"The gate passed: {count(len(gate.checks), 'check')}, all kept."
        case Outcome.FAILED:
            return f"The gate failed: {_list(failed)}."
        case _:
            first = f": {one_line(open_ones[0].name, 80)}: {one_line(open_ones[0].reason, 300)}" if open_ones else ""
            return f"The gate can't judge{first}."


def _of_run(run: pb.ExperimentRun, metrics: Sequence[Metric]) -> str:
    told = [f"{one_line(its.name, 80)} {shown(its.kind, its.mean)}" for its in metrics if its.mean is not None]
    failed = f"{count(run.items_failed, 'item')} failed" if run.items_failed else "no item failed"
    return f"{_list(told)}; {failed}." if told else f"{count(run.items_finished, 'item')} finished; {failed}."


def _shown(its: pb.MetricComparison) -> bool:
    return its.verdict in {pb.METRIC_VERDICT_BETTER, pb.METRIC_VERDICT_WORSE}


def _name(comparison: pb.CompareExperimentsResponse, its: pb.MetricComparison) -> str:
    name = one_line(its.metric, 80)
    if len(comparison.runs) < 2:
        return name
    run = next((run.request.name for run in comparison.runs if run.request.run_id == its.run_id), its.run_id)
    return f"{name} of {one_line(run, 80)}"


def _change(its: pb.MetricComparison, kinds: Mapping[str, Kind]) -> str:
    word = "got better" if its.verdict == pb.METRIC_VERDICT_BETTER else "got worse"
    if not its.HasField("difference"):
        return word
    kind = kinds.get(its.metric, Kind.NUMBER)
    return f"{word} ({signed(kind, its.difference)})"


def _list(parts: Sequence[str]) -> str:
    named = list(parts[:_MOST_NAMED])
    if len(parts) > _MOST_NAMED:
        named.append(f"{len(parts) - _MOST_NAMED} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}" if named else ""
