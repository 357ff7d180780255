"""Runs and their items as tables."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, tzinfo

from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation
from rich.text import Text

from services.edge.cli.render.columns import Column, lay_out
from services.edge.cli.render.datasets import preview
from services.edge.cli.render.quantities import cost, count, duration, instants
from services.edge.cli.render.text import inert

_MOST_METRICS = 5
_STATES = {
    pb.EXPERIMENT_STATE_RUNNING: ("running", "cyan"),
    pb.EXPERIMENT_STATE_PAUSED: ("paused", "yellow"),
    pb.EXPERIMENT_STATE_COMPLETED: ("completed", "green"),
    pb.EXPERIMENT_STATE_CANCELLED: ("cancelled", "yellow"),
    pb.EXPERIMENT_STATE_FAILED: ("failed", "red"),
    pb.EXPERIMENT_STATE_BUDGET_SPENT: ("budget spent", "yellow"),
}


def run_table(runs: Sequence[pb.ExperimentRun], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a run. The id is what the other commands take, as the name is."""
    asked = instants([run.requested_at for run in runs], zone, today)
    names = Counter(its.name for run in runs for its in run.evaluations)
    return lay_out(
        [
            Column(title="asked", cells=[Text(each, style="dim") for each in asked], rank=3),
            Column(title="name", cells=[Text(inert(run.request.name)) for run in runs], least=20),
            Column(title="dataset", cells=[Text(_dataset(run)) for run in runs], rank=4, least=12),
            Column(title="state", cells=[state_word(run) for run in runs]),
            Column(title="items", cells=[Text(_progress(run)) for run in runs], right=True, rank=1),
            Column(title="failed", cells=[_failed(run.items_failed) for run in runs], right=True, rank=2),
            *(
                Column(title=inert(name), cells=[_mean(run, name) for run in runs], right=True, rank=5 + rank)
                for rank, (name, _) in enumerate(names.most_common(_MOST_METRICS))
            ),
            Column(title="p95", cells=[_latency(run) for run in runs], right=True, rank=11),
            Column(title="cost", cells=[Text(_spent(run)) for run in runs], right=True, rank=10),
            Column(title="id", cells=[Text(run.request.run_id, style="dim") for run in runs], rank=12),
        ],
        width,
    )


def run_item_table(items: Sequence[pb.ExperimentItem], *, width: int) -> list[Text]:
    """A line a repetition of an item."""
    names = list(dict.fromkeys(its.name for item in items for its in item.result.evaluations))[:_MOST_METRICS]
    several = any(item.result.repetition for item in items)
    return lay_out(
        [
            Column(title="item", cells=[Text(inert(its.result.item_id)) for its in items], least=12),
            Column(title="", cells=[Text(f"#{its.result.repetition + 1}" if several else "") for its in items], rank=3),
            Column(title="input", cells=[Text(_input(its)) for its in items], rank=6, least=16),
            Column(title="output", cells=[_output(its) for its in items], least=20),
            *(
                Column(title=inert(name), cells=[_said(its, name) for its in items], right=True, rank=5 + rank)
                for rank, name in enumerate(names)
            ),
            Column(title="time", cells=[Text(_took(its)) for its in items], right=True, rank=2),
            Column(title="cost", cells=[Text(_price(its)) for its in items], right=True, rank=4),
            Column(title="trace", cells=[Text(its.result.trace_id.hex(), style="dim") for its in items], rank=12),
        ],
        width,
    )


def state_word(run: pb.ExperimentRun) -> Text:
    """In its colour."""
    return Text(*_STATES.get(run.state, ("asked for", "dim")))


def progress_words(run: pb.ExperimentRun) -> str:
    """`37 of 100 · 2 failed · $0.012`."""
    failed = f" · {run.items_failed:,} failed" if run.items_failed else ""
    spent = f" · {_spent(run)}" if _spent(run) else ""
    paused = " · paused" if run.state == pb.EXPERIMENT_STATE_PAUSED else ""
    return f"{_progress(run, ' of ')}{failed}{spent}{paused}"


def _progress(run: pb.ExperimentRun, between: str = "/") -> str:
    return f"{run.items_finished:,}{between}{run.items_total:,}" if run.items_total else f"{run.items_finished:,}"


def _dataset(run: pb.ExperimentRun) -> str:
    version = f"@{run.request.dataset_version}" if run.request.dataset_version else ""
    return inert(f"{run.dataset_name}{version}") if run.dataset_name else ""


def _failed(number: int) -> Text:
    return Text(count(number), style="red") if number else Text("")


def _mean(run: pb.ExperimentRun, name: str) -> Text:
    its = next((its for its in run.evaluations if its.name == name), None)
    if its is None:
        return Text("")
    if its.HasField("mean"):
        return Text(f"{100 * its.mean:.1f} %" if its.counts else f"{its.mean:.3g}")
    most = max(its.counts.items(), key=lambda pair: pair[1], default=("", 0))
    return Text(inert(f"{most[0]} {most[1]:,}") if most[1] else "")


def _latency(run: pb.ExperimentRun) -> Text:
    return Text(duration(run.latency_p95_us) if run.latency_p95_us else "")


def _spent(run: pb.ExperimentRun) -> str:
    return cost(run.usage.cost_picodollars / 1e12)


def _input(item: pb.ExperimentItem) -> str:
    return preview(item.item.input_json or item.result.input_json)


def _output(item: pb.ExperimentItem) -> Text:
    if item.result.error:
        return Text(inert(" ".join(item.result.error[:400].split())), style="red")
    return Text(preview(item.result.output_json))


def _said(item: pb.ExperimentItem, name: str) -> Text:
    its = next((its for its in item.result.evaluations if its.name == name), None)
    return Text("") if its is None else _value(its)


def _value(its: ItemEvaluation) -> Text:
    match its.WhichOneof("value"):
        case "numeric":
            return Text(f"{its.numeric:.4g}")
        case "boolean":
            return Text("true", style="green") if its.boolean else Text("false", style="red")
        case "categorical":
            return Text(inert(its.categorical))
        case "error":
            return Text("failed", style="red")
    return Text(inert(" ".join(its.text[:60].split())))


def _took(item: pb.ExperimentItem) -> str:
    result = item.result
    if not (result.HasField("started_at") and result.HasField("ended_at")):
        return ""
    return duration(max(result.ended_at.ToMicroseconds() - result.started_at.ToMicroseconds(), 0))


def _price(item: pb.ExperimentItem) -> str:
    return cost(item.result.usage.cost_picodollars / 1e12)
